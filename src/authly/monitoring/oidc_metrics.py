"""The metrics of OpenID Connect: requests by endpoint, and how long ID tokens take."""

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer
from authly.monitoring.labels import OIDC_REQUESTS, SIGNING_ALGORITHMS

SIGNATURE_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)

REQUESTS = Definition(
    "authly_oidc_requests_total",
    "counter",
    "Requests to the endpoints of OpenID Connect that were answered, by the answer.",
    {
        "endpoint": closed(dict.fromkeys(endpoint for endpoint, _ in OIDC_REQUESTS)),
        "status": closed(dict.fromkeys(status for _, status in OIDC_REQUESTS)),
    },
    detail="`discovery` are both metadata documents. The question whether a user wants to log out is no answer yet.",
    example='sum by (endpoint) (rate(authly_oidc_requests_total{status!="success"}[5m]))',
)
ID_TOKEN_DURATION = Definition(
    "authly_oidc_id_token_duration_seconds",
    "histogram",
    "Time that it took to sign an ID token.",
    {"algorithm": closed(SIGNING_ALGORITHMS)},
    buckets=SIGNATURE_BUCKETS,
    exemplars=True,
    example="histogram_quantile(0.99, sum by (algorithm, le) (rate(authly_oidc_id_token_duration_seconds_bucket[5m])))",
)


class OIDCMetrics(Layer):
    """Counts requests of OpenID Connect, and times signatures of ID tokens.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.oidc_request_ended = ClosedCounter(instruments, REQUESTS, OIDC_REQUESTS, "oidc_request_ended").count
        self.id_token_signed = ClosedHistogram(instruments, ID_TOKEN_DURATION, "id_token_signed").observe
