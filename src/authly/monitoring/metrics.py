"""Every metric of Authly, and the typed calls that record them.

Services are given an :class:`AuthlyMetrics`, or a :class:`NullMetrics` where nothing is to be measured; they never
ask which. A recording call takes enums and numbers, does no I/O beyond a write to mapped memory, and never raises.
"""

import logging
import platform
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from authly import __version__
from authly.monitoring.labels import MAX_ENDPOINTS, METHODS, OTHER, UNMATCHED, Vocabulary
from authly.monitoring.multiprocess.bound import Write, increment, observation

# 0.25 s and 1 s are edges in any resolution, because the service level objectives count on them.
REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_log = logging.getLogger(__name__)


class Metrics(Protocol):
    """What can be recorded."""

    def request_started(self, method: str) -> None:
        """Note that an HTTP request came in."""

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Count an HTTP request by its status."""

    def request_ended(self, method: str, endpoint: str, seconds: float, trace_id: str = "") -> None:
        """Record how long an HTTP request took."""

    def update_application_info(self, environment: str) -> None:
        """Say what is running."""

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Count a request that was refused."""

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Record how long a store of rate limits took to answer."""

    def track_rate_limit_error(self, backend: str) -> None:
        """Count a question that a store of rate limits did not answer."""

    def track_security_event(self, event: str, severity: str) -> None:
        """Count something that an operator may want to look into."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Count a request to the administration interface."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Count a run of a job, and the rows it deleted."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Count an operation of a cache."""


class NullMetrics:
    """Records nothing."""

    def request_started(self, method: str) -> None:
        """Do nothing."""

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Do nothing."""

    def request_ended(self, method: str, endpoint: str, seconds: float, trace_id: str = "") -> None:
        """Do nothing."""

    def update_application_info(self, environment: str) -> None:
        """Do nothing."""

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Do nothing."""

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Do nothing."""

    def track_rate_limit_error(self, backend: str) -> None:
        """Do nothing."""

    def track_security_event(self, event: str, severity: str) -> None:
        """Do nothing."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Do nothing."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Do nothing."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Do nothing."""


class AuthlyMetrics:
    """Records into metrics of prometheus-client.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.label_overflow = Counter(
            "authly_metrics_label_overflow_total",
            "Label values that were outside their vocabulary and became other.",
            ["metric"],
            registry=registry,
        )
        self.http_requests = Counter(
            "authly_http_requests_total",
            "HTTP requests, counted when their status is known.",
            ["method", "endpoint", "status_code"],
            registry=registry,
        )
        self.http_request_duration = Histogram(
            "authly_http_request_duration_seconds",
            "Time from the arrival of an HTTP request to the last byte of its response.",
            ["method", "endpoint"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.http_requests_in_progress = Gauge(
            "authly_http_requests_in_progress",
            "HTTP requests that are being answered at this moment.",
            ["method"],
            multiprocess_mode="livesum",
            registry=registry,
        )
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
        self.security_events = Counter(
            "authly_security_events_total",
            "Events that an operator may want to look into; each has a line in the log.",
            ["event_type", "severity"],
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
        self._method = Vocabulary(METHODS)
        self._endpoint = Vocabulary(frozenset({UNMATCHED}), MAX_ENDPOINTS)
        self._http_overflow = self.label_overflow.labels("authly_http_requests_total")
        # Finding the child of a labelled metric costs more than writing to it; each is looked for once. The keys are
        # what the middleware says, and clients choose methods: a value outside its vocabulary is not kept.
        self._request_counts: dict[tuple[str, str, int], Write] = {}
        self._durations: dict[tuple[str, str], tuple[Write, Histogram]] = {}
        self._in_progress = {
            method: increment(self.http_requests_in_progress.labels(method)) for method in (*sorted(METHODS), OTHER)
        }
        self._failures: set[str] = set()

    # What follows fails without failing what it records: with a try in each, because a decorator around them would
    # cost as much as what they do.

    def request_started(self, method: str) -> None:
        """Note that an HTTP request came in."""
        try:
            (self._in_progress.get(method) or self._in_progress[OTHER])(1.0)
        except Exception:  # noqa: BLE001
            self._report_failure("request_started")

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Count an HTTP request by its status.

        Args:
            method: as the client sent it.
            endpoint: the template of the route.
            status: the HTTP status.
        """
        try:
            count = self._request_counts.get((method, endpoint, status))
            if count is None:
                known = self._method(method), self._endpoint(endpoint)
                count = increment(self.http_requests.labels(*known, str(status)))
                if known == (method, endpoint):
                    self._request_counts[method, endpoint, status] = count
                else:
                    self._http_overflow.inc()
            count(1.0)
        except Exception:  # noqa: BLE001
            self._report_failure("response_started")

    def request_ended(self, method: str, endpoint: str, seconds: float, trace_id: str = "") -> None:
        """Record how long an HTTP request took.

        Args:
            method: as the client sent it.
            endpoint: the template of the route.
            seconds: from its arrival to the last byte of its response.
            trace_id: of the trace that it was part of, which becomes an exemplar; empty if there is none.
        """
        try:
            (self._in_progress.get(method) or self._in_progress[OTHER])(-1.0)
            found = self._durations.get((method, endpoint))
            if found is None:
                known = self._method(method), self._endpoint(endpoint)
                child = self.http_request_duration.labels(*known)
                found = observation(child), child
                if known == (method, endpoint):
                    self._durations[method, endpoint] = found
            observe, child = found
            if trace_id:
                child.observe(seconds, exemplar={"trace_id": trace_id})
            else:
                observe(seconds)
        except Exception:  # noqa: BLE001
            self._report_failure("request_ended")

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

    def track_security_event(self, event: str, severity: str) -> None:
        """Count something that an operator may want to look into.

        Args:
            event: its type, of a closed set.
            severity: low, medium or high.
        """
        try:
            self.security_events.labels(event, severity).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_security_event")

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

    def _report_failure(self, call: str) -> None:
        """Say once for each call that it fails, with the exception that is being handled."""
        if call not in self._failures:
            self._failures.add(call)
            _log.exception("A metric could not be recorded (%s); this is said once", call)
