"""What the processes of an instance use, by their role, and what their container allows."""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple, TypeVar

from authly.monitoring.exporter.collectors import cgroups
from authly.monitoring.exporter.collectors.processes import Cpu, Detail, Identity, Processes, Tree, Usage
from authly.monitoring.multiprocess.families import Family, Sample

ROLES = ("exporter", "master", "worker")
MEMORY_TYPES = ("rss", "pss", "uss", "vms")
CPU_MODES = ("user", "system")
SWITCH_KINDS = ("voluntary", "involuntary")

DETAIL_SECONDS = 15.0
"""How old PSS and USS may be: the kernel walks through all pages of a process for them."""

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
        return [family for family in families if family.samples]

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
            _gauge("authly_memory_usage_bytes", "Memory of all processes of a role.", memory),
            _gauge("authly_open_file_descriptors", "Open file descriptors of all processes of a role.", descriptors),
            _gauge("authly_open_file_descriptors_max", "Open file descriptors of the process that has most.", most),
            _gauge("authly_file_descriptors_limit", "How many one process of a role may have open.", limits),
            _gauge("authly_threads", "Threads of all processes of a role.", threads),
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
            _counter(
                "authly_cpu_seconds",
                "Processor time of all processes of a role, those that have ended included.",
                [
                    ((("mode", mode), ("role", role)), amount)
                    for role, times in cpu.items()
                    for mode, amount in zip(CPU_MODES, times, strict=True)
                ],
            ),
            _counter("authly_context_switches", "Context switches of all threads of a role.", switches),
        ]

    def _times(self, found: Tree) -> list[Family]:
        if found.master is None:
            return []
        if self._started is None:
            self._started = self._processes.started(found.master[0])
            self._age = time.time() - self._started, self._clock()
        age, at = self._age
        return [
            _gauge("authly_start_time_seconds", "When the master started, since the epoch.", [((), self._started)]),
            _gauge("authly_uptime_seconds", "How long the master has been running.", [((), age + self._clock() - at)]),
        ]


def _all_known(values: Iterable[T | None]) -> list[T] | None:
    """Return the values, unless one is missing: a sum that lacks one of its parts is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def container_families(limits: cgroups.Limits) -> list[Family]:
    """Return a container's limits as metrics; there is none for what has no limit."""
    gauges = [
        ("authly_container_memory_limit_bytes", "Memory that the container may use.", limits.memory_limit),
        ("authly_container_memory_usage_bytes", "Memory of the container, page cache included.", limits.memory_usage),
        ("authly_container_cpu_limit_cores", "Processors that the container may use.", limits.cpu_limit),
    ]
    return [_gauge(name, help_, [((), value)]) for name, help_, value in gauges if value is not None]


def _gauge(name: str, help_: str, values: Iterable[tuple[tuple[tuple[str, str], ...], float]]) -> Family:
    return Family.of(name, "gauge", help_, [Sample(name, labels, float(value)) for labels, value in values])


def _counter(name: str, help_: str, values: Iterable[tuple[tuple[tuple[str, str], ...], float]]) -> Family:
    return Family.of(
        name, "counter", help_, [Sample(f"{name}_total", labels, float(value)) for labels, value in values]
    )
