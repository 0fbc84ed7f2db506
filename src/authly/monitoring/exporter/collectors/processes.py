"""Read what the processes of an instance use: master, workers, exporter.

One file of proc(5) has most of what changes from scrape to scrape, and is read here; for the rest there is psutil.
Imported in the exporter's process alone, for psutil costs memory.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil

from authly.monitoring.exporter import kernel_files

_SWITCHES = re.compile(rb"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)
# Set in the flags of a process that was forked and has not executed anything since (include/linux/sched.h).
_PF_FORKNOEXEC = 0x40
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GONE = (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError)


class Cpu(NamedTuple):
    """Processor time in seconds."""

    user: float = 0.0
    system: float = 0.0

    def plus(self, other: "Cpu") -> "Cpu":
        """Return the sum."""
        return Cpu(self.user + other.user, self.system + other.system)

    def minus(self, other: "Cpu") -> "Cpu":
        """Return the difference."""
        return Cpu(self.user - other.user, self.system - other.system)

    def at_least(self, other: "Cpu") -> "Cpu":
        """Return the greater of each."""
        return Cpu(max(self.user, other.user), max(self.system, other.system))

    def rounded(self) -> "Cpu":
        """Return it without what calculating has added."""
        return Cpu(round(self.user, 6), round(self.system, 6))


class Identity(NamedTuple):
    """A process, as no other ever was: numbers are used again, but not with the same moment of creation.

    Args:
        pid: its number.
        created: in ticks since the machine started.
    """

    pid: int
    created: int


class Stat(NamedTuple):
    """What ``/proc/PID/stat`` tells.

    Args:
        identity: of the process.
        is_zombie: whether it only waits to be reaped.
        parent: its number.
        is_copy: whether it was forked and has not executed anything since.
        threads: how many.
        cpu: its own processor time.
        ended_children: that of those children that it has waited for, and of theirs.
        vms: address space in bytes.
        rss: resident memory in bytes.
    """

    identity: Identity
    is_zombie: bool
    parent: int
    is_copy: bool
    threads: int
    cpu: Cpu
    ended_children: Cpu
    vms: int
    rss: int


class Detail(NamedTuple):
    """What takes a file for each process and thread to read.

    Args:
        descriptors: how many it has open; None where that is not permitted.
        descriptor_limit: how many it may have; None likewise.
        switches: voluntary and involuntary ones of each thread, by its number.
    """

    descriptors: int | None
    descriptor_limit: int | None
    switches: dict[int, tuple[int, int]]


class Memory(NamedTuple):
    """Memory page by page, in bytes; None where it is not permitted to look."""

    pss: int | None
    uss: int | None


class Tree(NamedTuple):
    """The processes of an instance at one moment.

    Args:
        master: None where there is none.
        exporter: this process.
        workers: forked by the master.
        others: children of the master that execute something else.
        is_consistent: whether the master has waited for none of them meanwhile.
    """

    master: Stat | None
    exporter: Stat
    workers: dict[Identity, Stat]
    others: dict[Identity, Cpu]
    is_consistent: bool


class Processes:
    """Looks at the processes of an instance.

    Args:
        master: the process id of the master; 0 where there is none.
    """

    def __init__(self, master: int) -> None:
        self._master = master
        # What psutil knows of each.
        self._known: dict[Identity, psutil.Process] = {}
        # The kernel's list of children can lack one while another ends; those that were there are looked for.
        self._children: set[int] = set()

    def look(self) -> Tree:
        """Look at all of them.

        Raises:
            ProcessLookupError: the master is gone.
        """
        exporter = stat(os.getpid())
        workers: dict[Identity, Stat] = {}
        others: dict[Identity, Cpu] = {}
        master: Stat | None = None
        is_consistent = True
        if self._master:
            before = stat(self._master)
            for pid in sorted(_children(self._master) | self._children):
                with contextlib.suppress(*_GONE):
                    child = stat(pid)
                    if child.parent != self._master or child.identity == exporter.identity:
                        continue
                    # Gunicorn's workers are copies of the master. The exporter and a master that takes over (SIGUSR2)
                    # are children too, but execute a program of their own.
                    if child.is_copy:
                        workers[child.identity] = child
                    else:
                        others[child.identity] = child.cpu.plus(child.ended_children)
            master = stat(self._master)
            is_consistent = before.ended_children == master.ended_children
        self._children = {identity.pid for identity in (*workers, *others)}
        alive = {exporter.identity, *workers, *([master.identity] if master else ())}
        self._known = {identity: process for identity, process in self._known.items() if identity in alive}
        return Tree(master, exporter, workers, others, is_consistent)

    def detail(self, identity: Identity) -> Detail | None:
        """Look at the descriptors and threads of a process; None if it is gone."""
        try:
            process = self._process(identity)
            return Detail(
                _permitted(process.num_fds),
                _permitted(lambda: process.rlimit(psutil.RLIMIT_NOFILE)[0]),
                dict(_switches(identity.pid)),
            )
        except _GONE:
            return None

    def memory(self, identity: Identity) -> Memory | None:
        """Look at the memory of a process page by page; None if it is gone."""
        try:
            memory = self._process(identity).memory_full_info()
        except (psutil.AccessDenied, PermissionError):
            return Memory(None, None)
        except _GONE:
            return None
        return Memory(memory.pss, memory.uss)

    def started(self, identity: Identity) -> float:
        """Return when a process was created, in seconds since the epoch."""
        return float(self._process(identity).create_time())

    def _process(self, identity: Identity) -> psutil.Process:
        """Return what psutil has of a process that was there a moment ago; it asks for nothing itself."""
        known = self._known.get(identity)
        if known is None:
            known = self._known[identity] = psutil.Process(identity.pid)
        return known


def stat(pid: int) -> Stat:
    """Read ``/proc/PID/stat``.

    Raises:
        ProcessLookupError: the process is gone.
        FileNotFoundError: likewise.
    """
    text = kernel_files.read(f"/proc/{pid}/stat")
    # The name is in parentheses and may hold anything, a closing one too. proc(5) counts it as the second field.
    fields = [b"", b"", b"", *text.rpartition(b")")[2].split()]
    return Stat(
        Identity(pid, int(fields[22])),
        fields[3] == b"Z",
        int(fields[4]),
        bool(int(fields[9]) & _PF_FORKNOEXEC),
        int(fields[20]),
        Cpu(int(fields[14]) / _TICKS, int(fields[15]) / _TICKS),
        Cpu(int(fields[16]) / _TICKS, int(fields[17]) / _TICKS),
        int(fields[23]),
        int(fields[24]) * _PAGE,
    )


def _children(pid: int) -> set[int]:
    try:
        # Gunicorn forks in its main thread.
        return {int(child) for child in kernel_files.read(f"/proc/{pid}/task/{pid}/children").split()}
    except FileNotFoundError:
        # A kernel without that list: psutil asks every process of the machine for its parent.
        return {child.pid for child in psutil.Process(pid).children()}


def _switches(pid: int) -> Iterator[tuple[int, tuple[int, int]]]:
    # The kernel counts them for each thread; those of the process would be those of its first one.
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(*_GONE):
            found = _SWITCHES.findall(kernel_files.read(f"/proc/{pid}/task/{thread}/status"))
            if len(found) == 2:
                yield int(thread), (int(found[0]), int(found[1]))


def _permitted(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except (psutil.AccessDenied, PermissionError):
        return None
