"""What the processes of an instance use, by their role, and what their container allows."""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.exporter.collectors import cgroups
from authly.monitoring.exporter.collectors.processes import Cpu, Detail, Identity, Processes, Stat, Tree
from authly.monitoring.multiprocess.families import Family

ROLES = ("exporter", "master", "worker")
MEMORY_TYPES = ("rss", "pss", "uss", "vms")
CPU_MODES = ("user", "system")
SWITCH_KINDS = ("voluntary", "involuntary")

DETAIL_SECONDS = 5.0
"""How old may be what takes a file for each process and thread: a scrape every second need not read all of them."""

MEMORY_SECONDS = 30.0
"""How old PSS and USS may be: the kernel walks through all pages of a process for them."""

_ROLE = {"role": closed(ROLES)}

MEMORY_USAGE = Definition(
    "authly_memory_usage_bytes",
    "gauge",
    "Memory of all processes of a role.",
    {**_ROLE, "type": closed(MEMORY_TYPES)},
    detail="`rss`: resident; what processes share counts in each. `pss`: what they share is divided among them: the "
    "one to add up. `uss`: what would be free without them. `vms`: address space. `pss` and `uss` are up to 30 s "
    "old, and absent where the exporter may not ask for them.",
    example='sum(authly_memory_usage_bytes{type="pss"})',
)
CPU = Definition(
    "authly_cpu_seconds_total",
    "counter",
    "Processor time of all processes of a role, those that have ended included.",
    {**_ROLE, "mode": closed(CPU_MODES)},
    detail="Of workers: of all that this master ever had, and of the children they waited for. It never falls, whether "
    "a worker ends or the exporter does.",
    example="sum by (role) (rate(authly_cpu_seconds_total[5m]))",
)
OPEN_FILE_DESCRIPTORS = Definition(
    "authly_open_file_descriptors",
    "gauge",
    "Open file descriptors of all processes of a role.",
    _ROLE,
    detail="Up to 5 s old.",
    example="sum(authly_open_file_descriptors)",
)
OPEN_FILE_DESCRIPTORS_MAX = Definition(
    "authly_open_file_descriptors_max",
    "gauge",
    "Open file descriptors of the process that has most.",
    _ROLE,
    example="authly_open_file_descriptors_max / authly_file_descriptors_limit > 0.8",
)
FILE_DESCRIPTORS_LIMIT = Definition(
    "authly_file_descriptors_limit",
    "gauge",
    "How many one process of a role may have open.",
    _ROLE,
    detail="The lowest such limit of the role.",
    example="min(authly_file_descriptors_limit)",
)
THREADS = Definition(
    "authly_threads", "gauge", "Threads of all processes of a role.", _ROLE, example="sum by (role) (authly_threads)"
)
CONTEXT_SWITCHES = Definition(
    "authly_context_switches_total",
    "counter",
    "Context switches of all threads of a role.",
    {**_ROLE, "kind": closed(SWITCH_KINDS)},
    detail="`voluntary`: they waited. `involuntary`: others were due. Since the exporter started; what a process did "
    "between the last look and its end is missing; there is one at a scrape every 5 s.",
    example='sum by (role) (rate(authly_context_switches_total{kind="involuntary"}[5m]))',
)
START_TIME = Definition(
    "authly_start_time_seconds",
    "gauge",
    "When the master started, since the epoch.",
    example="time() - authly_start_time_seconds",
)
UPTIME = Definition(
    "authly_uptime_seconds", "gauge", "How long the master has been running.", example="authly_uptime_seconds < 300"
)
CONTAINER_MEMORY_LIMIT = Definition(
    "authly_container_memory_limit_bytes",
    "gauge",
    "Memory that the container may use.",
    detail="Of its cgroup, version 1 or 2; the lowest limit on the way up counts. Absent without a limit.",
    example="authly_container_memory_usage_bytes / authly_container_memory_limit_bytes > 0.9",
)
CONTAINER_MEMORY_USAGE = Definition(
    "authly_container_memory_usage_bytes",
    "gauge",
    "Memory of the container, page cache included.",
    detail="As it counts against the limit.",
    example="max_over_time(authly_container_memory_usage_bytes[1d])",
)
CONTAINER_CPU_LIMIT = Definition(
    "authly_container_cpu_limit_cores",
    "gauge",
    "Processors that the container may use.",
    detail="What its quota is worth. Absent without a limit.",
    example="sum(rate(authly_cpu_seconds_total[5m])) / authly_container_cpu_limit_cores",
)

_ATTEMPTS = 3
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Instance(NamedTuple):
    """The instance that is looked at, and what of it is over.

    Args:
        master: the process id of the Gunicorn master; 0 where there is none.
        ended_exporters: processor time of the exporters before this one.
        ended_others: processor time of children of the master that ended before there were workers.
    """

    master: int = 0
    ended_exporters: Cpu = Cpu()
    ended_others: Cpu = Cpu()


class Ledger:
    """Adds up counters of things that come and go, so that the sum never falls.

    It begins at 0: what was counted before is not known in full, and must not look like an increase.
    """

    def __init__(self) -> None:
        self._ended: float | None = None
        self._last: dict[Hashable, float] = {}

    def total(self, counters: dict[Hashable, float]) -> float:
        """Return the sum of these and of those that are no more, as they were seen last."""
        if self._ended is None:
            self._ended = -sum(counters.values())
        for key, last in self._last.items():
            # One that is less than it was is another one with the same key.
            if counters.get(key, 0.0) < last:
                self._ended += last
        self._last = counters
        return self._ended + sum(counters.values())


class WorkerCpu:
    """Adds up the processor time of all workers there ever were, those included that nobody saw.

    What the living ones have used they tell, and what the dead ones have used is what the master has waited for
    (``cutime`` and ``cstime`` of proc(5)), less what was used by others that the master waited for.

    Args:
        ended: what of it was no workers' before this object was made.
    """

    def __init__(self, ended: Cpu) -> None:
        self._not_workers = ended
        self._others: dict[Identity, Cpu] = {}
        self._total = Cpu()

    def total(self, found: Tree) -> Cpu:
        """Return the sum; it never falls."""
        assert found.master is not None
        for identity, last in self._others.items():
            if identity not in found.others:
                self._not_workers = self._not_workers.plus(last)
        self._others = found.others
        total = found.master.ended_children.minus(self._not_workers)
        for worker in found.workers.values():
            total = total.plus(worker.cpu).plus(worker.ended_children)
        # A tree that was not consistent may have counted a process twice. Rounded, because the kernel counts hundredths
        # of a second, and the next exporter must not come to less by the last bit.
        self._total = self._total.at_least(total.rounded())
        return self._total


class Remembered(Generic[K, V]):
    """What was found out a moment ago, and is not asked for again yet.

    Args:
        seconds: how old it may be.
        look: finds it out.
        clock: monotonic, in seconds.
    """

    def __init__(self, seconds: float, look: Callable[[K], V], clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._look = look
        self._clock = clock
        self._found: dict[K, tuple[float, V]] = {}

    def of(self, keys: Iterable[K]) -> dict[K, V]:
        """Return what is known of each of these, and forget the others; a new one is looked at at once."""
        now = self._clock()
        found = {}
        for key in keys:
            last = self._found.get(key)
            found[key] = last if last is not None and now - last[0] < self._seconds else (now, self._look(key))
        self._found = found
        return {key: value for key, (_, value) in found.items()}


class SystemCollector:
    """Collects what the processes of an instance use.

    Args:
        instance: which one.
        clock: monotonic, in seconds.
    """

    name = "system"

    def __init__(self, instance: Instance, clock: Callable[[], float] = time.monotonic) -> None:
        self._instance = instance
        self._clock = clock
        self._worker_cpu = WorkerCpu(instance.ended_exporters.plus(instance.ended_others))
        self._switches = {(role, kind): Ledger() for role in ROLES for kind in SWITCH_KINDS}
        self._processes = Processes(instance.master)
        self._details = Remembered(DETAIL_SECONDS, self._processes.detail, clock)
        self._memory = Remembered(MEMORY_SECONDS, self._processes.memory, clock)
        self._container = cgroups.Container()
        # When the master started, and how long it had been running at a moment of the clock, which never jumps.
        self._started: float | None = None
        self._age = (0.0, 0.0)

    def collect(self) -> list[Family]:
        """Return the families as they are now, with what is costly up to some seconds old."""
        found = self._look()
        roles = {"exporter": [found.exporter]}
        if found.master is not None:
            roles |= {"master": [found.master], "worker": [*found.workers.values()]}
        # One that has ended and waits to be reaped has its times, and nothing else.
        roles = {role: [process for process in members if not process.is_zombie] for role, members in roles.items()}
        looked = self._details.of(process.identity for living in roles.values() for process in living)
        details = {
            role: {each.identity: detail for each in living if (detail := looked[each.identity]) is not None}
            for role, living in roles.items()
        }
        families = [
            *self._used(roles),
            *self._opened(details),
            self._worked(found),
            self._switched(details),
            *self._times(found),
            *container_families(self._container.limits()),
        ]
        return [family for family in families if family.size]

    def _look(self) -> Tree:
        for _ in range(_ATTEMPTS):
            found = self._processes.look()
            if found.is_consistent:
                break
        return found

    def _used(self, roles: dict[str, list[Stat]]) -> list[Family]:
        """Return what is so at this moment, as the kernel tells it of each process at once."""
        memory, threads = [], []
        pages = self._memory.of(process.identity for living in roles.values() for process in living)
        for role, living in roles.items():
            label = ("role", role)
            # One that has ended meanwhile has no pages any more.
            seen = [found for process in living if (found := pages[process.identity]) is not None]
            sums = {
                "rss": sum(process.rss for process in living),
                "vms": sum(process.vms for process in living),
                "pss": _sum(found.pss for found in seen),
                "uss": _sum(found.uss for found in seen),
            }
            memory += [((label, ("type", type_)), amount) for type_, amount in sums.items() if amount is not None]
            threads.append(((label,), sum(process.threads for process in living)))
        return [Family.defined(MEMORY_USAGE, memory), Family.defined(THREADS, threads)]

    def _opened(self, roles: dict[str, dict[Identity, Detail]]) -> list[Family]:
        """Return the file descriptors."""
        descriptors, most, limits = [], [], []
        for role, details in roles.items():
            label = (("role", role),)
            opened = _all_known(detail.descriptors for detail in details.values())
            if opened is not None:
                descriptors.append((label, sum(opened)))
                most.append((label, max(opened, default=0)))
            allowed = _all_known(detail.descriptor_limit for detail in details.values())
            if allowed:
                # -1 stands for no limit.
                limits.append((label, min(limit if limit >= 0 else float("inf") for limit in allowed)))
        return [
            Family.defined(OPEN_FILE_DESCRIPTORS, descriptors),
            Family.defined(OPEN_FILE_DESCRIPTORS_MAX, most),
            Family.defined(FILE_DESCRIPTORS_LIMIT, limits),
        ]

    def _switched(self, roles: dict[str, dict[Identity, Detail]]) -> Family:
        """Return the context switches."""
        switches = []
        for role, details in roles.items():
            for index, kind in enumerate(SWITCH_KINDS):
                counters: dict[Hashable, float] = {
                    (identity, thread): both[index]
                    for identity, detail in details.items()
                    for thread, both in detail.switches.items()
                }
                switches.append(((("kind", kind), ("role", role)), self._switches[role, kind].total(counters)))
        return Family.defined(CONTEXT_SWITCHES, switches)

    def _worked(self, found: Tree) -> Family:
        """Return the processor time."""
        cpu = {"exporter": found.exporter.cpu.plus(self._instance.ended_exporters).rounded()}
        if found.master is not None:
            cpu |= {"master": found.master.cpu, "worker": self._worker_cpu.total(found)}
        amounts = [
            ((("mode", mode), ("role", role)), amount)
            for role, times in cpu.items()
            for mode, amount in zip(CPU_MODES, times, strict=True)
        ]
        return Family.defined(CPU, amounts)

    def _times(self, found: Tree) -> list[Family]:
        if found.master is None:
            return []
        if self._started is None:
            self._started = self._processes.started(found.master.identity)
            self._age = time.time() - self._started, self._clock()
        age, at = self._age
        return [
            Family.defined(START_TIME, [((), self._started)]),
            Family.defined(UPTIME, [((), age + self._clock() - at)]),
        ]


def _all_known(values: Iterable[T | None]) -> list[T] | None:
    """Return the values, unless one is missing: a sum that lacks one of its parts is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = _all_known(values)
    return None if known is None else sum(known)


def container_families(limits: cgroups.Limits) -> list[Family]:
    """Return a container's limits as metrics; there is none for what has no limit."""
    gauges = [
        (CONTAINER_MEMORY_LIMIT, limits.memory_limit),
        (CONTAINER_MEMORY_USAGE, limits.memory_usage),
        (CONTAINER_CPU_LIMIT, limits.cpu_limit),
    ]
    return [Family.defined(definition, [((), value)]) for definition, value in gauges if value is not None]
