"""Every metric of Authly, and the typed calls that record them.

Services are given an :class:`AuthlyMetrics`, or a :class:`NullMetrics` where nothing is to be measured; they never
ask which. A recording call takes enums and numbers, does no I/O beyond a write to mapped memory, and never raises.
"""

import platform
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from authly import __version__
from authly.monitoring.database_metrics import DatabaseMetrics, DatabaseRecorder, NullDatabaseMetrics
from authly.monitoring.labels import SECURITY_EVENTS, SECURITY_EVENTS_HELP, SecurityEvent, Severity
from authly.monitoring.lifecycle_metrics import LifecycleMetrics, LifecycleRecorder, NullLifecycleMetrics
from authly.monitoring.middleware import Exchange, HTTPMetrics
from authly.monitoring.multiprocess.bound import Increment
from authly.monitoring.request_metrics import NULL_EXCHANGE, REQUEST_BUCKETS, Lookup, RequestMetrics
from authly.monitoring.runtime_metrics import NullRuntimeMetrics, RuntimeMetrics, RuntimeRecorder

_SECURITY_EVENTS = (
    (SecurityEvent.METRICS_DENIED, Severity.LOW),
    (SecurityEvent.METRICS_DENIED, Severity.MEDIUM),
    (SecurityEvent.ADMIN_DENIED, Severity.MEDIUM),
    (SecurityEvent.CORS_REJECTED, Severity.LOW),
    (SecurityEvent.HOST_REJECTED, Severity.LOW),
)


class Metrics(HTTPMetrics, DatabaseRecorder, RuntimeRecorder, LifecycleRecorder, Protocol):
    """What can be recorded."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack."""

    def update_application_info(self, environment: str) -> None:
        """Say what is running."""

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Count a request that was refused."""

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Record how long a store of rate limits took to answer."""

    def track_rate_limit_error(self, backend: str) -> None:
        """Count a question that a store of rate limits did not answer."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Count a request to the administration interface."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Count a run of a job, and the rows it deleted."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Count an operation of a cache."""


class NullMetrics(NullDatabaseMetrics, NullRuntimeMetrics, NullLifecycleMetrics):
    """Records nothing."""

    def __init__(self) -> None:
        self.arrivals = Lookup[str, Increment](lambda _: lambda: None)
        self.exchanges = Lookup[tuple[str, str, int], Exchange](lambda _: NULL_EXCHANGE)

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Do nothing."""

    def update_application_info(self, environment: str) -> None:
        """Do nothing."""

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Do nothing."""

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Do nothing."""

    def track_rate_limit_error(self, backend: str) -> None:
        """Do nothing."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Do nothing."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Do nothing."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Do nothing."""


class AuthlyMetrics(RequestMetrics, DatabaseMetrics, RuntimeMetrics, LifecycleMetrics):
    """Records into metrics of prometheus-client.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        RequestMetrics.__init__(self, "authly", registry)
        DatabaseMetrics.__init__(self, registry, self.label_overflow, self._report_failure)
        RuntimeMetrics.__init__(self, registry, self._report_failure)
        LifecycleMetrics.__init__(self, registry, self._report_failure)
        self.security_events = Counter(
            f"{SECURITY_EVENTS}_total",
            SECURITY_EVENTS_HELP,
            ["event_type", "severity"],
            registry=registry,
        )
        # From the start, so that the first one is an increase.
        for event, severity in _SECURITY_EVENTS:
            self.security_events.labels(event, severity)
        self.application_info = Gauge(
            "authly_application_info",
            "What is running; always 1.",
            ["version", "python_version", "environment"],
            multiprocess_mode="max",
            registry=registry,
        )
        self.rate_limit_hits = Counter(
            "authly_rate_limit_hits_total",
            "Requests refused because their client asked too often.",
            ["policy", "backend"],
            registry=registry,
        )
        self.rate_limit_check_duration = Histogram(
            "authly_rate_limit_check_duration_seconds",
            "Time that a store of rate limits took to answer.",
            ["backend"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.rate_limit_errors = Counter(
            "authly_rate_limit_errors_total",
            "Questions that a store of rate limits did not answer.",
            ["backend"],
            registry=registry,
        )
        self.admin_requests = Counter(
            "authly_admin_requests_total",
            "Requests to the administration interface.",
            ["resource", "action", "status"],
            registry=registry,
        )
        self.cleanup_runs = Counter(
            "authly_cleanup_runs_total",
            "Runs of periodic jobs, by how they ended.",
            ["task", "status"],
            registry=registry,
        )
        self.cleanup_rows_deleted = Counter(
            "authly_cleanup_rows_deleted_total",
            "Rows that periodic jobs deleted.",
            ["task"],
            registry=registry,
        )
        self.cleanup_last_success = Gauge(
            "authly_cleanup_last_success_timestamp_seconds",
            "When a periodic job last succeeded.",
            ["task"],
            multiprocess_mode="max",
            registry=registry,
        )
        self.cache_operations = Counter(
            "authly_cache_operations_total",
            "Look-ups in caches, and messages to other workers that something changed.",
            ["cache", "operation", "status"],
            registry=registry,
        )

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack.

        Args:
            event: what happened.
            severity: how much it means.
        """
        try:
            self.security_events.labels(event, severity).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_security_event")

    def update_application_info(self, environment: str) -> None:
        """Say what is running.

        Args:
            environment: the name of the deployment.
        """
        try:
            self.application_info.labels(__version__, platform.python_version(), environment).set(1)
        except Exception:  # noqa: BLE001
            self._report_failure("update_application_info")

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Count a request that was refused.

        Args:
            policy: under which.
            backend: who counted: redis, postgresql or memory.
        """
        try:
            self.rate_limit_hits.labels(policy, backend).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_rate_limit_hit")

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Record how long a store of rate limits took to answer.

        Args:
            backend: redis or postgresql.
            seconds: from the question to the answer.
        """
        try:
            self.rate_limit_check_duration.labels(backend).observe(seconds)
        except Exception:  # noqa: BLE001
            self._report_failure("track_rate_limit_check")

    def track_rate_limit_error(self, backend: str) -> None:
        """Count a question that a store of rate limits did not answer.

        Args:
            backend: redis or postgresql.
        """
        try:
            self.rate_limit_errors.labels(backend).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_rate_limit_error")

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Count a request to the administration interface.

        Args:
            resource: what it is about, of a closed set.
            action: create, read, update, delete or other.
            status: the HTTP status.
        """
        try:
            self.admin_requests.labels(resource, action, str(status)).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_admin_request")

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Count a run of a job, and the rows it deleted.

        Args:
            task: the name of the job.
            status: success, error or timeout.
            rows: deleted by it, before it failed too.
        """
        try:
            self.cleanup_runs.labels(task, status).inc()
            self.cleanup_rows_deleted.labels(task).inc(rows)
            if status == "success":
                self.cleanup_last_success.labels(task).set_to_current_time()
        except Exception:  # noqa: BLE001
            self._report_failure("track_cleanup_run")

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Count an operation of a cache.

        Args:
            cache: its name.
            operation: get or invalidate.
            status: hit or miss; success or error.
        """
        try:
            self.cache_operations.labels(cache, operation, status).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_cache_operation")
