"""Records the lives of a master's workers: how many begin, why they end, which live.

Everything happens inside of calls that the arbiter makes anyway. What the recorder holds grows with the workers that
live at once, never with those that have lived.
"""

import atexit
import contextlib
import functools
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from authly.monitoring import master_facts
from authly.monitoring.definitions import Definition, closed
from authly.monitoring.gunicorn.arbiter import watched_waits
from authly.monitoring.gunicorn.exits import Evidence, OutOfMemoryKills, exit_reason, own_oom_file
from authly.monitoring.master_facts import EXIT_REASONS, ListenerFacts, MasterFacts, WorkerFacts, counter_key
from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.file_format import CorruptFileError
from authly.monitoring.multiprocess.lease import Lease
from authly.monitoring.multiprocess.value_file import ValueFile

STARTS: Final = Definition(
    "gunicorn_worker_starts_total",
    "counter",
    "Workers that were started.",
    example="increase(gunicorn_worker_starts_total[15m])",
)
EXITS: Final = Definition(
    "gunicorn_worker_exits_total",
    "counter",
    "Workers that ended, by reason.",
    {"reason": closed(EXIT_REASONS)},
    detail="`max_requests`: recycled. `signal`: sent by somebody else. What tells one reason from another is in "
    "[exporter.md](exporter.md#why-a-worker-ended).",
    example='sum by (reason) (increase(gunicorn_worker_exits_total{reason=~"timeout|out_of_memory|boot_error|crash"}'
    "[15m])) > 0",
)
RELOADS: Final = Definition(
    "gunicorn_reloads_total",
    "counter",
    "Reloads of the configuration (SIGHUP).",
    example="changes(gunicorn_reloads_total[1d])",
)
_STARTS: Final = counter_key(STARTS.family, STARTS.help)
_RELOADS: Final = counter_key(RELOADS.family, RELOADS.help)
_EXITS: Final = {reason: counter_key(EXITS.family, EXITS.help, reason=reason) for reason in EXIT_REASONS}
COUNTERS: Final = (_STARTS, _RELOADS, *_EXITS.values())
_RETRY_SECONDS: Final = 5.0
# A byte for each worker by its age, which Gunicorn counts up; far more than ever live at once.
_NOTES: Final = mmap.PAGESIZE
_REACHED_LIMIT: Final = 1
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGKILL})


class _Counters:
    """Counters in a metric file; what finds no room there waits for it.

    Args:
        directory: the metrics directory.
        monotonic: the clock that spaces out new attempts after a failure.
    """

    def __init__(self, directory: Path, monotonic: Callable[[], float]) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._file: ValueFile | None = None
        self._lease: Lease | None = None
        self._pending: dict[bytes, float] = {}
        self._try_at = 0.0
        # Why nothing can be stored, if so.
        self.problem = ""

    @property
    def slot(self) -> int | None:
        """The slot of this master, once it has one."""
        return self._lease.slot if self._lease else None

    def count(self, key: bytes, amount: float = 1.0) -> None:
        """Add to a counter; adding 0 makes it appear."""
        self._pending[key] = self._pending.get(key, 0.0) + amount
        self.settle()

    def settle(self) -> None:
        """Store what waits."""
        if not self._pending or self._monotonic() < self._try_at:
            return
        try:
            file = self._file or self._open()
            for key, amount in list(self._pending.items()):
                cells, index, *_ = file.place(key)
                cells[index] += amount
                del self._pending[key]
            self.problem = ""
        except (OSError, CorruptFileError) as error:
            self._try_at = self._monotonic() + _RETRY_SECONDS
            self.problem = str(error)

    def _open(self) -> ValueFile:
        if self._lease is None:
            self._lease = Lease.acquire(self._directory, lease.MASTER)
            # What an earlier holder said is not so any more.
            master_facts.facts_path(self._directory, self._lease.slot).unlink(missing_ok=True)
        path = master_facts.counter_path(self._directory, self._lease.slot)
        try:
            self._file = ValueFile(path, time.time, lambda _: None, dense=False)
        except CorruptFileError:
            # As with a worker's: kept for whoever wants to know why, out of the way.
            path.replace(path.with_suffix(".corrupt"))
            self._file = ValueFile(path, time.time, lambda _: None, dense=False)
        return self._file

    def close(self) -> None:
        """Let go of file and slot: in a worker, which would otherwise keep its master's slot."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lease is not None:
            self._lease.close()
            self._lease = None


class _Life:
    """What is known of a worker that lives."""

    __slots__ = ("facts", "told", "was_killed", "worker")

    def __init__(self, worker: Any, facts: WorkerFacts) -> None:
        self.worker = worker
        self.facts = facts
        self.told = ""
        self.was_killed = False


class Recorder:
    """Records what one arbiter does with its workers.

    Args:
        directory: the metrics directory.
        monotonic: the clock of heartbeats.
    """

    def __init__(self, directory: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._started = time.time()
        self._namespaces = master_facts.namespace("pid"), master_facts.namespace("net")
        self._counters = _Counters(directory, monotonic)
        self._kills = OutOfMemoryKills(own_oom_file(), monotonic)
        # Shared with the workers, which leave a note there when they end by themselves.
        self._notes = mmap.mmap(-1, _NOTES)
        self._lives: dict[int, _Life] = {}
        # Why workers end that the master ends now.
        self._doing = "scale_down"
        self._written: MasterFacts | None = None
        self._has_complained = False

    def watch(self, server: Any) -> None:
        """Begin, before the first worker is forked.

        Args:
            server: the arbiter; only this one object changes.
        """
        with self._reported(server):
            for key in COUNTERS:
                self._counters.count(key, 0.0)
        spawn, kill, reap = server.spawn_worker, server.kill_worker, server.reap_workers
        reload_, stop, manage = server.reload, server.stop, server.manage_workers
        told = functools.partial(self._ended, server)

        @functools.wraps(spawn)
        def spawn_worker() -> Any:
            self._notes[(server.worker_age + 1) % _NOTES] = 0
            pid = spawn()
            with self._reported(server):
                self._begun(server, pid)
            return pid

        @functools.wraps(kill)
        def kill_worker(pid: int, sig: int) -> None:
            with self._reported(server):
                self._tell(pid, sig)
            kill(pid, sig)
            if pid not in server.WORKERS:  # it was gone, and nobody knows how
                told(pid, None)

        @functools.wraps(reap)
        def reap_workers() -> None:
            with self._reported(server):
                self._kills.look()
            try:
                with watched_waits(told):
                    reap()
            finally:
                with self._reported(server):
                    self._show(server)

        @functools.wraps(manage)
        def manage_workers() -> None:
            manage()
            with self._reported(server):
                self._kills.look()
                self._counters.settle()
                self._show(server)

        @functools.wraps(reload_)
        def reload() -> None:
            with self._reported(server):
                self._counters.count(_RELOADS)
            with self._while("reload"):
                reload_()

        @functools.wraps(stop)
        def stop_workers(graceful: bool = True) -> None:
            with self._while("shutdown"):
                stop(graceful)
            # Sent SIGKILL, and not waited for.
            for pid in list(self._lives):
                told(pid, None)

        server.spawn_worker, server.kill_worker, server.reap_workers = spawn_worker, kill_worker, reap_workers
        server.reload, server.stop, server.manage_workers = reload, stop_workers, manage_workers
        with self._reported(server):
            self._show(server)

    def enter_worker(self, worker: Any) -> None:
        """Let go of what is the master's, and see to the note that a worker leaves at its end.

        Args:
            worker: of this process, which was just forked.
        """
        self._counters.close()
        self._lives.clear()
        pid = os.getpid()

        def note() -> None:
            if os.getpid() == pid and _has_reached_limit(worker):
                self._notes[worker.age % _NOTES] = _REACHED_LIMIT

        # Not Gunicorn's hook `worker_exit`: this needs no line in anybody's configuration.
        atexit.register(note)

    def _begun(self, server: Any, pid: int) -> None:
        worker = server.WORKERS[pid]
        fd = worker.tmp.fileno()
        facts = WorkerFacts(pid, self._monotonic(), fd, os.fstat(fd).st_ino)
        self._lives[pid] = _Life(worker, facts)
        self._counters.count(_STARTS)
        self._show(server)

    def _tell(self, pid: int, sig: int) -> None:
        life = self._lives.get(pid)
        # Of a worker whose heart stopped beating that is reason enough, whatever it is sent.
        if life is not None and sig in _ENDING and not life.worker.aborted:
            life.told = life.told or self._doing
            life.was_killed = life.was_killed or sig == signal.SIGKILL

    def _ended(self, server: Any, pid: int, status: int | None) -> None:
        with self._reported(server):
            life = self._lives.pop(pid, None)
            if life is None:
                return  # the exporter, the next master, an orphan
            evidence = Evidence(
                status,
                was_aborted=life.worker.aborted,
                told=life.told,
                was_killed=life.was_killed,
                had_booted=self._has_booted(life.worker),
                reached_limit=self._notes[life.worker.age % _NOTES] == _REACHED_LIMIT,
                reloads_code=bool(server.cfg.reload),
            )
            self._counters.count(_EXITS[exit_reason(evidence, self._kills.take)])

    def _has_booted(self, worker: Any) -> bool:
        try:
            # A heartbeat is a time of the monotonic clock; the file's creation one since the epoch.
            return bool(worker.tmp.last_update() <= self._monotonic())
        except (OSError, ValueError):
            return True

    def _show(self, server: Any) -> None:
        """Write down what is so, if it is not what was written last."""
        slot = self._counters.slot
        if slot is None:
            return
        facts = MasterFacts(
            pid=os.getpid(),
            started=self._started,
            desired=server.num_workers,
            is_upgrading=bool(server.reexec_pid or server.master_pid),
            backlog=server.cfg.backlog,
            pid_namespace=self._namespaces[0],
            network_namespace=self._namespaces[1],
            workers=tuple(life.facts for life in self._lives.values()),
            listeners=_listeners(server),
        )
        if facts != self._written:
            master_facts.write(self._directory, slot, facts)
            self._written = facts

    @contextlib.contextmanager
    def _while(self, doing: str) -> Iterator[None]:
        before = self._doing
        self._doing = doing
        try:
            yield
        finally:
            self._doing = before

    @contextlib.contextmanager
    def _reported(self, server: Any) -> Iterator[None]:
        """Say once what goes wrong, and go on."""
        try:
            yield
            problem = self._counters.problem
        except Exception as error:  # noqa: BLE001
            problem = str(error)
        if problem and not self._has_complained:
            server.log.error(
                "What the Gunicorn workers do cannot be recorded in %s (%s). Make room or give permission there; it is "
                "tried again and again, and this is said once.",
                self._directory,
                problem,
            )
        self._has_complained = self._has_complained or bool(problem)


def _has_reached_limit(worker: Any) -> bool:
    if worker.max_requests == sys.maxsize:
        return False
    # Uvicorn counts for itself, ends by itself for no other reason, and dies of the signals that it gets.
    counts_itself = getattr(getattr(worker, "config", None), "limit_max_requests", None) is not None
    return counts_itself or worker.nr >= worker.max_requests


def _listeners(server: Any) -> tuple[ListenerFacts, ...]:
    found = [_listener(each.getsockname(), os.fstat(each.fileno()).st_ino) for each in server.LISTENERS]
    # With reuse_port each worker listens for itself, at the addresses that were configured.
    return tuple(found or [_listener(address, 0) for address in server.cfg.address])


def _listener(address: Any, inode: int) -> ListenerFacts:
    if isinstance(address, str | bytes):
        return ListenerFacts(f"unix:{os.fsdecode(address)}", inode, "", 0)
    host, port = address[:2]
    return ListenerFacts(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", inode, host, port)
