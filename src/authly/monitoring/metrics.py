"""Every metric of Authly, and the typed calls that record them.

Services are given an :class:`AuthlyMetrics`, or a :class:`NullMetrics` where nothing is to be measured; they never
ask which. A recording call takes enums and numbers, does no I/O beyond a write to mapped memory, and never raises.
"""

import logging
import platform
from collections.abc import Callable
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from authly import __version__
from authly.monitoring.labels import MAX_ENDPOINTS, METHODS, OTHER, UNMATCHED, Vocabulary
from authly.monitoring.middleware import Exchange
from authly.monitoring.multiprocess.bound import Write, completion, increment

# 0.25 s and 1 s are edges in any resolution, because the service level objectives count on them.
REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_log = logging.getLogger(__name__)


class Metrics(Protocol):
    """What can be recorded."""

    def request_started(self, method: str) -> None:
        """Note that an HTTP request came in."""

    def exchange(self, method: str, endpoint: str, status: int) -> Exchange:
        """Return what counts and times HTTP requests of one method, endpoint and status."""

    def update_application_info(self, environment: str) -> None:
        """Say what is running."""


class NullExchange:
    """Records nothing of a request."""

    def response_started(self) -> None:
        """Do nothing."""

    def request_ended(self, seconds: float, trace_id: str = "") -> None:
        """Do nothing."""


_NULL_EXCHANGE = NullExchange()


class NullMetrics:
    """Records nothing."""

    def request_started(self, method: str) -> None:
        """Do nothing."""

    def exchange(self, method: str, endpoint: str, status: int) -> Exchange:
        """Return what does nothing."""
        return _NULL_EXCHANGE

    def update_application_info(self, environment: str) -> None:
        """Do nothing."""


class HTTPExchange:
    """Counts and times HTTP requests of one method, endpoint and status.

    Args:
        count: adds to their number.
        in_progress: those of the method that are being answered.
        durations: how long they took.
        report_failure: takes the name of a call that failed, while its exception is handled.
    """

    __slots__ = ("_complete", "_count", "_durations", "_in_progress", "_report_failure")

    def __init__(
        self, count: Write, in_progress: Gauge, durations: Histogram, report_failure: Callable[[str], None]
    ) -> None:
        self._count = count
        self._in_progress = in_progress
        self._durations = durations
        self._complete = completion(in_progress, durations)
        self._report_failure = report_failure

    def response_started(self) -> None:
        """Count a request."""
        try:
            self._count(1.0)
        except Exception:  # noqa: BLE001
            self._report_failure("response_started")

    def request_ended(self, seconds: float, trace_id: str = "") -> None:
        """Record how long a request took.

        Args:
            seconds: from its arrival to the last byte of its response.
            trace_id: of the trace that it was part of, which becomes an exemplar; empty if there is none.
        """
        try:
            if trace_id:
                self._in_progress.dec()
                self._durations.observe(seconds, exemplar={"trace_id": trace_id})
            else:
                self._complete(seconds)
        except Exception:  # noqa: BLE001
            self._report_failure("request_ended")


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
        self._method = Vocabulary(METHODS)
        self._endpoint = Vocabulary(frozenset({UNMATCHED}), MAX_ENDPOINTS)
        self._http_overflow = self.label_overflow.labels("authly_http_requests_total")
        # Finding the child of a labelled metric costs more than writing to it; each is looked for once. The keys are
        # what the middleware says, and clients choose methods: a value outside its vocabulary is not kept.
        self._exchanges: dict[tuple[str, str, int], HTTPExchange] = {}
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

    def exchange(self, method: str, endpoint: str, status: int) -> Exchange:
        """Return what counts and times HTTP requests of one method, endpoint and status.

        Args:
            method: as the client sent it.
            endpoint: the template of the route.
            status: the HTTP status.
        """
        found = self._exchanges.get((method, endpoint, status))
        if found is not None:
            return found
        try:
            known = self._method(method), self._endpoint(endpoint)
            made = HTTPExchange(
                increment(self.http_requests.labels(*known, str(status))),
                self.http_requests_in_progress.labels(known[0]),
                self.http_request_duration.labels(*known),
                self._report_failure,
            )
            if known == (method, endpoint):
                self._exchanges[method, endpoint, status] = made
            else:
                self._http_overflow.inc()
        except Exception:  # noqa: BLE001
            self._report_failure("exchange")
            return _NULL_EXCHANGE
        return made

    def update_application_info(self, environment: str) -> None:
        """Say what is running.

        Args:
            environment: the name of the deployment.
        """
        try:
            self.application_info.labels(__version__, platform.python_version(), environment).set(1)
        except Exception:  # noqa: BLE001
            self._report_failure("update_application_info")

    def _report_failure(self, call: str) -> None:
        """Say once for each call that it fails, with the exception that is being handled."""
        if call not in self._failures:
            self._failures.add(call)
            _log.exception("A metric could not be recorded (%s); this is said once", call)
