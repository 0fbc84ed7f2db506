"""Locks: who owns the directory, who holds slots, and whether the lock files can do their work."""

import re
import stat
from collections.abc import Iterator

from authly.monitoring.diagnosis import processes
from authly.monitoring.diagnosis.findings import Finding, error, warning
from authly.monitoring.diagnosis.subject import Subject
from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.directory import INSTANCE_LOCK


def lock_files(subject: Subject) -> Iterator[Finding]:
    """Check that the lock files are regular files of the directory's owner."""
    try:
        owner = subject.directory.stat().st_uid
    except OSError:
        return
    for name in subject.contents.names:
        if name != INSTANCE_LOCK and lease.parse_lock_name(name) is None:
            continue
        path = subject.directory / name
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        regular = stat.S_ISREG(status.st_mode)
        if regular and status.st_uid == owner:
            continue
        what = f"belongs to user id {status.st_uid}" if regular else "is not a regular file"
        yield error(
            "lock_file",
            f"The lock file {path} {what}.",
            "No process can lock it, so no worker gets beyond it to a slot: none of them can store what it counts.",
            f"Stop the instance, delete {path}, and start it again.",
        )


def orphans(subject: Subject) -> Iterator[Finding]:
    """Check that whoever holds a slot belongs to an instance."""
    instance = subject.instance
    if instance.runs or not instance.slots:
        return
    pids = sorted({pid for holders in instance.slots.values() for pid in holders})
    shown = f"process {', '.join(map(str, pids))}" if pids else "a process that cannot be seen from here"
    yield error(
        "orphaned_writers",
        f"Nobody owns {subject.directory}, but slot {', '.join(map(str, instance.slots))} is held by {shown}.",
        "A worker that outlived its master, or a program outside Gunicorn: an instance that is to start here is "
        "refused.",
        f"End it (`kill {' '.join(map(str, pids)) or 'PID'}`) if it is a left-over; else give the instance a directory "
        "of its own.",
    )


def dead_owner(subject: Subject) -> Iterator[Finding]:
    """Check that the process that owns the directory lives, and not only its workers."""
    instance = subject.instance
    named = re.search(r"process (\d+) ", instance.owner or "")
    if named is None or processes.exists(int(named[1])):
        return
    workers = {pid for holders in instance.slots.values() for pid in holders}
    # A master that replaced the named one (SIGUSR2) owns the directory as well, and holds no slot.
    if instance.masters and workers.issuperset(instance.masters):
        yield error(
            "owner_dead",
            f"{subject.directory} is owned by {instance.owner}, which is gone; process "
            f"{', '.join(map(str, instance.masters))} of that instance lives on.",
            "Nobody replaces a worker that ends and nobody starts the exporter, while a new instance is refused.",
            f"End what is left (`kill {' '.join(map(str, instance.masters))}`), and start Authly again.",
        )


def deleted_files(subject: Subject) -> Iterator[Finding]:
    """Check that what the running processes have open is still there."""
    writers = {pid for holders in subject.instance.slots.values() for pid in holders} | set(subject.instance.masters)
    # Who holds a deleted lock holds no slot that others could see.
    writers |= {file.pid for file in subject.instance.files if file.deleted and file.locked}
    lost = sorted(
        {
            (file.name, file.pid)
            for file in subject.instance.files
            if file.deleted and file.pid in writers and metrics_directory.is_known(file.name)
        }
    )
    if lost:
        names = ", ".join(f"{name} (process {pid})" for name, pid in lost[:5]) + (", ..." if len(lost) > 5 else "")
        yield error(
            "files_deleted",
            f"{len(lost)} files were deleted from {subject.directory} under the processes that use them: {names}.",
            "Those processes go on counting in files that no scrape can see, and a deleted lock protects nothing.",
            "Restart Authly. Take whatever cleans that directory (a deploy script, tmpfiles.d, a cron job) off it: "
            "Authly clears what needs clearing.",
        )


def other_holders(subject: Subject) -> Iterator[Finding]:
    """Check that each slot has one holder."""
    for slot, pids in subject.instance.slots.items():
        if len(pids) > 1:
            yield warning(
                "lock_shared",
                f"The lock of slot {slot} is carried by several processes: {', '.join(map(str, pids))}.",
                "A program that the worker started has inherited its lock: the slot stays taken, and the worker's live "
                "gauges stay in the exposition, until that program ends too.",
                "Start programs with close_fds=True (the default of subprocess), or after the fork with os.exec.",
            )
