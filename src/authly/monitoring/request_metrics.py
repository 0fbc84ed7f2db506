"""The metrics of HTTP requests: what the middlewares tell, recorded with prometheus-client.

Any application may construct them; Authly's own are the same ones under its name.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from authly.monitoring.labels import MAX_ENDPOINTS, METHODS, OTHER, UNMATCHED, Vocabulary
from authly.monitoring.middleware import Exchange
from authly.monitoring.multiprocess.bound import Failed, Increment, Observation, completion, increment, keep_exemplar

# 0.25 s and 1 s are edges in any resolution, because the service level objectives count on them.
REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_K = TypeVar("_K")
_V = TypeVar("_V")

_log = logging.getLogger(__name__)


class Lookup(dict[_K, _V]):
    """What was found before, and a way to find the rest: a mapping that has something for every key.

    Args:
        find: called for a key that the mapping does not hold; whether to keep what it returns is its affair.
        known: what is held from the start.
    """

    def __init__(self, find: Callable[[_K], _V], known: Mapping[_K, _V] | None = None) -> None:
        super().__init__(known or {})
        self._find = find

    def __missing__(self, key: _K) -> _V:
        """Find what the mapping does not hold."""
        return self._find(key)


class NullExchange:
    """Records nothing of a request."""

    def response_started(self) -> None:
        """Do nothing."""

    def request_ended(self, seconds: float) -> None:
        """Do nothing."""

    def keep_trace(self, seconds: float, trace_id: str) -> None:
        """Do nothing."""


NULL_EXCHANGE = NullExchange()


class HTTPExchange:
    """Counts and times HTTP requests of one method, endpoint and status.

    Args:
        count: counts one; called when the status is known.
        complete: takes how long one took, in seconds.
        durations: keeps the exemplars.
        failed: called where an exemplar cannot be kept.
    """

    __slots__ = ("_durations", "_failed", "request_ended", "response_started")

    def __init__(self, count: Increment, complete: Observation, durations: Histogram, failed: Failed) -> None:
        self.response_started = count
        self.request_ended = complete
        self._durations = durations
        self._failed = failed

    def keep_trace(self, seconds: float, trace_id: str) -> None:
        """Let a request be the exemplar of its duration.

        Args:
            seconds: how long it took.
            trace_id: of the trace that it was part of; empty if there is none.
        """
        if trace_id:
            try:
                keep_exemplar(self._durations, seconds, {"trace_id": trace_id})
            except Exception:  # noqa: BLE001
                self._failed()


class RequestMetrics:
    """Counts and times HTTP requests: ``http_requests_total`` and its kin.

    Args:
        namespace: what their names begin with; empty for nothing.
        registry: where the metrics are registered.
    """

    def __init__(self, namespace: str = "", registry: CollectorRegistry = REGISTRY) -> None:
        self.label_overflow = Counter(
            "metrics_label_overflow_total",
            "Label values that were outside their vocabulary and became other.",
            ["metric"],
            namespace=namespace,
            registry=registry,
        )
        self.http_requests = Counter(
            "http_requests_total",
            "HTTP requests, counted when their status is known.",
            ["method", "endpoint", "status_code"],
            namespace=namespace,
            registry=registry,
        )
        self.http_request_duration = Histogram(
            "http_request_duration_seconds",
            "Time from the arrival of an HTTP request to the last byte of its response.",
            ["method", "endpoint"],
            buckets=REQUEST_BUCKETS,
            namespace=namespace,
            registry=registry,
        )
        self.http_requests_in_progress = Gauge(
            "http_requests_in_progress",
            "HTTP requests that are being answered at this moment.",
            ["method"],
            multiprocess_mode="livesum",
            namespace=namespace,
            registry=registry,
        )
        self._method = Vocabulary(METHODS)
        self._endpoint = Vocabulary(frozenset({UNMATCHED}), MAX_ENDPOINTS)
        self._http_overflow = self.label_overflow.labels(f"{namespace}_http_requests_total".lstrip("_"))
        self._failures: set[str] = set()
        failed = partial(self._report_failure, "arrivals")
        arrivals = {
            method: increment(self.http_requests_in_progress.labels(method), failed)
            for method in (*sorted(METHODS), OTHER)
        }
        self.arrivals = Lookup[str, Increment](lambda _: arrivals[OTHER], arrivals)
        # Finding the child of a labelled metric costs more than writing to it; each is looked for once.
        self.exchanges = Lookup[tuple[str, str, int], Exchange](self._exchange)

    def _exchange(self, kind: tuple[str, str, int]) -> Exchange:
        """Return what counts and times HTTP requests of one method (as the client sent it), endpoint and status."""
        method, endpoint, status = kind
        try:
            known = self._method(method), self._endpoint(endpoint)
            durations = self.http_request_duration.labels(*known)
            in_progress = self.http_requests_in_progress.labels(known[0])
            failed = partial(self._report_failure, "request_ended")
            made = HTTPExchange(
                increment(
                    self.http_requests.labels(*known, str(status)), partial(self._report_failure, "response_started")
                ),
                completion(in_progress, durations, failed),
                durations,
                failed,
            )
            # Clients choose methods: a value outside its vocabulary is not kept.
            if known == (method, endpoint):
                self.exchanges[kind] = made
            else:
                self._http_overflow.inc()
        except Exception:  # noqa: BLE001
            self._report_failure("exchanges")
            return NULL_EXCHANGE
        return made

    def _report_failure(self, call: str) -> None:
        """Say once for each call that it fails, with the exception that is being handled."""
        if call not in self._failures:
            self._failures.add(call)
            _log.exception("A metric could not be recorded (%s); this is said once", call)
