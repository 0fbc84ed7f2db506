"""What a token is worth at this moment (RFC 7662)."""

from typing import Any

from authly.monitoring.recorders import OAuthRecorder
from authly.oauth.models import Client
from authly.oauth.parameters import Parameters
from authly.tokens.models import AccessTokenClaims, RefreshToken
from authly.tokens.service import TokenService

# All that is said of a token that is not valid, or not for the client to know of (section 2.2).
_INACTIVE: dict[str, Any] = {"active": False}


class IntrospectionService:
    """Answers introspection requests.

    Args:
        tokens: reads tokens.
        issuer: whose tokens they are.
        metrics: is told what was found.
    """

    def __init__(self, tokens: TokenService, issuer: str, metrics: OAuthRecorder) -> None:
        self._metrics = metrics
        self._tokens = tokens
        self._issuer = issuer

    async def introspect(self, client: Client, parameters: Parameters) -> dict[str, Any]:
        """Return what a token is worth.

        Access tokens are told of to any client that has authenticated: which of them are resource servers, and of
        what, Authly does not know, and ``aud`` is there for them to check. Refresh tokens are the business of the
        client that they were issued to alone.

        Args:
            client: who asks.
            parameters: those of the body. ``token_type_hint`` is not needed: the two look different.

        Raises:
            InvalidRequestError: there is no token.
        """
        status = "error"
        try:
            worth = await self._look(client, parameters)
            status = "active" if worth["active"] else "inactive"
            return worth
        finally:
            self._metrics.introspection_ended(status)

    async def _look(self, client: Client, parameters: Parameters) -> dict[str, Any]:
        token = parameters.need("token")
        if "." in token:
            claims = await self._tokens.read_access_token(token)
            return _INACTIVE if claims is None else self._of_access_token(claims)
        found = await self._tokens.read_refresh_token(token)
        if found is None or found.family.authorization.client_id != client.client_id:
            return _INACTIVE
        return self._of_refresh_token(found)

    def _of_access_token(self, claims: AccessTokenClaims) -> dict[str, Any]:
        return {
            "active": True,
            "iss": self._issuer,
            "sub": claims.subject,
            "aud": claims.audience[0] if len(claims.audience) == 1 else list(claims.audience),
            "client_id": claims.client_id,
            "scope": " ".join(claims.scopes),
            "token_type": "Bearer",
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "jti": str(claims.token_id),
        }

    def _of_refresh_token(self, found: RefreshToken) -> dict[str, Any]:
        authorization = found.family.authorization
        return {
            "active": True,
            "iss": self._issuer,
            "sub": authorization.subject,
            "client_id": authorization.client_id,
            "scope": " ".join(authorization.scopes),
            "iat": int(found.created_at.timestamp()),
            "exp": int(found.expires_at.timestamp()),
        }
