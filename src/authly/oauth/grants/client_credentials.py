"""Tokens that a client has for itself (RFC 6749, section 4.4)."""

from authly.oauth import resources, scope_values
from authly.oauth.grants import TokenRequest
from authly.oauth.models import GrantType
from authly.tokens.models import Issued
from authly.tokens.service import TokenService, Wanted


class ClientCredentialsGrant:
    """Exchanges a client's own credentials, with which it has authenticated by now.

    Args:
        tokens: issues them.
        issuer: the audience of tokens that are for no resource in particular.
    """

    type = GrantType.CLIENT_CREDENTIALS

    def __init__(self, tokens: TokenService, issuer: str) -> None:
        self._tokens = tokens
        self._issuer = issuer

    async def exchange(self, request: TokenRequest) -> Issued:
        """Return an access token, and no refresh token (section 4.4.3)."""
        settings = request.client.settings
        # Scopes that say something of a user make no sense where there is none.
        allowed = [scope for scope in settings.scopes if scope not in scope_values.USER_SCOPES]
        scopes = scope_values.choose(request.parameters.get("scope"), allowed)
        audience = resources.choose(request.parameters.resources, settings.resources) or (self._issuer,)
        return await self._tokens.issue_for_client(
            Wanted(request.client.client_id, scopes, audience, settings.access_token_ttl)
        )
