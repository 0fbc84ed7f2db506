"""The metrics of HTTP requests: what the middlewares tell, recorded with prometheus-client.

Any application may construct them; Authly's own are the same ones under its name.
"""

from functools import partial
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.instruments import Instruments, Layer
from authly.monitoring.labels import MAX_ENDPOINTS, METHODS, OTHER, UNMATCHED, Vocabulary
from authly.monitoring.multiprocess.bound import Labels, Measured, counting, measuring
from authly.monitoring.traceparent import CURRENT_TRACE

REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_METHOD = closed((*sorted(METHODS), OTHER))
_ENDPOINT = described(
    "the template of the route (`/users/{id}`), or the path of the mount for what a mounted application does not know; "
    f"at most {MAX_ENDPOINTS}",
    UNMATCHED,
    OTHER,
)
_STATUS_CODE = described("a status of HTTP, which the application chooses")


class RequestDefinitions(NamedTuple):
    """The families of HTTP requests, under the names that an application gives them."""

    requests: Definition
    duration: Definition
    in_progress: Definition


def request_definitions(namespace: str = "") -> RequestDefinitions:
    """Return the families of HTTP requests.

    Args:
        namespace: what their names begin with; empty for nothing.
    """
    prefix = f"{namespace}_" if namespace else ""
    requests, duration = f"{prefix}http_requests_total", f"{prefix}http_request_duration_seconds"
    in_progress = f"{prefix}http_requests_in_progress"
    return RequestDefinitions(
        Definition(
            requests,
            "counter",
            "HTTP requests, counted when their status is known.",
            {"method": _METHOD, "endpoint": _ENDPOINT, "status_code": _STATUS_CODE},
            detail="Counted before any of the response is sent. The status is 499 for a request that was cancelled "
            "before there was one.",
            example=f'sum(rate({requests}{{status_code=~"5.."}}[5m])) / sum(rate({requests}[5m]))',
        ),
        Definition(
            duration,
            "histogram",
            "Time from the arrival of an HTTP request to the last byte of its response.",
            {"method": _METHOD, "endpoint": _ENDPOINT},
            buckets=REQUEST_BUCKETS,
            exemplars=True,
            example=f"histogram_quantile(0.99, sum by (endpoint, le) (rate({duration}_bucket[5m])))",
        ),
        Definition(
            in_progress,
            "gauge",
            "HTTP requests that are being answered at this moment.",
            {"method": _METHOD},
            mode="livesum",
            example=f"sum({in_progress})",
        ),
    )


class RequestMetrics(Layer):
    """Counts and times HTTP requests: ``http_requests_total`` and its kin.

    Args:
        instruments: make the metrics, and say what their names begin with; by default, with nothing.
    """

    def __init__(self, instruments: Instruments | None = None) -> None:
        instruments = instruments or Instruments()
        super().__init__(instruments)
        requests, duration, in_progress = request_definitions(instruments.namespace)
        self.http_requests = instruments.counter(requests)
        self.http_request_duration = instruments.histogram(duration)
        methods = [(method,) for method in (*sorted(METHODS), OTHER)]
        self.http_requests_in_progress = instruments.gauge(in_progress, methods)
        self._method = Vocabulary(METHODS)
        self._endpoint = Vocabulary(frozenset({UNMATCHED}), MAX_ENDPOINTS)
        self._overflow = instruments.overflow(requests)
        self.request_started = counting(self._closed, self._in_progress, partial(self._report, "request_started"))
        self.response_started = counting(
            self._closed_and_told, self._requests, partial(self._report, "response_started")
        )
        self.request_ended = measuring(
            self._closed, self._ended, partial(self._report, "request_ended"), CURRENT_TRACE.get
        )

    def _closed(self, labels: Labels) -> Labels:
        """Return labels with ``other`` for a method that is unheard of, and for endpoints beyond the bound."""
        method, *endpoint = labels[:2]
        return (self._method(method), *map(self._endpoint, endpoint), *labels[2:])

    def _closed_and_told(self, labels: Labels) -> Labels:
        closed = self._closed(labels)
        if closed != labels:
            self._overflow()
        return closed

    def _in_progress(self, labels: Labels) -> Gauge:
        return self.http_requests_in_progress.labels(*labels)

    def _requests(self, labels: Labels) -> Counter:
        return self.http_requests.labels(*labels)

    def _ended(self, labels: Labels) -> Measured:
        method, _ = labels
        return Measured(self.http_requests_in_progress.labels(method), -1.0, self.http_request_duration.labels(*labels))


class NullRequestMetrics:
    """Records nothing of requests."""

    def request_started(self, method: str) -> None:
        """Do nothing."""

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Do nothing."""

    def request_ended(self, method: str, endpoint: str, seconds: float) -> None:
        """Do nothing."""
