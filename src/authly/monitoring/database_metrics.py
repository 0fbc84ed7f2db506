"""The metrics of the database: queries by their names, and the pool of connections.

Is told names, outcomes and times, never SQL; asks the database nothing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from authly.monitoring.database_operations import DATABASE_OPERATIONS
from authly.monitoring.labels import Vocabulary
from authly.monitoring.multiprocess.bound import Observation, tally
from authly.monitoring.request_metrics import Lookup

# Few, for there are many operations. Most queries take about a millisecond, and none longer than the timeout.
QUERY_BUCKETS = (0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0)
QUERY_STATUSES = ("success", "error")
CONNECTION_STATES = ("idle", "in_use")
POOL_OUTCOMES = ("immediate", "queued", "error")

Status = Literal["success", "error"]


class DatabaseRecorder(Protocol):
    """What can be recorded of the database."""

    def query_ended(self, operation: str, status: Status, seconds: float) -> None:
        """Count and time a query."""

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Take over what a pool says of itself."""


class NullDatabaseMetrics:
    """Records nothing of the database."""

    def query_ended(self, operation: str, status: Status, seconds: float) -> None:
        """Do nothing."""

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Do nothing."""


class DatabaseMetrics:
    """Counts and times queries, and shows the pool of connections.

    Args:
        registry: where the metrics are registered.
        overflow: counts label values outside their vocabulary, by metric.
        failed: is told the name of a call that failed, while the exception is handled.
    """

    def __init__(self, registry: CollectorRegistry, overflow: Counter, failed: Callable[[str], None]) -> None:
        self.database_queries = Counter(
            "authly_database_queries_total",
            "Queries that ended, by the names that repositories give them.",
            ["operation", "status"],
            registry=registry,
        )
        self.database_query_duration = Histogram(
            "authly_database_query_duration_seconds",
            "Time that queries took, without the wait for a connection.",
            ["operation"],
            buckets=QUERY_BUCKETS,
            registry=registry,
        )
        self.database_connections = Gauge(
            "authly_database_connections",
            "Connections of the workers' pools.",
            ["state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.database_connections_max = Gauge(
            "authly_database_connections_max",
            "Connections that the workers' pools may have.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.database_requests_waiting = Gauge(
            "authly_database_requests_waiting",
            "Queries and transactions that wait for a connection.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.database_pool_requests = Counter(
            "authly_database_pool_requests_total",
            "Requests for a connection, by how they were met.",
            ["outcome"],
            registry=registry,
        )
        self.database_pool_wait = Counter(
            "authly_database_pool_wait_seconds_total",
            "Time spent waiting for connections.",
            registry=registry,
        )
        for operation in sorted(DATABASE_OPERATIONS):
            for status in QUERY_STATUSES:
                self.database_queries.labels(operation, status)
        for outcome in POOL_OUTCOMES:
            self.database_pool_requests.labels(outcome)
        for state in CONNECTION_STATES:
            self.database_connections.labels(state)
        self._operation = Vocabulary(DATABASE_OPERATIONS)
        self._operation_overflow = overflow.labels("authly_database_queries_total")
        # The highest that each count of the pool has been; what is added to a counter is what lies above.
        self._pool_counts: dict[str, float] = {}
        self._database_failed = failed
        self._queries = Lookup[tuple[str, str], Observation](self._query)

    def query_ended(self, operation: str, status: Status, seconds: float) -> None:
        """Count and time a query.

        Args:
            operation: its name.
            status: success or error.
            seconds: without the wait for a connection.
        """
        self._queries[operation, status](seconds)

    def update_database_pool(self, stats: Mapping[str, int]) -> None:
        """Take over what a pool says of itself.

        Args:
            stats: as ``psycopg_pool`` gives them; counts that are still 0 are missing.
        """
        try:
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
        except Exception:  # noqa: BLE001
            self._database_failed("update_database_pool")

    def _rise(self, name: str, count: float) -> float:
        """Return by how much a count is higher than ever before."""
        highest = self._pool_counts.get(name, 0.0)
        self._pool_counts[name] = max(highest, count)
        return max(count - highest, 0.0)

    def _query(self, kind: tuple[str, str]) -> Observation:
        """Return what counts and times queries of one operation and status."""
        operation, status = kind
        failed = partial(self._database_failed, "query_ended")
        try:
            known = self._operation(operation)
            count = self.database_queries.labels(known, status)
            made = tally(count, self.database_query_duration.labels(known), failed)
            if known == operation:
                self._queries[kind] = made
            else:
                self._operation_overflow.inc()
        except Exception:  # noqa: BLE001
            failed()
            return _record_nothing
        return made


def _record_nothing(_: float) -> None:
    """Do nothing."""
