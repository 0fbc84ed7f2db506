"""Users: those who write are those whose directory it is."""

from collections.abc import Iterator

from authly.monitoring.diagnosis import processes
from authly.monitoring.diagnosis.findings import Finding, error
from authly.monitoring.diagnosis.subject import Subject


def writers(subject: Subject) -> Iterator[Finding]:
    """Check that the master and the workers run as the owner of the directory."""
    try:
        owner = subject.directory.stat().st_uid
    except OSError:
        return
    pids = [*subject.instance.masters, *(pid for holders in subject.instance.slots.values() for pid in holders)]
    strangers = {pid: user for pid in pids if (user := processes.user(pid)) is not None and user != owner}
    if strangers:
        shown = ", ".join(f"process {pid} as {user}" for pid, user in strangers.items())
        yield error(
            "process_user",
            f"The metrics directory {subject.directory} belongs to user id {owner}, but it is used by {shown}.",
            "What one user's processes create, another's cannot write: metrics are lost when a slot changes hands.",
            f"Run Authly as user id {owner}, or give the directory to its user (chown -R) and restart it.",
        )


def workers(subject: Subject) -> Iterator[Finding]:
    """Check that the user that Gunicorn's workers change to owns the directory."""
    user = subject.gunicorn.user if subject.gunicorn else None
    try:
        owner = subject.directory.stat().st_uid
    except OSError:
        return
    if user is not None and user != owner:
        yield error(
            "worker_user",
            f"Gunicorn's workers change to user id {user}, but the metrics directory {subject.directory} belongs to "
            f"{owner}.",
            "The master can use it and the workers cannot: every worker keeps its metrics to itself.",
            f"Start Gunicorn as user id {user} in the first place (User= of a systemd unit) and leave its setting "
            "`user` alone.",
        )
