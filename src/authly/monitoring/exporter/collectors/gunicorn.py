"""What Gunicorn is doing: its masters, its workers by slot, and the connections that wait for them.

What the master counts (starts, ends, reloads) is in a metric file, and needs no collector. Here is what is so at the
moment of a scrape: the master says which processes and listeners there are, and the kernel how they are. A worker
that hangs, a master that hangs: neither keeps this from being told.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from authly.monitoring import master_facts
from authly.monitoring.exporter.listen_queues import ListenQueue, listen_queues
from authly.monitoring.exporter.process_facts import ProcessFacts, process_facts
from authly.monitoring.exporter.requests_in_progress import RequestsInProgress
from authly.monitoring.master_facts import ListenerFacts, MasterFacts, WorkerFacts
from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.families import Family, Labels, Sample


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
        queues = listen_queues(unix=any(not facts.port for facts, _ in wanted.values()))
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
        _gauge(
            "gunicorn_master_start_time_seconds",
            "When the master started, in seconds since the epoch; during an upgrade, the new one.",
            [((), masters[-1].started)],
        ),
        _gauge(
            "gunicorn_upgrade_in_progress",
            "Whether two masters live, or one is about to start another (SIGUSR2).",
            [((), float(is_upgrading))],
        ),
        _gauge(
            "gunicorn_workers",
            "Workers, by state.",
            [((("state", state),), float(number)) for state, number in states.items()],
        ),
    ]


def _of_workers(snapshot: Snapshot) -> list[Family]:
    placed = [(worker.slot, worker) for worker in snapshot.workers if worker.slot is not None]

    def family(name: str, help_: str, values: Iterable[tuple[int, float | None]]) -> Family:
        samples = [Sample(name, (("worker", str(slot)),), float(value)) for slot, value in values if value is not None]
        return Family.of(name, "gauge", help_, samples)

    # As the kernel has it, and not added up: during an upgrade two exporters answer by turns, and must agree.
    cpu = [
        Sample("gunicorn_worker_cpu_seconds_total", (("worker", str(slot)),), worker.process.cpu_seconds)
        for slot, worker in placed
        if worker.process is not None
    ]
    return [
        family(
            "gunicorn_worker_age_seconds",
            "Time since the worker was started.",
            [(slot, worker.age) for slot, worker in placed],
        ),
        Family.of("gunicorn_worker_cpu_seconds", "counter", "CPU time used by the worker.", cpu),
        family(
            "gunicorn_worker_heartbeat_age_seconds",
            "Time since the worker's last heartbeat.",
            [(slot, worker.heartbeat_age) for slot, worker in placed],
        ),
        family(
            "gunicorn_worker_memory_bytes",
            "Resident memory of the worker.",
            [(slot, worker.process.resident_bytes if worker.process else None) for slot, worker in placed],
        ),
        family(
            "gunicorn_worker_requests_in_progress",
            "Requests that the worker is answering.",
            [(slot, worker.in_progress) for slot, worker in placed],
        ),
    ]


def _of_listeners(snapshot: Snapshot) -> list[Family]:
    listeners = sorted(snapshot.listeners)
    return [
        _gauge(
            "gunicorn_listen_backlog",
            "Connections that wait to be accepted.",
            [((("listener", each.name),), float(each.waiting)) for each in listeners],
        ),
        _gauge(
            "gunicorn_listen_backlog_max",
            "How many connections may wait to be accepted.",
            [((("listener", each.name),), float(each.limit)) for each in listeners],
        ),
    ]


def _gauge(name: str, help_: str, values: list[tuple[Labels, float]]) -> Family:
    return Family.of(name, "gauge", help_, [Sample(name, labels, value) for labels, value in values])


def _heartbeat(master: MasterFacts, worker: WorkerFacts) -> float | None:
    """Return the modification time of a worker's heartbeat file, which has no name any more but the master's fd."""
    try:
        status = Path(f"/proc/{master.pid}/fd/{worker.heartbeat_fd}").stat()
    except OSError:
        return None
    return status.st_mtime if status.st_ino == worker.heartbeat_inode else None


def _is_of(queue: ListenQueue, facts: ListenerFacts) -> bool:
    if facts.inode:
        return queue.inode == facts.inode
    return bool(queue.port) and (queue.host, queue.port) == (facts.host, facts.port)


def _most_waiting() -> int:
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_bytes())
    except (OSError, ValueError):
        return 4096
