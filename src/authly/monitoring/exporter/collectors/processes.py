"""Read what the processes of an instance use: master, workers, exporter, by proc(5) through psutil.

Imported in the exporter's process alone, for psutil costs memory.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil

_SWITCHES = re.compile(rb"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)
# Set in the flags of a process that was forked and has not executed anything since (include/linux/sched.h).
_PF_FORKNOEXEC = 0x40
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
    """A process, as no other ever was: numbers are used again, but not with the same moment of creation."""

    pid: int
    created: float


class Usage(NamedTuple):
    """What one process uses at this moment; a sum where several threads do.

    Args:
        cpu: its own.
        ended_children: processor time of those children that it has waited for.
        rss: resident memory in bytes.
        vms: address space in bytes.
        threads: how many.
        descriptors: how many it has open; None where that is not permitted.
        descriptor_limit: how many it may have; None likewise.
        switches: voluntary and involuntary ones of each thread, by its number.
    """

    cpu: Cpu
    ended_children: Cpu
    rss: int
    vms: int
    threads: int
    descriptors: int | None
    descriptor_limit: int | None
    switches: dict[int, tuple[int, int]]

    @property
    def is_living(self) -> bool:
        """Whether it does more than wait to be reaped."""
        return self.threads > 0


class Detail(NamedTuple):
    """Memory that is costly to ask for, in bytes."""

    pss: int
    uss: int


class Tree(NamedTuple):
    """The processes of an instance at one moment.

    Args:
        master: None where there is none.
        exporter: this process.
        workers: forked by the master.
        others: children of the master that execute something else.
        is_consistent: whether the master has waited for none of them meanwhile.
    """

    master: tuple[Identity, Usage] | None
    exporter: tuple[Identity, Usage]
    workers: dict[Identity, Usage]
    others: dict[Identity, Cpu]
    is_consistent: bool


def tree(master: int, known: set[int]) -> Tree:
    """Look at all processes of an instance.

    Args:
        master: its process id; 0 where there is none.
        known: process ids of children seen before. The kernel's list of children can lack one while another ends.
    """
    own = psutil.Process()
    exporter = _identity(own), usage(own)
    workers: dict[Identity, Usage] = {}
    others: dict[Identity, Cpu] = {}
    if not master:
        return Tree(None, exporter, workers, others, True)
    parent = psutil.Process(master)
    before = _ended_children(parent)
    for pid in sorted(_children(parent) | known):
        if pid == own.pid:
            continue
        with contextlib.suppress(*_GONE), (child := psutil.Process(pid)).oneshot():
            if child.ppid() != master:
                continue
            # Gunicorn's workers are copies of the master. The exporter and a master that takes over (SIGUSR2) are
            # children too, but execute a program of their own.
            if _is_copy(pid):
                workers[_identity(child)] = usage(child)
            else:
                times = child.cpu_times()
                others[_identity(child)] = Cpu(times.user + times.children_user, times.system + times.children_system)
    of_master = usage(psutil.Process(master))
    return Tree((_identity(parent), of_master), exporter, workers, others, before == of_master.ended_children)


def usage(process: psutil.Process) -> Usage:
    """Look at one process; one that only waits to be reaped has its times, and nothing else.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    with process.oneshot():
        times = process.cpu_times()
        cpu, ended = Cpu(times.user, times.system), Cpu(times.children_user, times.children_system)
        if process.status() == psutil.STATUS_ZOMBIE:
            return Usage(cpu, ended, 0, 0, 0, None, None, {})
        memory = process.memory_info()
        switches = dict(_switches(process.pid))
        return Usage(
            cpu,
            ended,
            memory.rss,
            memory.vms,
            len(switches),
            _permitted(process.num_fds),
            _permitted(lambda: process.rlimit(psutil.RLIMIT_NOFILE)[0]),
            switches,
        )


def detail(identity: Identity) -> Detail | None:
    """Look at the memory of a process page by page; None if that is not permitted."""
    try:
        memory = psutil.Process(identity.pid).memory_full_info()
    except (psutil.AccessDenied, PermissionError):
        return None
    except _GONE:
        return Detail(0, 0)
    return Detail(memory.pss, memory.uss)


def _identity(process: psutil.Process) -> Identity:
    return Identity(process.pid, process.create_time())


def _ended_children(process: psutil.Process) -> Cpu:
    times = process.cpu_times()
    return Cpu(times.children_user, times.children_system)


def _children(process: psutil.Process) -> set[int]:
    try:
        # Gunicorn forks in its main thread.
        with open(f"/proc/{process.pid}/task/{process.pid}/children", "rb") as file:  # noqa: PTH123 - lighter
            return {int(pid) for pid in file.read().split()}
    except FileNotFoundError:
        # A kernel without that list: psutil asks every process of the machine for its parent.
        return {child.pid for child in process.children()}


def _is_copy(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        # The name may hold anything, a closing parenthesis too; the flags are the seventh field after it.
        return bool(int(file.read().rpartition(b")")[2].split()[6]) & _PF_FORKNOEXEC)


def _switches(pid: int) -> Iterator[tuple[int, tuple[int, int]]]:
    # The kernel counts them for each thread; those of the process would be those of its first one.
    with contextlib.suppress(*_GONE):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(*_GONE), open(f"/proc/{pid}/task/{thread}/status", "rb") as file:  # noqa: PTH123
                found = _SWITCHES.findall(file.read())
                if len(found) == 2:
                    yield int(thread), (int(found[0]), int(found[1]))


def _permitted(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except (psutil.AccessDenied, PermissionError):
        return None
