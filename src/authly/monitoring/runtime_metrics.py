"""The metrics of a worker's own state: its event loop, its garbage collector, its threads."""

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram

from authly.monitoring.labels import ThreadPool

LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
PAUSE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0)
GC_GENERATIONS = ("0", "1", "2")
TASK_STATES = ("running", "waiting")


class RuntimeRecorder(Protocol):
    """What can be recorded of a worker's own state."""

    def track_event_loop_lag(self, seconds: float) -> None:
        """Record by how much the event loop was late."""

    def track_gc_pause(self, generation: int, seconds: float) -> None:
        """Record how long the garbage collector took."""

    def update_thread_pool(self, pool: ThreadPool, running: int, waiting: int) -> None:
        """Say how many tasks a pool of threads has."""


class NullRuntimeMetrics:
    """Records nothing of a worker's own state."""

    def track_event_loop_lag(self, seconds: float) -> None:
        """Do nothing."""

    def track_gc_pause(self, generation: int, seconds: float) -> None:
        """Do nothing."""

    def update_thread_pool(self, pool: ThreadPool, running: int, waiting: int) -> None:
        """Do nothing."""


class RuntimeMetrics:
    """Shows how a worker fares.

    Args:
        registry: where the metrics are registered.
        failed: is told the name of a call that failed, while the exception is handled.
    """

    def __init__(self, registry: CollectorRegistry, failed: Callable[[str], None]) -> None:
        self.event_loop_lag = Histogram(
            "authly_event_loop_lag_seconds",
            "By how much later than due the event loop came to a task.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.gc_pause = Histogram(
            "authly_gc_pause_seconds",
            "Time that the garbage collector took, during which nothing else ran.",
            ["generation"],
            buckets=PAUSE_BUCKETS,
            registry=registry,
        )
        self.thread_pool_tasks = Gauge(
            "authly_thread_pool_tasks",
            "Tasks of the workers' pools of threads.",
            ["pool", "state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        for generation in GC_GENERATIONS:
            self.gc_pause.labels(generation)
        for pool in ThreadPool:
            for state in TASK_STATES:
                self.thread_pool_tasks.labels(pool, state)
        self._runtime_failed = failed

    def track_event_loop_lag(self, seconds: float) -> None:
        """Record by how much the event loop was late.

        Args:
            seconds: between the moment that a task was due and the one at which it went on.
        """
        try:
            self.event_loop_lag.observe(seconds)
        except Exception:  # noqa: BLE001
            self._runtime_failed("track_event_loop_lag")

    def track_gc_pause(self, generation: int, seconds: float) -> None:
        """Record how long the garbage collector took.

        Args:
            generation: up to which it collected, from 0 to 2.
            seconds: from its begin to its end.
        """
        try:
            self.gc_pause.labels(GC_GENERATIONS[generation]).observe(seconds)
        except Exception:  # noqa: BLE001
            self._runtime_failed("track_gc_pause")

    def update_thread_pool(self, pool: ThreadPool, running: int, waiting: int) -> None:
        """Say how many tasks a pool of threads has.

        Args:
            pool: which.
            running: tasks that have a thread.
            waiting: tasks that wait for one.
        """
        try:
            self.thread_pool_tasks.labels(pool, "running").set(running)
            self.thread_pool_tasks.labels(pool, "waiting").set(waiting)
        except Exception:  # noqa: BLE001
            self._runtime_failed("update_thread_pool")
