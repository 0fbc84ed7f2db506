"""What the processes of an instance use, by their role, and what their container allows."""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple, TypeVar

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.exporter.collectors import cgroups
from authly.monitoring.exporter.collectors.processes import Cpu, Detail, Identity, Processes, Tree, Usage
from authly.monitoring.multiprocess.families import Family

ROLES = ("exporter", "master", "worker")
MEMORY_TYPES = ("rss", "pss", "uss", "vms")
CPU_MODES = ("user", "system")
SWITCH_KINDS = ("voluntary", "involuntary")

DETAIL_SECONDS = 15.0
"""How old PSS and USS may be: the kernel walks through all pages of a process for them."""

_ROLE = {"role": closed(ROLES)}

MEMORY_USAGE = Definition(
    "authly_memory_usage_bytes",
    "gauge",
    "Memory of all processes of a role.",
    {**_ROLE, "type": closed(MEMORY_TYPES)},
    detail="`rss`: resident; what processes share counts in each. `pss`: what they share is divided among them: the "
    "one to add up. `uss`: what would be free without them. `vms`: address space. `pss` and `uss` are up to 15 s "
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
    "between the last scrape and its end is missing.",
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
        total = found.master[1].ended_children.minus(self._not_workers)
        for usage in found.workers.values():
            total = total.plus(usage.cpu).plus(usage.ended_children)
        # A tree that was not consistent may have counted a process twice. Rounded, because the kernel counts hundredths
        # of a second, and the next exporter must not come to less by the last bit.
        self._total = self._total.at_least(total.rounded())
        return self._total


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
        self._details: dict[Identity, tuple[float, Detail | None]] = {}
        self._processes = Processes(instance.master)
        self._container = cgroups.Container()
        # When the master started, and how long it had been running at a moment of the clock, which never jumps.
        self._started: float | None = None
        self._age = (0.0, 0.0)

    def collect(self) -> list[Family]:
        """Return the families as they are now, PSS and USS up to :data:`DETAIL_SECONDS` old."""
        found = self._look()
        roles: dict[str, dict[Identity, Usage]] = {"exporter": dict([found.exporter])}
        if found.master is not None:
            roles |= {"master": dict([found.master]), "worker": found.workers}
        families = [
            *self._used(roles),
            *self._accounted(found, roles),
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

    def _used(self, roles: dict[str, dict[Identity, Usage]]) -> list[Family]:
        """Return the gauges."""
        details = self._look_closer({identity for found in roles.values() for identity in found})
        memory, descriptors, most, limits, threads = [], [], [], [], []
        for role, found in roles.items():
            label = ("role", role)
            living = {identity: usage for identity, usage in found.items() if usage.is_living}
            usages = living.values()
            memory.append(((label, ("type", "rss")), sum(usage.rss for usage in usages)))
            memory.append(((label, ("type", "vms")), sum(usage.vms for usage in usages)))
            known = _all_known(details[identity] for identity in living)
            if known is not None:
                memory.append(((label, ("type", "pss")), sum(detail.pss for detail in known)))
                memory.append(((label, ("type", "uss")), sum(detail.uss for detail in known)))
            threads.append(((label,), sum(usage.threads for usage in usages)))
            opened = _all_known(usage.descriptors for usage in usages)
            if opened is not None:
                descriptors.append(((label,), sum(opened)))
                most.append(((label,), max(opened, default=0)))
            allowed = _all_known(usage.descriptor_limit for usage in usages)
            if allowed:
                # -1 stands for no limit.
                limits.append(((label,), min(limit if limit >= 0 else float("inf") for limit in allowed)))
        return [
            Family.defined(MEMORY_USAGE, memory),
            Family.defined(OPEN_FILE_DESCRIPTORS, descriptors),
            Family.defined(OPEN_FILE_DESCRIPTORS_MAX, most),
            Family.defined(FILE_DESCRIPTORS_LIMIT, limits),
            Family.defined(THREADS, threads),
        ]

    def _look_closer(self, identities: set[Identity]) -> dict[Identity, Detail | None]:
        now = self._clock()
        details = {}
        for identity in identities:
            last = self._details.get(identity)
            if last is None or now - last[0] >= DETAIL_SECONDS:
                last = now, self._processes.detail(identity)
            details[identity] = last
        self._details = details
        return {identity: detail for identity, (_, detail) in details.items()}

    def _accounted(self, found: Tree, roles: dict[str, dict[Identity, Usage]]) -> list[Family]:
        """Return the counters."""
        cpu = {"exporter": found.exporter[1].cpu.plus(self._instance.ended_exporters).rounded()}
        if found.master is not None:
            cpu |= {"master": found.master[1].cpu, "worker": self._worker_cpu.total(found)}
        switches = []
        for role, usages in roles.items():
            for index, kind in enumerate(SWITCH_KINDS):
                counters: dict[Hashable, float] = {
                    (identity, thread): both[index]
                    for identity, usage in usages.items()
                    for thread, both in usage.switches.items()
                }
                switches.append(((("kind", kind), ("role", role)), self._switches[role, kind].total(counters)))
        return [
            Family.defined(
                CPU,
                [
                    ((("mode", mode), ("role", role)), amount)
                    for role, times in cpu.items()
                    for mode, amount in zip(CPU_MODES, times, strict=True)
                ],
            ),
            Family.defined(CONTEXT_SWITCHES, switches),
        ]

    def _times(self, found: Tree) -> list[Family]:
        if found.master is None:
            return []
        if self._started is None:
            self._started = self._processes.started(found.master[0])
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


def container_families(limits: cgroups.Limits) -> list[Family]:
    """Return a container's limits as metrics; there is none for what has no limit."""
    gauges = [
        (CONTAINER_MEMORY_LIMIT, limits.memory_limit),
        (CONTAINER_MEMORY_USAGE, limits.memory_usage),
        (CONTAINER_CPU_LIMIT, limits.cpu_limit),
    ]
    return [Family.defined(definition, [((), value)]) for definition, value in gauges if value is not None]
