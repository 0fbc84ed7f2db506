"""The one way from a token request to its response."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from authly.errors import OAuthError, UnauthorizedClientError, UnsupportedGrantTypeError
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.grants import Grant, TokenRequest
from authly.oauth.models import Client
from authly.oauth.parameters import Parameters
from authly.tokens.models import Issued

TokenResponse = Mapping[str, Any]


class TokenRequests(Protocol):
    """Whoever wants to know of each token request, once it has ended."""

    def token_request_ended(self, grant_type: str, status: str, client_id: str) -> None:
        """Note how a token request ended.

        Args:
            grant_type: one that Authly has, or nothing.
            status: ``success`` or the error code.
            client_id: of the client if it authenticated, or nothing.
        """


class NullObserver:
    """Wants to know nothing."""

    def token_request_ended(self, grant_type: str, status: str, client_id: str) -> None:
        """Do nothing."""


class TokenPipeline:
    """Answers token requests (RFC 6749, section 3.2).

    Args:
        authenticator: tells who a client is.
        grants: what can be exchanged.
        observer: is told how each request ended.
    """

    def __init__(self, authenticator: ClientAuthenticator, grants: Iterable[Grant], observer: TokenRequests) -> None:
        self._authenticator = authenticator
        self._grants = {grant.type.value: grant for grant in grants}
        self._observer = observer

    async def respond(self, authorization: str | None, parameters: Parameters) -> TokenResponse:
        """Return the response of a token request.

        Args:
            authorization: the header of that name.
            parameters: those of the body.

        Raises:
            OAuthError: the request is refused.
        """
        status, client = "server_error", None
        grant = self._grants.get(parameters.get("grant_type", ""))
        try:
            # 1. The request: nothing twice (section 3.2).
            parameters.refuse_repeated()
            # 2. The client.
            client = await self._authenticator.authenticate(authorization, parameters)
            # 3. Whether it may use the grant.
            grant_type = parameters.need("grant_type")
            if grant is None:
                raise UnsupportedGrantTypeError("The grant_type is none that Authly has.")
            if not client.may_use(grant.type):
                raise UnauthorizedClientError(f"The client may not use the grant type {grant_type}.")
            # 4. The grant's own rules, and 5. issuing: the database does both in one step, or neither.
            issued = await grant.exchange(TokenRequest(client, parameters))
            # 6. The response.
            response = _response(issued)
            status = "success"
            return response
        except OAuthError as error:
            status = error.code
            raise
        finally:
            # 7. The record.
            self._observer.token_request_ended(grant.type.value if grant else "", status, _id_of(client))


def _response(issued: Issued) -> TokenResponse:
    """Return what the client is told (section 5.1)."""
    response: dict[str, Any] = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.claims.expires_at - issued.claims.issued_at,
        "scope": " ".join(issued.claims.scopes),
    }
    if issued.refresh_token is not None:
        response["refresh_token"] = issued.refresh_token
    if issued.id_token is not None:
        response["id_token"] = issued.id_token
    return response


def _id_of(client: Client | None) -> str:
    return client.client_id if client else ""
