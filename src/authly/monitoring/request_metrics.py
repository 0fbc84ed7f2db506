"""The metrics of HTTP requests: what the middlewares tell, recorded with prometheus-client.

Any application may construct them; Authly's own are the same ones under its name.
"""

from functools import partial
from typing import Final, NamedTuple

from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.instruments import Instruments, Layer, Lookup
from authly.monitoring.labels import MAX_ENDPOINTS, METHODS, OTHER, UNMATCHED, Vocabulary
from authly.monitoring.middleware import Exchange
from authly.monitoring.multiprocess.bound import Increment, Observation, completion, increment
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


class HTTPExchange(NamedTuple):
    """Counts and times HTTP requests of one method, endpoint and status.

    Args:
        response_started: counts one; called when the status is known.
        request_ended: takes how long one took, in seconds.
    """

    response_started: Increment
    request_ended: Observation


NULL_EXCHANGE: Final = HTTPExchange(lambda: None, lambda _: None)


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
        self.http_requests_in_progress = instruments.gauge(in_progress)
        self._method = Vocabulary(METHODS)
        self._endpoint = Vocabulary(frozenset({UNMATCHED}), MAX_ENDPOINTS)
        self._overflow = instruments.overflow(requests)
        failed = partial(self._report, "arrivals")
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
            failed = partial(self._report, "request_ended")
            made = HTTPExchange(
                increment(self.http_requests.labels(*known, str(status)), partial(self._report, "response_started")),
                completion(in_progress, durations, failed, CURRENT_TRACE.get),
            )
            # Clients choose methods: a value outside its vocabulary is not kept.
            if known == (method, endpoint):
                self.exchanges[kind] = made
            else:
                self._overflow()
        except Exception:  # noqa: BLE001
            self._report("exchanges")
            return NULL_EXCHANGE
        return made


class NullRequestMetrics:
    """Records nothing of requests."""

    def __init__(self) -> None:
        self.arrivals = Lookup[str, Increment](lambda _: lambda: None)
        self.exchanges = Lookup[tuple[str, str, int], Exchange](lambda _: NULL_EXCHANGE)
