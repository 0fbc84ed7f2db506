"""Limits that the kernel sets to each process."""

from collections.abc import Iterator

from authly.monitoring.diagnosis import processes
from authly.monitoring.diagnosis.findings import Finding, warning
from authly.monitoring.diagnosis.subject import Subject

_NEARLY = 0.8


def open_files(subject: Subject) -> Iterator[Finding]:
    """Check that no process of the instance is near its limit of open files."""
    users = {file.pid for file in subject.instance.files if not file.deleted}
    for pid in sorted({*subject.instance.masters, *users}):
        limit, used = processes.limit_of_open_files(pid), processes.number_of_open_files(pid)
        if limit is not None and used is not None and used > _NEARLY * limit:
            yield warning(
                "open_files",
                f"Process {pid} has {used} of the {limit} files open that it may have.",
                "At the limit a worker can neither accept connections nor store new series.",
                "Raise the limit (LimitNOFILE= of a systemd unit, `--ulimit nofile=` of a container) and restart.",
            )
