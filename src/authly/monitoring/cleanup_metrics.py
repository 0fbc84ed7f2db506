"""The metrics of periodic jobs."""

from typing import Protocol

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import TASKS, RunStatus

CLEANUP_RUNS = Definition(
    "authly_cleanup_runs_total",
    "counter",
    "Runs of periodic jobs, by how they ended.",
    {"task": closed(TASKS), "status": closed(RunStatus)},
    detail="Among them `signing_keys` and `backchannel_logouts`, whose rows are keys that were replaced and clients "
    "that were told.",
    example='sum by (task) (increase(authly_cleanup_runs_total{status!="success"}[1h])) > 0',
)
CLEANUP_ROWS_DELETED = Definition(
    "authly_cleanup_rows_deleted_total",
    "counter",
    "Rows that periodic jobs deleted.",
    {"task": closed(TASKS)},
    example="sum by (task) (rate(authly_cleanup_rows_deleted_total[1h]))",
)
CLEANUP_LAST_SUCCESS = Definition(
    "authly_cleanup_last_success_timestamp_seconds",
    "gauge",
    "When a periodic job last succeeded.",
    {"task": closed(TASKS)},
    mode="max",
    example="time() - authly_cleanup_last_success_timestamp_seconds > 7200",
)


class CleanupRecorder(Protocol):
    """What can be recorded of periodic jobs."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Count a run of a job, and the rows it deleted."""


class NullCleanupMetrics:
    """Records nothing of periodic jobs."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Do nothing."""


class CleanupMetrics(Layer):
    """Counts runs of periodic jobs, and what they deleted.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.cleanup_runs = instruments.counter(CLEANUP_RUNS, CLEANUP_RUNS.series())
        self.cleanup_rows_deleted = instruments.counter(CLEANUP_ROWS_DELETED, CLEANUP_ROWS_DELETED.series())
        # Appears with the first success: 0 would be one in 1970.
        self.cleanup_last_success = instruments.gauge(CLEANUP_LAST_SUCCESS)

    @recording
    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Count a run of a job, and the rows it deleted.

        Args:
            task: the name of the job.
            status: success, error or timeout.
            rows: deleted by it, before it failed too.
        """
        self.cleanup_runs.labels(task, status).inc()
        self.cleanup_rows_deleted.labels(task).inc(rows)
        if status == RunStatus.SUCCESS:
            self.cleanup_last_success.labels(task).set_to_current_time()
