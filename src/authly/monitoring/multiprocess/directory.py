"""The directory of the metric files: whether it can be used, whose it is, and what is cleared from it.

Owns the instance lock. It is held by a Gunicorn master and, because forked children share the open file description,
by each of its workers until they close it; a master that re-executes itself hands it on.
"""

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

from authly.monitoring.multiprocess import dense_file, exemplars, file_format, lease, ofd_lock, retention, shared_set

INSTANCE_LOCK = "instance.lock"
# Held by the process that counts what there is once for the instance.
LEVELS_LOCK = "levels.lock"
SPACE_WANTED = 1 << 20  # bytes: a few hundred series in each of a few workers
# What every file is called that belongs to a slot, of a process that writes metrics (s) or of a master (m).
_OF_A_SLOT = re.compile(r"(?:[a-z_]+_)?[ms](?:0|[1-9][0-9]*)\.[a-z]+(?:\.new)?")
# File systems on which a mapped file is not one memory for all that map it, or a lock not seen by all.
UNSUITABLE_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"}
)


class DirectoryUnusableError(Exception):
    """The directory cannot hold metrics; the message says why and what to do."""


class DirectoryInUseError(Exception):
    """Another instance owns the directory; the message names it."""


class InstanceLock:
    """The ownership of a directory by one instance.

    Args:
        fd: the descriptor that carries the lock.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close this process's descriptor; the ownership ends with the last one."""
        os.close(self.fd)


def check(directory: Path) -> list[str]:
    """Create the directory where it is missing, and check that metrics can be kept in it.

    Returns:
        Warnings: what will do less than it should there, and what to do about it.

    Raises:
        DirectoryUnusableError: no metrics can, or should, be kept there.
    """
    try:
        _create(directory)
        status = directory.stat()
    except OSError as error:
        raise DirectoryUnusableError(
            f"the metrics directory {directory} is missing and cannot be created ({error.strerror}): "
            "create it, owned by the user that runs Authly, or set PROMETHEUS_MULTIPROC_DIR to another"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise DirectoryUnusableError(
            f"the metrics directory {directory} is not a directory: move that file away, "
            "or set PROMETHEUS_MULTIPROC_DIR to another path"
        )
    if status.st_uid != os.geteuid():
        raise DirectoryUnusableError(
            f"the metrics directory {directory} belongs to user id {status.st_uid}, and Authly runs as "
            f"{os.geteuid()}: give it to that user (chown), or set PROMETHEUS_MULTIPROC_DIR to a directory of its own"
        )
    if status.st_mode & stat.S_IWOTH:
        raise DirectoryUnusableError(
            f"everybody may write to the metrics directory {directory} (mode {stat.S_IMODE(status.st_mode):04o}), so "
            f"anybody could plant metrics: run `chmod o-w {directory}`, or choose a directory below it"
        )
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise DirectoryUnusableError(
            f"Authly may not read and write the metrics directory {directory} (mode "
            f"{stat.S_IMODE(status.st_mode):04o}): run `chmod u+rwx {directory}`, or make its file system writable"
        )
    return _warnings(directory)


def _create(directory: Path) -> None:
    # Not mkdir(parents=True): it would give the parents the umask's mode, and they may hold the state.
    missing = []
    parent = directory
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def _warnings(directory: Path) -> list[str]:
    warnings = []
    space = os.statvfs(directory)
    free = space.f_bavail * space.f_frsize
    if free < SPACE_WANTED or (space.f_files and not space.f_favail):
        warnings.append(
            f"the metrics directory {directory} is nearly full ({free // 1024} KiB and {space.f_favail} files free): "
            "series for which there is no room are not exported; make room, or enlarge its file system"
        )
    kind = file_system(directory)
    if kind in UNSUITABLE_FILE_SYSTEMS:
        warnings.append(
            f"the metrics directory {directory} is on a {kind} file system, where processes may not see each other's "
            "writes and locks: use a local one, best a tmpfs such as /run or /dev/shm"
        )
    return warnings


def file_system(directory: Path) -> str:
    """Return the type of the file system that a directory is on, as the kernel names it; empty if it is not known."""
    best, kind = "", ""
    target = os.path.realpath(directory)
    try:
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                before, _, after = line.partition(" - ")
                point = before.split(" ")[4].encode().decode("unicode_escape", "surrogateescape")
                inside = target == point or target.startswith(point.rstrip("/") + "/")
                # Of two mounts on one point the later covers the earlier.
                if inside and len(point) >= len(best):
                    best, kind = point, after.split(" ")[0]
    except (OSError, IndexError, ValueError):
        return ""
    return kind


def own(directory: Path, holder: str) -> InstanceLock:
    """Take the instance lock and clear what a dead instance left behind.

    Args:
        directory: a directory that passed :func:`check`.
        holder: how to name this instance to another that comes for the same directory.

    Raises:
        DirectoryInUseError: another instance, or a process that writes metrics there, is alive.
        DirectoryUnusableError: no lock can be taken there.
    """
    path = directory / INSTANCE_LOCK
    try:
        fd = ofd_lock.open_lock_file(path)
    except OSError as error:
        raise DirectoryUnusableError(
            f"no lock file can be made in the metrics directory {directory} ({error.strerror}): make room or give "
            "permission there, or set PROMETHEUS_MULTIPROC_DIR to another"
        ) from error
    try:
        if not ofd_lock.try_lock(fd):
            raise DirectoryInUseError(_in_use(directory, _read_holder(fd)))
        # Where the application is loaded before the workers are forked, this very process may hold a slot by now.
        pids = {lease.holder_pid(directory, slot) for slot in lease.held_slots(directory)} - {os.getpid()}
        if pids:
            shown = ", ".join(str(pid or "unknown") for pid in pids)
            raise DirectoryInUseError(_in_use(directory, f"running processes that write metrics there (pid {shown})"))
        _write_holder(fd, holder)
        clear(directory)
    except OSError as error:
        os.close(fd)
        raise DirectoryUnusableError(
            f"the metrics directory {directory} cannot be locked ({error.strerror}): use a local file system, "
            "best a tmpfs, or set PROMETHEUS_MULTIPROC_DIR to another"
        ) from error
    except BaseException:
        os.close(fd)
        raise
    return InstanceLock(fd)


def owner(directory: Path) -> str | None:
    """Return how the instance that owns the directory names itself; None where nobody does.

    Asks without taking the lock even for a moment, so that an instance that is about to start is not refused.

    Raises:
        OSError: the lock file cannot be opened.
    """
    try:
        fd = os.open(directory / INSTANCE_LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return _read_holder(fd) if ofd_lock.is_locked(fd) else None
    finally:
        os.close(fd)


def is_known(name: str) -> bool:
    """Tell whether a file of this name is one that Authly, or prometheus-client, keeps in the directory."""
    return (
        _OF_A_SLOT.fullmatch(name) is not None
        or file_format.parse_name(name) is not None
        or shared_set.is_file_name(name)
        or name in {INSTANCE_LOCK, LEVELS_LOCK, retention.FILE_NAME}
    )


def _in_use(directory: Path, holder: str) -> str:
    return (
        f"the metrics directory {directory} is in use by {holder}: stop that one first, or give this instance a "
        "directory of its own with PROMETHEUS_MULTIPROC_DIR (or AUTHLY_STATE_DIR)"
    )


def _read_holder(fd: int) -> str:
    return os.pread(fd, 512, 0).decode(errors="replace").strip() or "another instance"


def _write_holder(fd: int, holder: str) -> None:
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{holder}, since {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n".encode(), 0)
    except OSError:
        # A full disk: the lock protects all the same, only the message about it will be poorer.
        return


def clear(directory: Path) -> list[str]:
    """Delete the metric, dense and exemplar files and the shared sets of a dead instance, and nothing else.

    A file is one of them if it is a regular file, bears the name of a metric file of a slot or a process id, of a dense
    file, of an exemplar file or of a shared set, begins with such a file's header, and nobody holds its slot. The
    caller holds the instance lock.

    Returns:
        The names of the deleted files.
    """
    deleted = []
    held = lease.held_slots(directory)
    for name in sorted(os.listdir(directory)):
        looks_right: Callable[[bytes, int], bool] = file_format.looks_like_metric_file
        parsed = file_format.parse_name(name)
        if parsed is not None:
            slot = parsed.slot
            # A process id, or the slot of a Gunicorn master.
            is_ours = slot is not None or parsed.writer.removeprefix(lease.MASTER).isdecimal()
        elif (slot := dense_file.parse_name(name)) is not None:
            is_ours = True
            looks_right = dense_file.looks_like_dense_file
        elif shared_set.is_file_name(name):
            is_ours = True
            looks_right = shared_set.looks_like_shared_set
        else:
            slot = exemplars.parse_name(name)
            is_ours = slot is not None
            looks_right = exemplars.looks_like_exemplar_file
        if not is_ours or slot in held:
            continue
        path = directory / name
        try:
            if _is_regular(path, looks_right):
                path.unlink()
                deleted.append(name)
        except FileNotFoundError:
            continue
    return deleted


def _is_regular(path: Path, looks_right: Callable[[bytes, int], bool]) -> bool:
    try:
        # O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError:
        return False  # a symbolic link, or something that may not be read: not ours
    try:
        status = os.fstat(fd)
        return stat.S_ISREG(status.st_mode) and looks_right(os.pread(fd, file_format.HEAD_SIZE, 0), status.st_size)
    finally:
        os.close(fd)
