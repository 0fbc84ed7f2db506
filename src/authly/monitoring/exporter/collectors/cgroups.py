"""What the container, or whatever else the kernel groups processes in, may use: cgroups of version 1 and 2.

Sources: cgroups(7), proc(5), and of the Linux kernel's administration guide "Control Group v2" and "Memory Resource
Controller" (version 1). A limit set anywhere above a group holds for it too, and so the lowest one counts.
"""

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from authly.monitoring.exporter import kernel_files

PROC = Path("/proc")

# A limit of version 1 that nobody set is the largest number of whole pages; a page has at most 64 KiB.
_UNLIMITED = (1 << 63) - (1 << 16)
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Limits(NamedTuple):
    """What a group may use, and uses; None where there is no limit, or nothing is known.

    Args:
        memory_limit: bytes.
        memory_usage: bytes, of the group that has the limit: page cache counts, as it does for the limit.
        cpu_limit: processors, as many as the quota is worth.
    """

    memory_limit: float | None = None
    memory_usage: float | None = None
    cpu_limit: float | None = None


class Hierarchy(NamedTuple):
    """Where the groups of a controller can be seen.

    Args:
        version: 1 or 2.
        folders: that of the process's group and all above it that can be seen, from the bottom to the top.
    """

    version: int
    folders: tuple[str, ...]

    @classmethod
    def of(cls, version: int, group: Path, mount: Path) -> "Hierarchy":
        """Return the hierarchy of a group.

        Args:
            version: 1 or 2.
            group: the folder of the process's group.
            mount: the folder at the top.
        """
        seen = (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))
        return cls(version, tuple(map(str, seen)))


class Container:
    """The groups of this process.

    Args:
        proc: where proc(5) is mounted.
    """

    def __init__(self, proc: Path = PROC) -> None:
        membership, mounts = _read(proc / "self/cgroup"), _read(proc / "self/mountinfo")
        self._memory = find("memory", membership, mounts)
        self._cpu = find("cpu", membership, mounts)

    def limits(self) -> Limits:
        """Return the limits as they are now: they can be changed while the process runs."""
        memory_limit, memory_usage = _memory(self._memory) if self._memory else (None, None)
        return Limits(memory_limit, memory_usage, _cpu(self._cpu) if self._cpu else None)


def find(controller: str, membership: str, mounts: str) -> Hierarchy | None:
    """Return where a controller's groups are.

    Args:
        controller: such as ``memory``.
        membership: ``/proc/self/cgroup``: lines of ``number:controllers:path``; of version 2 both are empty.
        mounts: ``/proc/self/mountinfo``.
    """
    paths: dict[str, str] = {}
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            paths[name] = path
    version = 1 if controller in paths else 2
    path = paths.get(controller if version == 1 else "", "")
    if not path.startswith("/"):
        return None
    for line in mounts.splitlines():
        found = _mount(line, controller, version, path)
        if found is not None:
            return found
    return None


def _mount(line: str, controller: str, version: int, path: str) -> Hierarchy | None:
    """Return the hierarchy, if this is its mount and the path lies below what is mounted."""
    left, separator, right = line.partition(" - ")
    fields, kind = left.split(" "), right.split(" ")
    if not separator or len(fields) < 5 or len(kind) < 3:
        return None
    if kind[0] != ("cgroup" if version == 1 else "cgroup2"):
        return None
    if version == 1 and controller not in kind[2].split(","):
        return None
    root, mount = _unescaped(fields[3]), Path(_unescaped(fields[4]))
    # In a container without a namespace for its groups, the path is the host's, and so is the root of the mount.
    if PurePosixPath(path).is_relative_to(root) and ".." not in path.split("/"):
        return Hierarchy.of(version, mount / PurePosixPath(path).relative_to(root), mount)
    # A process that was moved, or a mount from elsewhere: its top is what can be seen.
    return Hierarchy.of(version, mount, mount)


def _memory(hierarchy: Hierarchy) -> tuple[float | None, float | None]:
    limit_name, usage_name = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if hierarchy.version == 1
        else ("memory.max", "memory.current")
    )
    lowest, where = None, hierarchy.folders[0]
    for folder in hierarchy.folders:
        limit = _number(_read(f"{folder}/{limit_name}"))
        if limit is not None and limit < _UNLIMITED and (lowest is None or limit < lowest):
            lowest, where = limit, folder
    return lowest, _number(_read(f"{where}/{usage_name}"))


def _cpu(hierarchy: Hierarchy) -> float | None:
    found = []
    for folder in hierarchy.folders:
        if hierarchy.version == 1:
            quota, period = _read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")
        else:
            quota, _, period = _read(f"{folder}/cpu.max").strip().partition(" ")
        share, of = _number(quota), _number(period)
        # Without a limit the quota is -1 in version 1, and the word "max" in version 2.
        if share is not None and of is not None and share > 0 and of > 0:
            found.append(share / of)
    return min(found, default=None)


def _number(text: str) -> float | None:
    try:
        return float(int(text))
    except ValueError:
        return None


def _read(path: str | Path) -> str:
    """Return what a file holds; nothing if it is not there, or not to be read."""
    try:
        return kernel_files.read(str(path)).decode(errors="replace")
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    """Return a field of mountinfo as it is: spaces and the like are octal numbers there."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), field)
