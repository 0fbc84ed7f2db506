"""The metrics of OpenID Connect: requests by endpoint, and how long ID tokens take."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.labels import OIDC_REQUESTS, SIGNING_ALGORITHMS
from authly.monitoring.oauth_metrics import GENERATION_BUCKETS


class OIDCMetrics:
    """Counts requests of OpenID Connect, and times signatures of ID tokens.

    Args:
        registry: where the metrics are registered.
        overflow: counts label values outside their vocabulary, by metric.
        failed: is told the name of a call that failed, while the exception is handled.
    """

    def __init__(self, registry: CollectorRegistry, overflow: Counter, failed: Callable[[str], None]) -> None:
        self.oidc_requests = Counter(
            "authly_oidc_requests_total",
            "Requests to the endpoints of OpenID Connect that were answered, by the answer.",
            ["endpoint", "status"],
            registry=registry,
        )
        self.oidc_id_token_duration = Histogram(
            "authly_oidc_id_token_duration_seconds",
            "Time that it took to sign an ID token.",
            ["algorithm"],
            buckets=GENERATION_BUCKETS,
            registry=registry,
        )
        self._oidc_requests = ClosedCounter(
            self.oidc_requests,
            OIDC_REQUESTS,
            overflow.labels("authly_oidc_requests_total"),
            partial(failed, "oidc_request_ended"),
        )
        self._id_tokens = ClosedHistogram(
            self.oidc_id_token_duration,
            [(algorithm,) for algorithm in SIGNING_ALGORITHMS],
            overflow.labels("authly_oidc_id_token_duration_seconds"),
            partial(failed, "id_token_signed"),
        )

    def oidc_request_ended(self, endpoint: str, status: str) -> None:
        """Count a request that was answered.

        Args:
            endpoint: ``discovery``, ``jwks``, ``userinfo`` or ``logout``.
            status: ``success`` or the error code.
        """
        self._oidc_requests.count(endpoint, status)

    def id_token_signed(self, algorithm: str, seconds: float) -> None:
        """Record how long it took to sign an ID token.

        Args:
            algorithm: with what.
            seconds: how long.
        """
        self._id_tokens.observe(seconds, algorithm)
