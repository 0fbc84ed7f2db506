"""Tokens that a client no longer wants (RFC 7009)."""

from authly.audit.models import AuditEvent, Party, PartyKind
from authly.audit.service import AuditLog
from authly.errors import InvalidTokenError, UnauthorizedClientError
from authly.oauth.models import Client
from authly.oauth.parameters import Parameters
from authly.tokens.models import RevocationReason
from authly.tokens.service import TokenService


class RevocationService:
    """Answers revocation requests.

    Args:
        tokens: revokes tokens.
        audit: where it is recorded.
    """

    def __init__(self, tokens: TokenService, audit: AuditLog) -> None:
        self._tokens = tokens
        self._audit = audit

    async def revoke(self, client: Client, parameters: Parameters) -> None:
        """Revoke a token: an access token by itself, a refresh token with everything that came of it (section 2.1).

        One that is unknown or no longer valid is not an error: what the client wants is so already (section 2.2).

        Args:
            client: who asks.
            parameters: those of the body. ``token_type_hint`` is not needed: the two look different.

        Raises:
            InvalidRequestError: there is no token.
            UnauthorizedClientError: it was issued to another client.
        """
        token = parameters.need("token")
        revoked = await (self._access_token(client, token) if "." in token else self._refresh_token(client, token))
        if revoked:
            await self._audit.record(
                AuditEvent.TOKEN_REVOKED, Party.client(client.client_id), Party(PartyKind.TOKEN, revoked)
            )

    async def _access_token(self, client: Client, token: str) -> str | None:
        try:
            claims = await self._tokens.decode(token)
        except InvalidTokenError:
            return None
        _check_owner(client, claims.client_id)
        done = await self._tokens.revoke_access_token(claims.token_id, RevocationReason.CLIENT)
        return str(claims.token_id) if done else None

    async def _refresh_token(self, client: Client, token: str) -> str | None:
        found = await self._tokens.find_refresh_token(token)
        if found is None:
            return None
        _check_owner(client, found.family.authorization.client_id)
        done = await self._tokens.revoke_family(found.family.family_id, RevocationReason.CLIENT)
        return str(found.family.family_id) if done else None


def _check_owner(client: Client, client_id: str) -> None:
    if client.client_id != client_id:
        raise UnauthorizedClientError("The token was issued to another client.")
