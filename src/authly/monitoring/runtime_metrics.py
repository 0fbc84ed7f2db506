"""The metrics of a worker's own state: its event loop, its garbage collector, its threads."""

from typing import Protocol

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import ThreadPool

LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
PAUSE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0)
GC_GENERATIONS = ("0", "1", "2")
TASK_STATES = ("running", "waiting")

EVENT_LOOP_LAG = Definition(
    "authly_event_loop_lag_seconds",
    "histogram",
    "By how much later than due the event loop came to a task.",
    buckets=LAG_BUCKETS,
    detail="Once a second: what a request waits for others at each of its steps.",
    example="histogram_quantile(0.99, sum by (le) (rate(authly_event_loop_lag_seconds_bucket[5m])))",
)
GC_PAUSE = Definition(
    "authly_gc_pause_seconds",
    "histogram",
    "Time that the garbage collector took, during which nothing else ran.",
    {"generation": closed(GC_GENERATIONS)},
    buckets=PAUSE_BUCKETS,
    detail="By the generation up to which it collected.",
    example="sum(rate(authly_gc_pause_seconds_sum[5m]))",
)
THREAD_POOL_TASKS = Definition(
    "authly_thread_pool_tasks",
    "gauge",
    "Tasks of the workers' pools of threads.",
    {"pool": closed(ThreadPool), "state": closed(TASK_STATES)},
    mode="livesum",
    detail="`running` have a thread, `waiting` wait for one. `passwords`: passwords to be hashed or verified.",
    example='authly_thread_pool_tasks{state="waiting"} > 0',
)


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


class RuntimeMetrics(Layer):
    """Shows how a worker fares.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.event_loop_lag = instruments.histogram(EVENT_LOOP_LAG)
        self.gc_pause = instruments.histogram(GC_PAUSE, GC_PAUSE.series())
        self.thread_pool_tasks = instruments.gauge(THREAD_POOL_TASKS, THREAD_POOL_TASKS.series())

    @recording
    def track_event_loop_lag(self, seconds: float) -> None:
        """Record by how much the event loop was late.

        Args:
            seconds: between the moment that a task was due and the one at which it went on.
        """
        self.event_loop_lag.observe(seconds)

    @recording
    def track_gc_pause(self, generation: int, seconds: float) -> None:
        """Record how long the garbage collector took.

        Args:
            generation: up to which it collected, from 0 to 2.
            seconds: from its begin to its end.
        """
        self.gc_pause.labels(GC_GENERATIONS[generation]).observe(seconds)

    @recording
    def update_thread_pool(self, pool: ThreadPool, running: int, waiting: int) -> None:
        """Say how many tasks a pool of threads has.

        Args:
            pool: which.
            running: tasks that have a thread.
            waiting: tasks that wait for one.
        """
        self.thread_pool_tasks.labels(pool, "running").set(running)
        self.thread_pool_tasks.labels(pool, "waiting").set(waiting)
