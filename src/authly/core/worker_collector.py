"""What a worker can say of itself at intervals: its event loop, its garbage collector, its pools.

Owns one periodic task, and when it looks. Does not own what becomes of what it sees, which is handed in; asks nobody
outside the process.
"""

import asyncio
import contextlib
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import structlog

from authly.monitoring.labels import ThreadPool

# Often enough to see what holds up requests, and a twentieth of what the server's own timer costs.
_TICK = 1.0
# Between two ticks there are a few dozen. More than this many there are only while the event loop is held up.
_PAUSES = 10_000

_log = structlog.stdlib.get_logger(__name__)


class Tasks(NamedTuple):
    """What a pool of threads has to do: tasks that have a thread, and tasks that wait for one."""

    running: int
    waiting: int


class WorkerMetrics(Protocol):
    """What is told of a worker."""

    def track_event_loop_lag(self, seconds: float) -> None:
        """Note by how much the event loop was late."""

    def track_gc_pause(self, generation: int, seconds: float) -> None:
        """Note how long the garbage collector took."""

    def update_thread_pool(self, pool: ThreadPool, running: int, waiting: int) -> None:
        """Note how many tasks a pool of threads has."""


class PoolMetrics(Protocol):
    """What is told of a pool of connections."""

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Note what the pool says of itself."""


class GcPauses:
    """Remembers how long the garbage collector took, until somebody asks.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = 0.0
        self._ended: deque[tuple[int, float]] = deque(maxlen=_PAUSES)

    def start(self) -> None:
        """Begin to look."""
        if self._note not in gc.callbacks:
            gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Look no more."""
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._note)

    def take(self) -> Iterator[tuple[int, float]]:
        """Yield each pause since the last call: up to which generation was collected, and the seconds it took."""
        while self._ended:
            yield self._ended.popleft()

    def _note(self, phase: str, info: Mapping[str, Any]) -> None:
        # Collections begin anywhere, in the middle of a metric's write too, whose lock is then held by this thread:
        # nothing may be waited for here.
        if phase == "start":
            self._began = self._clock()
        else:
            self._ended.append((info["generation"], self._clock() - self._began))


class WorkerCollector:
    """Looks at this worker from within.

    Args:
        metrics: is told what there is to see.
        pool_metrics: is told of the pool of connections.
        pool: returns what the pool of connections says of itself.
        thread_pools: for each pool of threads, what returns its tasks.
        interval: seconds from one look at the pools to the next.
        clock: a monotonic clock, in seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        metrics: WorkerMetrics,
        pool_metrics: PoolMetrics,
        pool: Callable[[], Mapping[str, int]],
        thread_pools: Mapping[ThreadPool, Callable[[], Tasks]],
        interval: float,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._metrics = metrics
        self._pool_metrics = pool_metrics
        self._pool = pool
        self._thread_pools = thread_pools
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._pauses = GcPauses()
        self._task: asyncio.Task[None] | None = None
        self._has_failed = False

    async def start(self) -> None:
        """Begin, in the background."""
        if self._task is None:
            self._pauses.start()
            self._task = asyncio.create_task(self._run(), name="authly-worker-collector")

    async def stop(self) -> None:
        """Look a last time, and no more."""
        task, self._task = self._task, None
        if task is not None:
            self._pauses.stop()
            task.cancel()
            await asyncio.wait([task])
            self.look()

    async def _run(self) -> None:
        tick = min(_TICK, self._interval)
        look_at = self._clock()
        while True:
            due = self._clock() + tick
            await self._sleep(tick)
            now = self._clock()
            self._metrics.track_event_loop_lag(max(now - due, 0.0))
            for generation, seconds in self._pauses.take():
                self._metrics.track_gc_pause(generation, seconds)
            if now >= look_at:
                look_at = now + self._interval
                self.look()

    def look(self) -> None:
        """Look at the pools. Says once that it failed, and never raises."""
        try:
            self._pool_metrics.update_database_pool(self._pool())
            for pool, tasks in self._thread_pools.items():
                self._metrics.update_thread_pool(pool, *tasks())
        except Exception:  # noqa: BLE001 - measuring ends nothing
            if not self._has_failed:
                self._has_failed = True
                _log.exception("A worker could not look at its pools; this is said once")
