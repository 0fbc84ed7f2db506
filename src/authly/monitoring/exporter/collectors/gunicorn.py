"""What Gunicorn is doing: its masters, its workers by slot, and the connections that wait for them.

What the master counts (starts, ends, reloads) is in a metric file, and needs no collector. Here is what is so at the
moment of a scrape: the master says which processes and listeners there are, and the kernel how they are. A worker
that hangs, a master that hangs: neither keeps this from being told.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from authly.monitoring import master_facts
from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.exporter.listen_queues import ListenQueue, listen_queues
from authly.monitoring.exporter.process_facts import ProcessFacts, process_facts
from authly.monitoring.exporter.requests_in_progress import RequestsInProgress
from authly.monitoring.master_facts import ListenerFacts, MasterFacts, WorkerFacts
from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.families import Family

_WORKER = {"worker": described("the slot that a worker holds: a small number, which its successor has too")}
_LISTENER = {"listener": described("`HOST:PORT` or `unix:PATH`")}

WORKERS = Definition(
    "gunicorn_workers",
    "gauge",
    "Workers, by state.",
    {"state": closed(("desired", "alive", "booting", "busy"))},
    detail="Of those that are `alive`, `booting` have no heartbeat yet, and `busy` answer a request. During an "
    "upgrade, of both masters.",
    example='gunicorn_workers{state="alive"} < ignoring(state) gunicorn_workers{state="desired"}',
)
WORKER_MEMORY = Definition(
    "gunicorn_worker_memory_bytes",
    "gauge",
    "Resident memory of the worker.",
    _WORKER,
    example="max by (worker) (gunicorn_worker_memory_bytes) > 500e6",
)
WORKER_CPU = Definition(
    "gunicorn_worker_cpu_seconds_total",
    "counter",
    "CPU time used by the worker.",
    _WORKER,
    detail="Begins anew with each worker.",
    example="rate(gunicorn_worker_cpu_seconds_total[5m])",
)
WORKER_AGE = Definition(
    "gunicorn_worker_age_seconds",
    "gauge",
    "Time since the worker was started.",
    _WORKER,
    example="min(gunicorn_worker_age_seconds)",
)
WORKER_HEARTBEAT_AGE = Definition(
    "gunicorn_worker_heartbeat_age_seconds",
    "gauge",
    "Time since the worker's last heartbeat.",
    _WORKER,
    detail="At Gunicorn's `timeout` the master aborts it.",
    example="max by (worker) (gunicorn_worker_heartbeat_age_seconds) > 20",
)
WORKER_REQUESTS_IN_PROGRESS = Definition(
    "gunicorn_worker_requests_in_progress",
    "gauge",
    "Requests that the worker is answering.",
    _WORKER,
    detail="Where its application keeps a gauge of them.",
    example="max by (worker) (gunicorn_worker_requests_in_progress)",
)
LISTEN_BACKLOG = Definition(
    "gunicorn_listen_backlog",
    "gauge",
    "Connections that wait to be accepted.",
    _LISTENER,
    example="gunicorn_listen_backlog / gunicorn_listen_backlog_max > 0.5",
)
LISTEN_BACKLOG_MAX = Definition(
    "gunicorn_listen_backlog_max",
    "gauge",
    "How many connections may wait to be accepted.",
    _LISTENER,
    example="min(gunicorn_listen_backlog_max)",
)
UPGRADE_IN_PROGRESS = Definition(
    "gunicorn_upgrade_in_progress",
    "gauge",
    "Whether two masters live, or one is about to start another (SIGUSR2).",
    example="min_over_time(gunicorn_upgrade_in_progress[10m]) == 1",
)
MASTER_START_TIME = Definition(
    "gunicorn_master_start_time_seconds",
    "gauge",
    "When the master started, in seconds since the epoch; during an upgrade, the new one.",
    example="time() - gunicorn_master_start_time_seconds",
)


class Worker(NamedTuple):
    """A worker at one moment. What is None cannot be known here.

    Args:
        slot: that it holds.
        pid: its process id.
        is_booting: whether its heart has yet to beat for the first time.
        age: since it was forked, in seconds.
        heartbeat_age: since its heart last beat, in seconds.
        in_progress: requests that it is answering.
        process: what the kernel says of it.
    """

    slot: int | None
    pid: int
    is_booting: bool
    age: float
    heartbeat_age: float | None
    in_progress: float | None
    process: ProcessFacts | None

    @property
    def is_busy(self) -> bool:
        """Whether it is answering a request."""
        return bool(self.in_progress)


class Listener(NamedTuple):
    """A listener at one moment.

    Args:
        name: ``HOST:PORT`` or ``unix:PATH``.
        waiting: connections that wait to be accepted.
        limit: how many may wait.
    """

    name: str
    waiting: int
    limit: int


class Snapshot(NamedTuple):
    """Gunicorn at one moment.

    Args:
        masters: those that live; two during an upgrade.
        workers: of all masters, by slot; first those that hold none.
        listeners: of all masters, each once.
    """

    masters: list[MasterFacts]
    workers: list[Worker]
    listeners: list[Listener]


class GunicornCollector:
    """Collects the families of a Gunicorn instance. Not for several threads at once.

    Args:
        directory: the metrics directory of the instance.
        monotonic: the clock of heartbeats.
    """

    name = "gunicorn"

    def __init__(self, directory: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._in_progress = RequestsInProgress(directory)
        self._pid_namespace = master_facts.namespace("pid")
        self._network_namespace = master_facts.namespace("net")
        # What the last collection saw, for whoever shows it in another way.
        self.snapshot = Snapshot([], [], [])

    def collect(self) -> list[Family]:
        """Return the families; none where there is no Gunicorn master.

        Raises:
            OSError: the directory cannot be read.
        """
        self.snapshot = self.look()
        if not self.snapshot.masters:
            return []
        return [*_of_masters(self.snapshot), *_of_workers(self.snapshot), *_of_listeners(self.snapshot)]

    def look(self) -> Snapshot:
        """Return what there is at this moment.

        Raises:
            OSError: the directory cannot be read.
        """
        masters = master_facts.read(self._directory)
        if not masters:
            return Snapshot([], [], [])
        slots = {lease.holder_pid(self._directory, slot): slot for slot in lease.held_slots(self._directory)}
        found = [self._worker(master, worker, slots) for master in masters for worker in master.workers]
        workers = [worker for worker in found if worker is not None]
        workers.sort(key=lambda worker: -1 if worker.slot is None else worker.slot)
        return Snapshot(masters, workers, self._listeners(masters))

    def _worker(self, master: MasterFacts, facts: WorkerFacts, slots: dict[int | None, int]) -> Worker | None:
        now = self._monotonic()
        process = heartbeat = None
        # Elsewhere these process ids are those of others.
        if master.pid_namespace == self._pid_namespace:
            process = process_facts(facts.pid)
            if process is None:
                return None
            heartbeat = _heartbeat(master, facts)
        # The file was made at a time since the epoch; a heartbeat is one of the monotonic clock, and never ahead of it.
        is_booting = heartbeat is not None and heartbeat > now
        slot = slots.get(facts.pid)
        return Worker(
            slot=slot,
            pid=facts.pid,
            is_booting=is_booting,
            age=max(0.0, now - facts.started),
            heartbeat_age=None if heartbeat is None or is_booting else max(0.0, now - heartbeat),
            in_progress=None if slot is None else self._in_progress.of(slot),
            process=process,
        )

    def _listeners(self, masters: Iterable[MasterFacts]) -> list[Listener]:
        here = [master for master in masters if master.network_namespace == self._network_namespace]
        # The next master inherits the listeners of the one before: of one name there is one queue.
        wanted = {facts.name: (facts, master.backlog) for master in here for facts in master.listeners}
        if not wanted:
            return []
        queues = listen_queues({_family(facts) for facts, _ in wanted.values()})
        found = []
        for facts, backlog in wanted.values():
            matching = [queue for queue in queues if _is_of(queue, facts)]
            if matching:
                limits = (min(backlog, _most_waiting()) if queue.limit is None else queue.limit for queue in matching)
                found.append(Listener(facts.name, sum(queue.waiting for queue in matching), sum(limits)))
        return found


def _of_masters(snapshot: Snapshot) -> list[Family]:
    masters, workers = snapshot.masters, snapshot.workers
    states = {
        "alive": len(workers),
        "booting": sum(worker.is_booting for worker in workers),
        "busy": sum(worker.is_busy for worker in workers),
        "desired": sum(master.desired for master in masters),
    }
    is_upgrading = len(masters) > 1 or any(master.is_upgrading for master in masters)
    return [
        Family.defined(MASTER_START_TIME, [((), masters[-1].started)]),
        Family.defined(UPGRADE_IN_PROGRESS, [((), is_upgrading)]),
        Family.defined(WORKERS, [((("state", state),), number) for state, number in states.items()]),
    ]


def _of_workers(snapshot: Snapshot) -> list[Family]:
    placed = [(worker.slot, worker) for worker in snapshot.workers if worker.slot is not None]

    def family(definition: Definition, of: Callable[[Worker], float | None]) -> Family:
        values = (((("worker", str(slot)),), of(worker)) for slot, worker in placed)
        return Family.defined(definition, [(labels, value) for labels, value in values if value is not None])

    return [
        family(WORKER_AGE, lambda worker: worker.age),
        # As the kernel has it, and not added up: during an upgrade two exporters answer by turns, and must agree.
        family(WORKER_CPU, lambda worker: worker.process.cpu_seconds if worker.process else None),
        family(WORKER_HEARTBEAT_AGE, lambda worker: worker.heartbeat_age),
        family(WORKER_MEMORY, lambda worker: worker.process.resident_bytes if worker.process else None),
        family(WORKER_REQUESTS_IN_PROGRESS, lambda worker: worker.in_progress),
    ]


def _of_listeners(snapshot: Snapshot) -> list[Family]:
    listeners = sorted(snapshot.listeners)
    return [
        Family.defined(LISTEN_BACKLOG, [((("listener", each.name),), each.waiting) for each in listeners]),
        Family.defined(LISTEN_BACKLOG_MAX, [((("listener", each.name),), each.limit) for each in listeners]),
    ]


def _heartbeat(master: MasterFacts, worker: WorkerFacts) -> float | None:
    """Return the modification time of a worker's heartbeat file, which has no name any more but the master's fd."""
    try:
        status = os.stat(f"/proc/{master.pid}/fd/{worker.heartbeat_fd}")  # noqa: PTH116 - for each worker, at each scrape
    except OSError:
        return None
    return status.st_mtime if status.st_ino == worker.heartbeat_inode else None


def _family(facts: ListenerFacts) -> socket.AddressFamily:
    if not facts.port:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in facts.host else socket.AF_INET


def _is_of(queue: ListenQueue, facts: ListenerFacts) -> bool:
    if facts.inode:
        return queue.inode == facts.inode
    return bool(queue.port) and (queue.host, queue.port) == (facts.host, facts.port)


def _most_waiting() -> int:
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_bytes())
    except (OSError, ValueError):
        return 4096
