"""What a worker sees of itself, by a clock of the test's own."""

import asyncio
import gc
from collections.abc import Mapping
from itertools import count

import pytest
import structlog
from prometheus_client import CollectorRegistry

from authly.core.worker_collector import GcPauses, Tasks, WorkerCollector
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import ThreadPool
from authly.monitoring.runtime_metrics import RuntimeMetrics

pytestmark = pytest.mark.anyio


class Scene:
    """A collector whose event loop is as late as the test says, and everything it told."""

    def __init__(self, interval: float = 30.0, late: float = 0.0) -> None:
        self.now = 0.0
        self.late = late
        self.lags: list[float] = []
        self.pauses: list[tuple[int, float]] = []
        self.looks: list[tuple[float, Mapping[str, int]]] = []
        self.tasks: list[tuple[str, int, int]] = []
        self.broken = False
        self.collector = WorkerCollector(
            self, self, self.stats, {ThreadPool.PASSWORDS: lambda: Tasks(1, 2)}, interval, lambda: self.now, self.sleep
        )

    def stats(self) -> Mapping[str, int]:
        """Return what a pool might say of itself."""
        if self.broken:
            raise RuntimeError("broken")
        return {"pool_size": 4}

    async def sleep(self, seconds: float) -> None:
        """Let the clock jump, beyond what was asked for."""
        self.now += seconds + self.late
        await asyncio.sleep(0)

    async def until(self, now: float) -> None:
        """Let it run for so many seconds of its clock."""
        await self.collector.start()
        while self.now < now:
            await asyncio.sleep(0)
        await self.collector.stop()

    def track_event_loop_lag(self, seconds: float) -> None:
        """Note it."""
        self.lags.append(seconds)

    def track_gc_pause(self, generation: int, seconds: float) -> None:
        """Note it."""
        self.pauses.append((generation, seconds))

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Note it."""
        self.looks.append((self.now, stats))

    def update_thread_pool(self, pool: ThreadPool, running: int, waiting: int) -> None:
        """Note it."""
        self.tasks.append((pool, running, waiting))


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


async def test_lag_is_what_comes_on_top_of_the_wait() -> None:
    """An event loop that is late at each tick is seen to be so much late at each tick."""
    scene = Scene(late=0.25)
    await scene.until(10)
    assert len(scene.lags) >= 7
    assert set(scene.lags) == {0.25}
    on_time = Scene()
    await on_time.until(10)
    assert set(on_time.lags) == {0.0}


async def test_pools_are_looked_at_once_an_interval_and_at_the_end() -> None:
    """At once, then at each interval, and a last time when the worker ends."""
    scene = Scene(interval=2.0)
    await scene.until(7.1)
    assert [now for now, _ in scene.looks[:-1]] == [1.0, 3.0, 5.0, 7.0]
    assert scene.looks[-1][0] == 8.0
    assert {tuple(stats.items()) for _, stats in scene.looks} == {(("pool_size", 4),)}
    assert set(scene.tasks) == {("passwords", 1, 2)}
    await scene.collector.stop()
    assert len(scene.looks) == 5


async def test_a_short_interval_is_kept() -> None:
    """An interval below that of the ticks sets theirs too."""
    scene = Scene(interval=0.125)
    await scene.until(1.1)
    assert [now for now, _ in scene.looks[:-1]] == [0.125 * number for number in range(1, 9)]


async def test_collections_are_seen() -> None:
    """Each collection is told once, with its generation; none after the end."""
    scene = Scene()
    await scene.collector.start()
    for _ in range(3):
        gc.collect()
    while not scene.lags:
        await asyncio.sleep(0)
    assert [generation for generation, _ in scene.pauses].count(2) == 3
    assert all(seconds >= 0 for _, seconds in scene.pauses)
    callbacks = len(gc.callbacks)
    await scene.collector.stop()
    assert len(gc.callbacks) == callbacks - 1


@pytest.mark.produces("authly_gc_pause_seconds", generation=("0", "1", "2"))
async def test_collections_are_counted_by_generation(registry: CollectorRegistry) -> None:
    """Each generation that the interpreter collects has its count."""
    scene, metrics = Scene(), RuntimeMetrics(Instruments("authly", registry))
    collector = WorkerCollector(metrics, scene, scene.stats, {}, 30.0, lambda: scene.now, scene.sleep)
    await collector.start()
    for generation in range(3):
        gc.collect(generation)
    ticks = "authly_event_loop_lag_seconds_count"
    while not registry.get_sample_value(ticks):
        await asyncio.sleep(0)
    await collector.stop()
    counted = [
        registry.get_sample_value("authly_gc_pause_seconds_count", {"generation": str(generation)}) or 0
        for generation in range(3)
    ]
    assert all(count >= 1 for count in counted)


def test_a_pause_is_timed() -> None:
    """From the beginning of a collection to its end; each is given once."""
    ticks = count()
    pauses = GcPauses(lambda: float(next(ticks)))
    pauses.start()
    gc.collect(1)
    pauses.stop()
    assert (1, 1.0) in list(pauses.take())
    assert list(pauses.take()) == []
    gc.collect()
    assert list(pauses.take()) == []


async def test_what_fails_does_not_end_it_and_is_said_once() -> None:
    """A pool that says nothing costs its own numbers alone, until it says something again."""
    scene = Scene(interval=1.0)
    scene.broken = True
    with structlog.testing.capture_logs() as logs:
        await scene.until(5)
    assert scene.looks == []
    assert len(scene.lags) == 4
    assert len(logs) == 1
    scene.broken = False
    await scene.until(8)
    assert scene.looks
