"""The metrics of the OAuth protocol: requests by outcome, and what is issued and revoked."""

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.instruments import Instruments, Layer
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
    SIGNED_TOKENS,
    TOKEN_STATUSES,
    ClientEndpoint,
)

# A signature by RSA takes about a millisecond, one on a curve a tenth of that.
GENERATION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

# Without clients' names there is one value, which Prometheus takes for no label at all.
_CLIENT = described("12 hexadecimal digits for each of 200 clients at most, then `other`; empty by default", "")
_CLIENT_NAMED = described("12 hexadecimal digits for each of 200 clients at most, then `other`")

TOKEN_REQUESTS = Definition(
    "authly_oauth_token_requests_total",
    "counter",
    "Token requests whose form could be read, by how they ended.",
    {"grant_type": closed((*GRANT_TYPES, OTHER)), "status": closed(TOKEN_STATUSES), "client_id": _CLIENT},
    detail="The status is `success` or the error code that the client was told. `client_id` is empty unless "
    "`AUTHLY_METRICS_INCLUDE_CLIENT_IDS` is true; `authly metrics client` tells how a client is called then.",
    example='sum by (status) (rate(authly_oauth_token_requests_total{status!="success"}[5m]))',
)
AUTHORIZATION_REQUESTS = Definition(
    "authly_oauth_authorization_requests_total",
    "counter",
    "Authorization requests that were answered, by the answer.",
    {
        "response_type": closed((*RESPONSE_TYPES, OTHER)),
        "status": closed(AUTHORIZATION_STATUSES),
        "client_id": _CLIENT,
    },
    detail="Pages on the way to the answer (login, consent) do not count. `response_type` is `other` if it is missing.",
    example="sum by (status) (rate(authly_oauth_authorization_requests_total[5m]))",
)
CLIENT_AUTHENTICATIONS = Definition(
    "authly_oauth_client_authentications_total",
    "counter",
    "Attempts of clients to authenticate.",
    {"method": closed((*AUTH_METHODS, OTHER)), "status": closed(AUTHENTICATION_STATUSES)},
    detail="At any endpoint. `other`: the client does not say who it is, or says it in more than one way. `error`: "
    "nobody could tell, because the database was away.",
    example='sum(rate(authly_oauth_client_authentications_total{status="failure"}[5m])) > 1',
)
CLIENT_REQUESTS = Definition(
    "authly_oauth_client_requests_total",
    "counter",
    "Requests of clients that are known, by client.",
    {"client_id": _CLIENT_NAMED, "endpoint": closed(ClientEndpoint)},
    detail="Only where client ids are included: who authenticated, or asked users and got an answer.",
    example="topk(5, sum by (client_id) (rate(authly_oauth_client_requests_total[5m])))",
)
INTROSPECTIONS = Definition(
    "authly_oauth_introspections_total",
    "counter",
    "Introspections, by what was found.",
    {"status": closed(INTROSPECTION_STATUSES)},
    detail="`error`: the request named no token, or nobody could tell.",
    example='sum(rate(authly_oauth_introspections_total{status="inactive"}[5m]))',
)
GENERATION_DURATION = Definition(
    "authly_oauth_token_generation_duration_seconds",
    "histogram",
    "Time that it took to make a token that is signed.",
    {"token_type": closed(SIGNED_TOKENS)},
    buckets=GENERATION_BUCKETS,
    exemplars=True,
    detail="Of an ID token, with the look-up of what it says of the user. Refresh tokens are not signed.",
    example="histogram_quantile(0.99, sum by (token_type, le) "
    "(rate(authly_oauth_token_generation_duration_seconds_bucket[5m])))",
)
TOKENS_ISSUED = Definition(
    "authly_oauth_tokens_issued_total",
    "counter",
    "Tokens that clients were given.",
    {"token_type": closed(dict.fromkeys(type_ for type_, _ in ISSUED_TOKENS)), "grant_type": closed(GRANT_TYPES)},
    detail="A refresh token that a client gets once more, because it missed an answer, was issued before.",
    example="sum by (token_type) (increase(authly_oauth_tokens_issued_total[1h]))",
)
TOKEN_REVOCATIONS = Definition(
    "authly_oauth_token_revocations_total",
    "counter",
    "What was revoked before its time, access tokens by themselves or authorizations with all that they led to.",
    {
        "token_type": closed(dict.fromkeys(type_ for type_, _ in REVOCATIONS)),
        "reason": closed(dict.fromkeys(reason for _, reason in REVOCATIONS)),
    },
    detail="`family` is an authorization with all that it led to. `client`: the client did not want it any more. "
    "`logout`: the session ended. `admin`: an administrator, or the end of a user or client. `consent`: the user took "
    "it back. `code_reuse`, `refresh_reuse`: something was presented twice. Tokens that expire are not revoked; "
    "`authly_cleanup_rows_deleted_total` counts what is deleted.",
    example='increase(authly_oauth_token_revocations_total{reason=~"code_reuse|refresh_reuse"}[1h]) > 0',
)


class OAuthMetrics(Layer):
    """Counts requests of clients, and what they lead to.

    Args:
        instruments: make the metrics, and say how clients are called.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)

        def counter(definition: Definition, series: list[tuple[str, ...]], call: str) -> ClosedCounter:
            return ClosedCounter(instruments, definition, series, call)

        def all_of(definition: Definition) -> list[tuple[str, ...]]:
            return list(definition.series())

        self._token_requests = counter(TOKEN_REQUESTS, all_of(TOKEN_REQUESTS), "token_request_ended")
        self._authorizations = counter(
            AUTHORIZATION_REQUESTS, all_of(AUTHORIZATION_REQUESTS), "authorization_request_ended"
        )
        self._proofs = counter(CLIENT_AUTHENTICATIONS, all_of(CLIENT_AUTHENTICATIONS), "client_authentication_ended")
        self._client_requests = counter(CLIENT_REQUESTS, [], "client_requests")
        self.introspection_ended = counter(INTROSPECTIONS, all_of(INTROSPECTIONS), "introspection_ended").count
        self.token_generated = ClosedHistogram(instruments, GENERATION_DURATION, "token_generated").observe
        self.token_issued = counter(TOKENS_ISSUED, list(ISSUED_TOKENS), "token_issued").count
        self._revoked = counter(TOKEN_REVOCATIONS, list(REVOCATIONS), "tokens_revoked")
        self._client_labels = instruments.client_labels

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
        if label:
            self._client_requests.count(label, ClientEndpoint.AUTHORIZE)

    def client_authentication_ended(self, method: str, status: str, endpoint: ClientEndpoint, client_id: str) -> None:
        """Count an attempt of a client to authenticate.

        Args:
            method: how it tried; nothing where it did not say who it is.
            status: ``success``, ``failure``, or ``error`` where nobody could tell.
            endpoint: where.
            client_id: of the client if it authenticated, or nothing.
        """
        self._proofs.count(method, status)
        label = self._client_labels.of(client_id)
        if label:
            self._client_requests.count(label, endpoint)

    def tokens_revoked(self, token_type: str, reason: str, number: int) -> None:
        """Count what is no longer valid before its time.

        Args:
            token_type: ``access_token``, or ``family`` for an authorization with everything that it led to.
            reason: why.
            number: how many it were.
        """
        self._revoked.add(number, token_type, reason)
