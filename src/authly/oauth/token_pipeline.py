"""The one way from a token request to its response."""

from collections.abc import Iterable, Mapping
from typing import Any

from authly.errors import UnauthorizedClientError, UnsupportedGrantTypeError
from authly.monitoring.labels import ClientEndpoint
from authly.monitoring.recorders import OAuthRecorder
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.grants import Grant, TokenRequest
from authly.oauth.models import Client
from authly.oauth.outcomes import SUCCESS, outcome_of
from authly.oauth.parameters import Parameters
from authly.tokens.models import Issued

TokenResponse = Mapping[str, Any]


class TokenPipeline:
    """Answers token requests (RFC 6749, section 3.2).

    Args:
        authenticator: tells who a client is.
        grants: what can be exchanged.
        metrics: is told how each request ended.
    """

    def __init__(self, authenticator: ClientAuthenticator, grants: Iterable[Grant], metrics: OAuthRecorder) -> None:
        self._authenticator = authenticator
        self._grants = {grant.type.value: grant for grant in grants}
        self._metrics = metrics

    async def respond(self, authorization: str | None, parameters: Parameters) -> TokenResponse:
        """Return the response of a token request.

        Args:
            authorization: the header of that name.
            parameters: those of the body.

        Raises:
            OAuthError: the request is refused.
        """
        status, client = SUCCESS, None
        grant = self._grants.get(parameters.get("grant_type", ""))
        try:
            # 1. The request: nothing twice (section 3.2).
            parameters.refuse_repeated()
            # 2. The client.
            client = await self._authenticator.authenticate(authorization, parameters, ClientEndpoint.TOKEN)
            # 3. Whether it may use the grant.
            grant_type = parameters.need("grant_type")
            if grant is None:
                raise UnsupportedGrantTypeError("The grant_type is none that Authly has.")
            if not client.may_use(grant.type):
                raise UnauthorizedClientError(f"The client may not use the grant type {grant_type}.")
            # 4. The grant's own rules, and 5. issuing: the database does both in one step, or neither.
            issued = await grant.exchange(TokenRequest(client, parameters))
            # 6. The response.
            return _response(issued)
        except BaseException as error:
            status = outcome_of(error)
            raise
        finally:
            # 7. The record.
            self._metrics.token_request_ended(parameters.get("grant_type", ""), status, _id_of(client))


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
