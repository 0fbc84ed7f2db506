"""The schedule of jobs, by a clock of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from authly.core.jobs import Election, Job, Jobs
from authly.monitoring.cleanup_metrics import CleanupMetrics
from authly.monitoring.instruments import Instruments

pytestmark = pytest.mark.anyio


class Office(Election):
    """An election whose outcome the test decides."""

    def __init__(self) -> None:
        self.won = True
        self.away = False
        self.asked = 0

    async def is_won(self) -> bool:
        """Tell what the test decided."""
        self.asked += 1
        if self.away:
            raise OSError("away")
        return self.won

    async def resign(self) -> None:
        """Do nothing."""


class Scene:
    """A schedule with one job or several, and everything that happened."""

    def __init__(self, *jobs: Job, stand_interval: float = 15.0) -> None:
        self.now = 0.0
        self.office = Office()
        self.runs: list[tuple[str, str, int]] = []
        self.slept: list[float] = []
        self.jobs = Jobs(self.office, jobs, self, stand_interval, lambda: self.now, self.sleep)

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Note a run."""
        self.runs.append((task, status, rows))

    async def sleep(self, seconds: float) -> None:
        """Let the clock jump."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def batches(*rows: int) -> tuple[Callable[[int], Awaitable[int]], list[int]]:
    """Return a job's work that finds so many rows at each call, and the list of the limits it was called with."""
    left, limits = list(rows), []

    async def run_batch(limit: int) -> int:
        limits.append(limit)
        return left.pop(0) if left else 0

    return run_batch, limits


async def test_batches_until_nothing_is_left() -> None:
    """A run takes one batch after the other, until one is not full."""
    work, limits = batches(10, 10, 3, 10)
    scene = Scene(Job("codes", 60, work, batch=10))
    await scene.jobs.turn()
    assert limits == [10, 10, 10]
    assert scene.runs == [("codes", "success", 23)]


async def test_a_run_is_bounded() -> None:
    """What is left after so many batches waits for the next run."""
    work, limits = batches(*[10] * 50)
    scene = Scene(Job("codes", 60, work, batch=10, max_batches=4))
    await scene.jobs.turn()
    assert len(limits) == 4
    assert scene.runs == [("codes", "success", 40)]


async def test_intervals() -> None:
    """A job runs when its interval has passed, each job by its own."""
    first, second = batches()[0], batches()[0]
    scene = Scene(Job("often", 60, first), Job("rarely", 150, second))
    for scene.now in (0, 59, 60, 119, 120, 150, 180):
        await scene.jobs.turn()
    assert [task for task, _, _ in scene.runs].count("often") == 4
    assert [task for task, _, _ in scene.runs].count("rarely") == 2


async def test_a_job_that_fails_does_not_end_the_schedule() -> None:
    """It is tried again at its next interval, the others run, and what it did before it failed is counted."""
    calls = 0

    async def fail(limit: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise RuntimeError("on purpose")
        return limit

    scene = Scene(Job("failing", 60, fail, batch=5), Job("other", 60, batches()[0]))
    for scene.now in (0, 60):
        await scene.jobs.turn()
    assert scene.runs == [("failing", "error", 5), ("other", "success", 0)] * 2


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.mark.produces("authly_cleanup_runs_total", status=("timeout",))
async def test_a_job_that_does_not_end_is_ended(registry: CollectorRegistry) -> None:
    """A run has its time, which its count says, and the others run after it."""

    async def hang(_: int) -> int:
        await asyncio.Event().wait()
        return 0

    scene = Scene(Job("hanging", 60, hang, timeout=0.05), Job("other", 60, batches()[0]))
    await scene.jobs.turn()
    assert scene.runs == [("hanging", "timeout", 0), ("other", "success", 0)]
    metrics = CleanupMetrics(Instruments("authly", registry))
    await Jobs(Office(), [Job("tokens", 60, hang, timeout=0.05)], metrics).turn()
    labels = {"task": "tokens", "status": "timeout"}
    assert registry.get_sample_value("authly_cleanup_runs_total", labels) == 1


async def test_only_the_elected_worker_runs_jobs() -> None:
    """Without the office nothing runs; whoever gets it runs everything at once."""
    scene = Scene(Job("codes", 60, batches()[0]))
    scene.office.won = False
    await scene.jobs.turn()
    assert scene.runs == []
    scene.office.won = True
    await scene.jobs.turn()
    scene.office.won = False
    scene.now = 60
    await scene.jobs.turn()
    assert len(scene.runs) == 1
    scene.office.won = True
    await scene.jobs.turn()
    assert len(scene.runs) == 2


async def test_the_loop_survives_everything() -> None:
    """While the database is away the loop goes on asking, and runs the jobs when it is back."""
    scene = Scene(Job("codes", 60, batches()[0]), stand_interval=15)
    scene.office.away = True
    await scene.jobs.start()
    while scene.now < 100:
        await asyncio.sleep(0)
    assert scene.runs == []
    assert set(scene.slept) == {15}
    scene.office.away = False
    while len(scene.runs) < 3:
        await asyncio.sleep(0)
    await scene.jobs.stop()
