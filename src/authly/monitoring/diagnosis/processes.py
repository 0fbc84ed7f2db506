"""Processes, seen through ``/proc``: who holds which lock, who runs with which settings.

What belongs to other users is not visible to everybody; it is then missing, and no error.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.directory import INSTANCE_LOCK

_DELETED = " (deleted)"


class OpenFile(NamedTuple):
    """A file of the directory that a process has open.

    Args:
        pid: the process.
        name: the file's name in the directory.
        deleted: whether the file is no longer there under that name.
        locked: whether the descriptor carries a lock.
    """

    pid: int
    name: str
    deleted: bool
    locked: bool


class Instance(NamedTuple):
    """What runs on a directory.

    Args:
        owner: how the owner of the instance lock names itself; None where nobody owns it.
        masters: the processes at the root of those that hold the instance lock.
        slots: by slot that is held, the process ids of its holders as far as they can be seen.
        files: what processes have open in the directory, as far as it can be seen.
    """

    owner: str | None = None
    masters: tuple[int, ...] = ()
    slots: Mapping[int, tuple[int, ...]] = {}
    files: tuple[OpenFile, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether an instance owns the directory."""
        return self.owner is not None


def find_instance(directory: Path) -> Instance:
    """Return what runs on a directory; nothing where it cannot be read."""
    files = tuple(_open_files(directory))
    try:
        owner = metrics_directory.owner(directory)
    except OSError:
        owner = None
    holders = {file.pid for file in files if file.name == INSTANCE_LOCK and file.locked and not file.deleted}
    masters = tuple(sorted(pid for pid in holders if parent(pid) not in holders))
    slots: dict[int, tuple[int, ...]] = {}
    for slot in _held_slots(directory):
        name = lease.lock_path(directory, slot).name
        slots[slot] = tuple(
            sorted({file.pid for file in files if file.name == name and file.locked and not file.deleted})
        )
    return Instance(owner, masters, slots, files)


def _held_slots(directory: Path) -> list[int]:
    held = []
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    for name in names:
        slot = lease.parse_lock_name(name)
        try:
            if slot is not None and name == lease.lock_path(directory, slot).name and lease.is_held(directory, slot):
                held.append(slot)
        except OSError:
            continue  # a check of its own looks at lock files that cannot be asked
    return sorted(held)


def _open_files(directory: Path) -> Iterable[OpenFile]:
    start = os.path.realpath(directory) + "/"
    own = os.getpid()
    for pid in _pids():
        if pid == own:
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                target = str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
                if not target.startswith(start):
                    continue
                deleted = target.endswith(_DELETED)
                name = target[len(start) :].removesuffix(_DELETED) if deleted else target[len(start) :]
                # The kernel lists the locks of a description there; see proc_pid_fdinfo(5).
                locked = "\nlock:" in Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
            except OSError:
                continue
            yield OpenFile(pid, name, deleted, locked)


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def exists(pid: int) -> bool:
    """Tell whether a process is there and has not ended; one that only waits to be reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"X", "Z"}
    except OSError:
        return False


def parent(pid: int) -> int:
    """Return the process id of a process's parent; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command(pid: int) -> list[str]:
    """Return the command line of a process; empty for one that is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return []
    return words[:-1]


def environment(pid: int) -> dict[str, str] | None:
    """Return the environment that a process was started with; None where it may not be read."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return None
    return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)


def folder(pid: int) -> Path | None:
    """Return the working directory of a process; None where it may not be read."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


def user(pid: int) -> int | None:
    """Return the effective user id of a process; None for one that is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[2])
    except OSError:
        return None
    return None


def limit_of_open_files(pid: int) -> int | None:
    """Return how many files a process may have open; None where that is not known or has no limit."""
    try:
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
            if line.startswith("Max open files"):
                soft = line.split()[3]
                return int(soft) if soft.isdigit() else None
    except OSError:
        return None
    return None


def number_of_open_files(pid: int) -> int | None:
    """Return how many files a process has open; None where that may not be known."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def listeners(port: int) -> list[int]:
    """Return the processes that listen on a TCP port, as far as they can be seen."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            # 0A is TCP_LISTEN.
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    found = []
    for pid in _pids() if inodes else ():
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if str(Path(f"/proc/{pid}/fd/{descriptor}").readlink()) in inodes:
                    found.append(pid)
                    break
        except OSError:
            continue
    return found
