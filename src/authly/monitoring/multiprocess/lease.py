"""A process leases a slot: the lowest number whose lock file it can lock.

The kernel ends the lease when the process dies, however it dies, and the next process counts on in the same files.
Lock files are never deleted while an instance lives: a lock on a deleted file would protect nothing.
"""

import contextlib
import itertools
import os
import re
from pathlib import Path

from authly.monitoring.multiprocess import ofd_lock

# The letters of lock files: slots of processes that write metrics, and of Gunicorn masters.
WRITER = "s"
MASTER = "m"
# More than a process id has digits.
_MAX_PID = 32
_LOCK_FILE = re.compile(r"([ms])(0|[1-9][0-9]*)\.lock")


def lock_path(directory: Path, slot: int, letter: str = WRITER) -> Path:
    """Return the path of a slot's lock file."""
    return Path(_lock_path(directory, slot, letter))


def _lock_path(directory: Path, slot: int, letter: str) -> str:
    # Many are opened at each scrape, where path objects would be most of the work.
    return f"{directory}/{letter}{slot}.lock"


class Lease:
    """A slot that this process holds until it releases it or dies.

    Args:
        slot: the number, from 0.
        fd: the descriptor whose open file description carries the lock.
    """

    __slots__ = ("fd", "slot")

    def __init__(self, slot: int, fd: int) -> None:
        self.slot = slot
        self.fd = fd

    @classmethod
    def acquire(cls, directory: Path, letter: str = WRITER) -> "Lease":
        """Lease the lowest free slot of a directory.

        Args:
            directory: where the lock files are.
            letter: :data:`WRITER` or :data:`MASTER`; either has slots of its own.

        Raises:
            OSError: a lock file can be neither opened nor created (full or read-only disk, no permission, no
                descriptors left).
        """
        for slot in itertools.count():
            fd = ofd_lock.open_lock_file(lock_path(directory, slot, letter))
            try:
                if ofd_lock.try_lock(fd):
                    # The pid is there for people and messages; no decision rests on it. A full disk may refuse it.
                    with contextlib.suppress(OSError):
                        os.ftruncate(fd, 0)
                        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
                    return cls(slot, fd)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise AssertionError("the count of slots has no end")

    def close(self) -> None:
        """Give up this process's part of the lease.

        In the process that acquired it this ends the lease. In a forked child it only closes the inherited
        descriptor: the parent's still refers to the same open file description, and the lock stays.
        """
        os.close(self.fd)


def is_held(directory: Path, slot: int, letter: str = WRITER) -> bool:
    """Tell whether a process holds a slot, without disturbing one that is about to lease it."""
    try:
        fd = os.open(_lock_path(directory, slot, letter), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return ofd_lock.is_locked(fd)
    finally:
        os.close(fd)


def parse_lock_name(name: str) -> int | None:
    """Return the slot that a file's name says, or None for a name that is not a lock file's."""
    return int(name[1:].removesuffix(".lock")) if _LOCK_FILE.fullmatch(name) else None


def holder_pid(directory: Path, slot: int) -> int | None:
    """Return the process id that the holder of a slot wrote down, if it is readable."""
    try:
        fd = os.open(_lock_path(directory, slot, WRITER), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return int(os.read(fd, _MAX_PID))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None


def held_slots(directory: Path, letter: str = WRITER) -> list[int]:
    """Return the slots that processes hold at this moment, in order."""
    names = [name for name in os.listdir(directory) if name.startswith(letter)]
    slots = sorted(int(match[2]) for name in names if (match := _LOCK_FILE.fullmatch(name)))
    return [slot for slot in slots if is_held(directory, slot, letter)]
