"""The metrics of the OAuth protocol: requests by outcome, and what is issued and revoked."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

from authly.monitoring.client_labels import ClientLabels
from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.labels import (
    AUTH_METHODS,
    AUTHENTICATION_STATUSES,
    AUTHORIZATION_STATUSES,
    GRANT_TYPES,
    INTROSPECTION_STATUSES,
    ISSUED_TOKENS,
    OTHER,
    RESPONSE_TYPES,
    REVOCATIONS,
    TOKEN_STATUSES,
    ClientEndpoint,
)

# A signature by RSA takes about a millisecond, one on a curve a tenth of that.
GENERATION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
SIGNED_TOKENS = ("access_token", "id_token")


class OAuthMetrics:
    """Counts requests of clients, and what they lead to.

    Args:
        registry: where the metrics are registered.
        overflow: counts label values outside their vocabulary, by metric.
        failed: is told the name of a call that failed, while the exception is handled.
        client_labels: says how clients are called here.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        overflow: Counter,
        failed: Callable[[str], None],
        client_labels: ClientLabels,
    ) -> None:
        self.oauth_token_requests = Counter(
            "authly_oauth_token_requests_total",
            "Token requests whose form could be read, by how they ended.",
            ["grant_type", "status", "client_id"],
            registry=registry,
        )
        self.oauth_authorization_requests = Counter(
            "authly_oauth_authorization_requests_total",
            "Authorization requests that were answered, by the answer.",
            ["response_type", "status", "client_id"],
            registry=registry,
        )
        self.oauth_client_authentications = Counter(
            "authly_oauth_client_authentications_total",
            "Attempts of clients to authenticate.",
            ["method", "status"],
            registry=registry,
        )
        self.oauth_client_requests = Counter(
            "authly_oauth_client_requests_total",
            "Requests of clients that are known, by client; only where client ids are included.",
            ["client_id", "endpoint"],
            registry=registry,
        )
        self.oauth_introspections = Counter(
            "authly_oauth_introspections_total",
            "Introspections, by what was found.",
            ["status"],
            registry=registry,
        )
        self.oauth_token_generation_duration = Histogram(
            "authly_oauth_token_generation_duration_seconds",
            "Time that it took to make a token that is signed.",
            ["token_type"],
            buckets=GENERATION_BUCKETS,
            registry=registry,
        )
        self.oauth_tokens_issued = Counter(
            "authly_oauth_tokens_issued_total",
            "Tokens that clients were given.",
            ["token_type", "grant_type"],
            registry=registry,
        )
        self.oauth_token_revocations = Counter(
            "authly_oauth_token_revocations_total",
            "What was revoked before its time, access tokens by themselves or authorizations with all that they led to.",
            ["token_type", "reason"],
            registry=registry,
        )

        def counter(metric: Counter, name: str, kinds: list[tuple[str, ...]], free: int = 0) -> ClosedCounter:
            return ClosedCounter(metric, kinds, overflow.labels(f"{metric._name}_total"), partial(failed, name), free=free)

        tokens = [(grant, status, "") for grant in (*GRANT_TYPES, OTHER) for status in TOKEN_STATUSES]
        asked = [(type_, status, "") for type_ in (*RESPONSE_TYPES, OTHER) for status in AUTHORIZATION_STATUSES]
        proofs = [(method, status) for method in (*AUTH_METHODS, OTHER) for status in AUTHENTICATION_STATUSES]
        self._token_requests = counter(self.oauth_token_requests, "token_request_ended", tokens, 1)
        self._authorizations = counter(self.oauth_authorization_requests, "authorization_request_ended", asked, 1)
        self._proofs = counter(self.oauth_client_authentications, "client_authentication_ended", proofs)
        self._introspections = counter(
            self.oauth_introspections, "introspection_ended", [(status,) for status in INTROSPECTION_STATUSES]
        )
        self._issued = counter(self.oauth_tokens_issued, "token_issued", list(ISSUED_TOKENS))
        self._revoked = counter(self.oauth_token_revocations, "tokens_revoked", list(REVOCATIONS))
        self._generation = ClosedHistogram(
            self.oauth_token_generation_duration,
            [(type_,) for type_ in SIGNED_TOKENS],
            overflow.labels("authly_oauth_token_generation_duration_seconds"),
            partial(failed, "token_generated"),
        )
        self._client_labels = client_labels
        self._oauth_failed = failed

    def token_request_ended(self, grant_type: str, status: str, client_id: str) -> None:
        """Count a token request.

        Args:
            grant_type: as the client wrote it.
            status: ``success`` or the error code.
            client_id: of the client if it authenticated, or nothing.
        """
        self._token_requests.count(grant_type, status, self._client_labels.of(client_id))

    def authorization_request_ended(self, response_type: str, status: str, client_id: str) -> None:
        """Count an authorization request that was answered.

        Args:
            response_type: as the client wrote it.
            status: ``success`` or the error code.
            client_id: of the client if it is known, or nothing.
        """
        label = self._client_labels.of(client_id)
        self._authorizations.count(response_type, status, label)
        self._count_client(label, ClientEndpoint.AUTHORIZE)

    def client_authentication_ended(self, method: str, status: str, endpoint: ClientEndpoint, client_id: str) -> None:
        """Count an attempt of a client to authenticate.

        Args:
            method: how it tried; nothing where it did not say who it is.
            status: ``success``, ``failure``, or ``error`` where nobody could tell.
            endpoint: where.
            client_id: of the client if it authenticated, or nothing.
        """
        self._proofs.count(method, status)
        self._count_client(self._client_labels.of(client_id), endpoint)

    def introspection_ended(self, status: str) -> None:
        """Count an introspection.

        Args:
            status: ``active``, ``inactive`` or ``error``.
        """
        self._introspections.count(status)

    def token_generated(self, token_type: str, seconds: float) -> None:
        """Record how long it took to make a token that is signed.

        Args:
            token_type: ``access_token`` or ``id_token``.
            seconds: how long.
        """
        self._generation.observe(seconds, token_type)

    def token_issued(self, token_type: str, grant_type: str) -> None:
        """Count a token that a client was given.

        Args:
            token_type: ``access_token``, ``refresh_token`` or ``id_token``.
            grant_type: for what.
        """
        self._issued.count(token_type, grant_type)

    def tokens_revoked(self, token_type: str, reason: str, number: int) -> None:
        """Count what is no longer valid before its time.

        Args:
            token_type: ``access_token``, or ``family`` for an authorization with everything that it led to.
            reason: why.
            number: how many it were.
        """
        self._revoked.add(number, token_type, reason)

    def _count_client(self, label: str, endpoint: ClientEndpoint) -> None:
        if label:
            try:
                self.oauth_client_requests.labels(label, endpoint).inc()
            except Exception:  # noqa: BLE001
                self._oauth_failed("client_requests")
