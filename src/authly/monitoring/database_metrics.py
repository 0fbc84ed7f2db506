"""The metrics of the database: queries by their names, and the pool of connections.

Is told names, outcomes and times, never SQL; asks the database nothing.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal, Protocol

from authly.monitoring.closed_metrics import closing
from authly.monitoring.database_operations import DATABASE_OPERATIONS
from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.multiprocess.bound import Labels, Measured, measuring
from authly.monitoring.traceparent import CURRENT_TRACE

# Few, for there are many operations. Most queries take about a millisecond, and none longer than the timeout.
QUERY_BUCKETS = (0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0)
QUERY_STATUSES = ("success", "error")
CONNECTION_STATES = ("idle", "in_use")
POOL_OUTCOMES = ("immediate", "queued", "error")

Status = Literal["success", "error"]

# An unregistered name becomes ``other``, and has no series until there is one.
_OPERATION = closed(sorted(DATABASE_OPERATIONS))

QUERIES = Definition(
    "authly_database_queries_total",
    "counter",
    "Queries that ended, by the names that repositories give them.",
    {"operation": _OPERATION, "status": closed(QUERY_STATUSES)},
    detail="`levels.count` is several of them, and times all together with the wait for a connection. What Authly runs "
    "besides its repositories (migrations, readiness, messages between workers, the election) has no name and is not "
    "among the queries.",
    example='sum by (operation) (rate(authly_database_queries_total{status="error"}[5m])) > 0',
)
QUERY_DURATION = Definition(
    "authly_database_query_duration_seconds",
    "histogram",
    "Time that queries took, without the wait for a connection.",
    {"operation": _OPERATION},
    buckets=QUERY_BUCKETS,
    exemplars=True,
    example="topk(5, histogram_quantile(0.99, sum by (operation, le) "
    "(rate(authly_database_query_duration_seconds_bucket[5m]))))",
)
CONNECTIONS = Definition(
    "authly_database_connections",
    "gauge",
    "Connections of the workers' pools.",
    {"state": closed(CONNECTION_STATES)},
    mode="livesum",
    detail="The pools are looked at every `AUTHLY_METRICS_COLLECTION_INTERVAL` seconds and when a worker ends; a "
    "worker that is killed takes what its pool counted since the last look with it.",
    example='authly_database_connections{state="in_use"} / ignoring(state) authly_database_connections_max',
)
CONNECTIONS_MAX = Definition(
    "authly_database_connections_max",
    "gauge",
    "Connections that the workers' pools may have.",
    mode="livesum",
    example="sum(authly_database_connections_max)",
)
REQUESTS_WAITING = Definition(
    "authly_database_requests_waiting",
    "gauge",
    "Queries and transactions that wait for a connection.",
    mode="livesum",
    example="authly_database_requests_waiting > 0",
)
POOL_REQUESTS = Definition(
    "authly_database_pool_requests_total",
    "counter",
    "Requests for a connection, by how they were met.",
    {"outcome": closed(POOL_OUTCOMES)},
    detail="`immediate`: one was free. `queued`: it came in time. `error`: none came.",
    example='1 - sum(rate(authly_database_pool_requests_total{outcome="immediate"}[5m])) '
    "/ sum(rate(authly_database_pool_requests_total[5m]))",
)
POOL_WAIT = Definition(
    "authly_database_pool_wait_seconds_total",
    "counter",
    "Time spent waiting for connections.",
    detail="In whole milliseconds each.",
    example="rate(authly_database_pool_wait_seconds_total[5m])",
)


class DatabaseRecorder(Protocol):
    """What can be recorded of the database."""

    def query_ended(self, operation: str, status: Status, seconds: float, /) -> None:
        """Count and time a query.

        Args:
            operation: its name.
            status: success or error.
            seconds: without the wait for a connection.
        """

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Take over what a pool says of itself."""


class NullDatabaseMetrics:
    """Records nothing of the database."""

    def query_ended(self, operation: str, status: Status, seconds: float) -> None:
        """Do nothing."""

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Do nothing."""


class DatabaseMetrics(Layer):
    """Counts and times queries, and shows the pool of connections.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.database_queries = instruments.counter(QUERIES, QUERIES.series())
        self.database_query_duration = instruments.histogram(QUERY_DURATION)
        self.database_connections = instruments.gauge(CONNECTIONS, CONNECTIONS.series())
        self.database_connections_max = instruments.gauge(CONNECTIONS_MAX)
        self.database_requests_waiting = instruments.gauge(REQUESTS_WAITING)
        self.database_pool_requests = instruments.counter(POOL_REQUESTS, POOL_REQUESTS.series())
        self.database_pool_wait = instruments.counter(POOL_WAIT)
        self.query_ended = measuring(
            closing(instruments, QUERIES), self._queries, partial(self._report, "query_ended"), CURRENT_TRACE.get
        )
        # The highest that each count of the pool has been; what is added to a counter is what lies above.
        self._pool_counts: dict[str, float] = {}

    @recording
    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Take over what a pool says of itself.

        Args:
            stats: as ``psycopg_pool`` gives them; counts that are still 0 are missing.
        """
        size, available = stats.get("pool_size", 0), stats.get("pool_available", 0)
        self.database_connections.labels("idle").set(available)
        self.database_connections.labels("in_use").set(max(size - available, 0))
        self.database_connections_max.set(stats.get("pool_max", 0))
        waiting = stats.get("requests_waiting", 0)
        self.database_requests_waiting.set(waiting)
        queued, errors = stats.get("requests_queued", 0), stats.get("requests_errors", 0)
        for outcome, count in (
            ("immediate", stats.get("requests_num", 0) - queued),
            ("queued", queued - errors - waiting),
            ("error", errors),
        ):
            self.database_pool_requests.labels(outcome).inc(self._rise(outcome, count))
        self.database_pool_wait.inc(self._rise("wait", stats.get("requests_wait_ms", 0) / 1000))

    def _rise(self, name: str, count: float) -> float:
        """Return by how much a count is higher than ever before."""
        highest = self._pool_counts.get(name, 0.0)
        self._pool_counts[name] = max(highest, count)
        return max(count - highest, 0.0)

    def _queries(self, labels: Labels) -> Measured:
        operation, status = labels
        durations = self.database_query_duration.labels(operation)
        return Measured(self.database_queries.labels(operation, status), 1.0, durations)
