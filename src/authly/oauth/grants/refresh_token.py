"""Tokens for a refresh token, which is rotated (RFC 6749, section 6; RFC 9700, section 4.14)."""

from authly.errors import InvalidGrantError
from authly.oauth import resources, scope_values
from authly.oauth.grants import TokenRequest
from authly.oauth.models import Client, GrantType
from authly.oauth.security import SecurityEvents
from authly.tokens.models import Issued, RefreshToken, RevocationReason
from authly.tokens.service import TokenService, Wanted

_REFUSED = "The refresh token is unknown, expired, revoked, or was issued to another client."


class RefreshTokenGrant:
    """Exchanges a refresh token.

    Args:
        tokens: issues them.
        issuer: the audience of tokens that are for no resource in particular.
        events: is told of refresh tokens that are presented again.
    """

    type = GrantType.REFRESH_TOKEN

    def __init__(self, tokens: TokenService, issuer: str, events: SecurityEvents) -> None:
        self._tokens = tokens
        self._issuer = issuer
        self._events = events

    async def exchange(self, request: TokenRequest) -> Issued:
        """Return an access token and the successor of the refresh token."""
        token = request.parameters.need("refresh_token")
        # Whoever loses the race for a rotation finds a rotated token the second time, and whoever loses that for its
        # repetition finds one whose successor was used.
        for _ in range(3):
            found = await self._find(request.client, token)
            issued = await self._tokens.rotate(token, found, self._wanted(request, found))
            if issued is not None:
                return issued
        raise InvalidGrantError(_REFUSED)

    async def _find(self, client: Client, token: str) -> RefreshToken:
        found = await self._tokens.find_refresh_token(token)
        # Another client's token is refused and stays as it is: its owner has done nothing wrong.
        if found is None or found.family.authorization.client_id != client.client_id:
            raise InvalidGrantError(_REFUSED)
        if found.is_expired or found.family.revoked_at is not None:
            raise InvalidGrantError(_REFUSED)
        if found.rotated_for is not None and not self._tokens.may_be_repeated(found):
            # One of the two who presented it stole it, and nobody knows which.
            if await self._tokens.revoke_family(found.family.family_id, RevocationReason.REFRESH_REUSE):
                await self._events.refresh_token_reused(client.client_id, found.family)
            raise InvalidGrantError("The refresh token has been used; everything that came of it is revoked.")
        return found

    def _wanted(self, request: TokenRequest, found: RefreshToken) -> Wanted:
        client, authorization = request.client, found.family.authorization
        # What has been taken from the client since is not given to it again.
        allowed = [scope for scope in authorization.scopes if scope in client.settings.scopes]
        scopes = scope_values.choose(request.parameters.get("scope"), allowed)
        known = [resource for resource in authorization.resources if resource in client.settings.resources]
        audience = resources.choose(request.parameters.resources or known, known)
        if authorization.resources and not audience:
            raise InvalidGrantError(_REFUSED)
        return Wanted(
            client.client_id,
            scopes,
            audience or (self._issuer,),
            client.settings.access_token_ttl,
            client.settings.id_token_signed_response_alg,
        )
