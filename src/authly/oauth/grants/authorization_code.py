"""Tokens for an authorization code (RFC 6749, section 4.1.3)."""

from authly.errors import InvalidGrantError
from authly.oauth import pkce, resources
from authly.oauth.grants import TokenRequest
from authly.oauth.models import Client, GrantType
from authly.oauth.security import SecurityEvents
from authly.tokens.models import AuthorizationCode, Issued, RevocationReason
from authly.tokens.service import TokenService, Wanted

_REFUSED = "The authorization code is unknown, expired, revoked, or was issued to another client."


class AuthorizationCodeGrant:
    """Exchanges an authorization code.

    Args:
        tokens: issues them.
        issuer: the audience of tokens that are for no resource in particular.
        events: is told of codes that are presented again, or by somebody who is not their owner.
    """

    type = GrantType.AUTHORIZATION_CODE

    def __init__(self, tokens: TokenService, issuer: str, events: SecurityEvents) -> None:
        self._tokens = tokens
        self._issuer = issuer
        self._events = events

    async def exchange(self, request: TokenRequest) -> Issued:
        """Return an access token, and a refresh token if the client may use one."""
        client, parameters = request.client, request.parameters
        code = await self._tokens.find_code(parameters.need("code"))
        # Another client's code is refused and stays as it is: its owner has done nothing wrong.
        if code is None or code.family.authorization.client_id != client.client_id:
            raise InvalidGrantError(_REFUSED)
        if code.is_redeemed:
            raise await self._replayed(client, code)
        if code.is_expired or code.family.revoked_at is not None:
            raise InvalidGrantError(_REFUSED)
        # With PKCE the parameter is no longer needed (OAuth 2.1, section 10.2); one that is sent has to be right.
        without = "" if code.code_challenge is None else code.redirect_uri
        redirect_uri = parameters.get("redirect_uri", without)
        if redirect_uri != code.redirect_uri:
            self._events.redirect_uri_differed(client.client_id, redirect_uri)
            raise InvalidGrantError("The redirect_uri is not that of the authorization request.")
        try:
            pkce.verify(parameters.get("code_verifier"), code.code_challenge)
        except InvalidGrantError:
            self._events.pkce_failed(client.client_id, code.family)
            raise
        authorization = code.family.authorization
        audience = resources.choose(parameters.resources or authorization.resources, authorization.resources)
        wanted = Wanted(
            client.client_id,
            authorization.scopes,
            audience or (self._issuer,),
            client.settings.access_token_ttl,
            client.settings.id_token_signed_response_alg,
        )
        issued = await self._tokens.redeem(code, wanted, with_refresh_token=client.may_use(GrantType.REFRESH_TOKEN))
        if issued is None:
            raise await self._replayed(client, code)
        return issued

    async def _replayed(self, client: Client, code: AuthorizationCode) -> InvalidGrantError:
        """Revoke what a code was redeemed for: one of the two who presented it stole it (section 4.1.2)."""
        if await self._tokens.revoke_family(code.family.family_id, RevocationReason.CODE_REUSE):
            await self._events.code_reused(client.client_id, code.family)
        return InvalidGrantError("The authorization code has been used; what it was redeemed for is revoked.")
