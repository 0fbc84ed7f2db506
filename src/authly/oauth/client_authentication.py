"""How clients authenticate (RFC 6749, section 2.3; RFC 7523, section 2.2)."""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from urllib.parse import unquote_plus

from authly.errors import InvalidClientError, InvalidRequestError, OAuthError
from authly.monitoring.labels import ClientEndpoint
from authly.monitoring.recorders import OAuthRecorder
from authly.oauth import client_assertion
from authly.oauth.client_repository import ClientRepository
from authly.oauth.models import SECRET_METHODS, AuthMethod, Client
from authly.oauth.parameters import Parameters
from authly.oauth.security import SecurityEvents
from authly.tokens.secrets import hash_of

_BASIC = re.compile(r"basic +(?P<credentials>[A-Za-z0-9+/=_-]+) *", re.IGNORECASE)
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,255}")
# The same words whether the client is unknown or its secret wrong: nobody is told which clients there are.
_REFUSED = "The client is unknown, or did not authenticate as it is registered to."


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client proves itself with."""

    method: AuthMethod
    client_id: str
    secret: str = ""
    assertion: str = ""


def read_credentials(authorization: str | None, parameters: Parameters) -> Credentials:
    """Return what a client authenticates with.

    Args:
        authorization: the header of that name.
        parameters: those of the body.

    Raises:
        InvalidClientError: there is nothing, or it cannot be read.
        InvalidRequestError: there is more than one kind (RFC 6749, section 2.3).
    """
    in_header, in_body = authorization is not None, "client_secret" in parameters
    as_assertion = "client_assertion" in parameters or "client_assertion_type" in parameters
    if in_header + in_body + as_assertion > 1:
        raise InvalidRequestError("The client authenticates in more than one way.")
    if authorization is not None:
        credentials = _from_header(authorization)
    elif as_assertion:
        if parameters.get("client_assertion_type") != client_assertion.TYPE or "client_assertion" not in parameters:
            raise InvalidClientError("The client_assertion is missing, or of a type that Authly does not know.")
        assertion = parameters["client_assertion"]
        claimed = client_assertion.claimed_client_id(assertion)
        credentials = Credentials(AuthMethod.PRIVATE_KEY_JWT, claimed, assertion=assertion)
    elif "client_id" not in parameters:
        raise InvalidClientError("The client does not say who it is.")
    elif in_body:
        credentials = Credentials(
            AuthMethod.CLIENT_SECRET_POST, parameters["client_id"], secret=parameters["client_secret"]
        )
    else:
        credentials = Credentials(AuthMethod.NONE, parameters["client_id"])
    if parameters.get("client_id", credentials.client_id) != credentials.client_id:
        raise InvalidRequestError("The client_id in the body is another than the client that authenticates.")
    return credentials


class ClientAuthenticator:
    """Tells who a client is.

    Args:
        clients: who there is.
        audiences: whom assertions may be for: the issuer, and the endpoints where clients authenticate.
        events: is told of assertions that try something.
        metrics: is told how attempts end.
    """

    def __init__(
        self,
        clients: ClientRepository,
        audiences: frozenset[str],
        events: SecurityEvents,
        metrics: OAuthRecorder,
    ) -> None:
        self._clients = clients
        self._audiences = audiences
        self._events = events
        self._metrics = metrics

    async def authenticate(self, authorization: str | None, parameters: Parameters, endpoint: ClientEndpoint) -> Client:
        """Return the client that sent a request.

        Args:
            authorization: the header of that name.
            parameters: those of the body.
            endpoint: where it was sent.

        Raises:
            InvalidClientError: it did not authenticate.
            InvalidRequestError: it did so in more than one way.
        """
        method, status, client_id = "", "error", ""
        try:
            credentials = read_credentials(authorization, parameters)
            method = credentials.method
            client = await self._verify(credentials)
            status, client_id = "success", client.client_id
            return client
        except OAuthError:
            status = "failure"
            raise
        finally:
            self._metrics.client_authentication_ended(method, status, endpoint, client_id)

    async def _verify(self, credentials: Credentials) -> Client:
        client = await self._find(credentials.client_id)
        if credentials.method in SECRET_METHODS:
            _check_secret(client, credentials.secret)
        elif client is None or client.token_endpoint_auth_method is not credentials.method:
            raise InvalidClientError(_REFUSED)
        elif credentials.method is AuthMethod.PRIVATE_KEY_JWT:
            await self._check_assertion(client, credentials.assertion)
        if client is None or not client.settings.enabled:
            raise InvalidClientError(_REFUSED)
        return client

    async def _find(self, client_id: str) -> Client | None:
        return await self._clients.look_up(client_id) if _CLIENT_ID.fullmatch(client_id) else None

    async def _check_assertion(self, client: Client, assertion: str) -> None:
        jwks = client.settings.jwks or {}
        try:
            verified = client_assertion.verify(assertion, client.client_id, jwks, self._audiences)
        except client_assertion.AlgorithmError:
            self._events.assertion_algorithm_refused(client.client_id)
            raise
        # One by one: of any number at the same time the database lets one through.
        if not await self._clients.use_assertion(client.client_id, verified.jti_hash, verified.expires_at):
            raise InvalidClientError("The client_assertion has been used.")


def _from_header(authorization: str) -> Credentials:
    match = _BASIC.fullmatch(authorization)
    try:
        if match is None:
            raise ValueError("not Basic")
        decoded = base64.b64decode(match["credentials"], validate=True).decode("ascii")
        client_id, colon, secret = decoded.partition(":")
        if not colon:
            raise ValueError("no password")
        # Both are form-encoded first (RFC 6749, section 2.3.1); what Authly gives out stays the same either way.
        return Credentials(
            AuthMethod.CLIENT_SECRET_BASIC,
            unquote_plus(client_id, errors="strict"),
            secret=unquote_plus(secret, errors="strict"),
        )
    except (ValueError, binascii.Error) as error:
        raise InvalidClientError("The Authorization header has no client_id and client_secret.") from error


def _check_secret(client: Client | None, secret: str) -> None:
    # Both methods prove the same, that the client knows its secret: either is accepted of whoever has one.
    expected = client.secret_hash if client is not None else None
    given = hash_of(secret)
    if not hmac.compare_digest(given, expected or bytes(len(given))) or expected is None:
        raise InvalidClientError(_REFUSED)
