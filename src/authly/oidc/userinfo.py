"""What a client is told of a user (OpenID Connect Core 1.0, section 5.3)."""

from typing import Any

from authly.errors import InsufficientScopeError, InvalidTokenError
from authly.keys.jwt import Jwts
from authly.oauth.client_repository import ClientRepository
from authly.oidc import claims
from authly.oidc.authentication_request import OPENID
from authly.tokens.service import TokenService
from authly.users.repository import UserRepository

_TYPE = "JWT"


class UserinfoService:
    """Answers questions about users.

    Args:
        issuer: who answers.
        tokens: reads access tokens.
        users: knows what can be said of users.
        clients: knows how they want to be answered.
        jwts: signs answers.
    """

    def __init__(
        self, issuer: str, tokens: TokenService, users: UserRepository, clients: ClientRepository, jwts: Jwts
    ) -> None:
        self._issuer = issuer
        self._tokens = tokens
        self._users = users
        self._clients = clients
        self._jwts = jwts

    async def answer(self, access_token: str) -> dict[str, Any] | str:
        """Return what a client may know of a user; as a signed token if that is how it is registered.

        Args:
            access_token: as the client sent it.

        Raises:
            InvalidTokenError: it is not valid, not for Authly, or a client's own.
            InsufficientScopeError: it was not issued for this.
        """
        token, family = await self._tokens.verify_of_user(access_token, self._issuer)
        if OPENID not in token.scopes:
            raise InsufficientScopeError("The access token does not have the scope openid.")
        authorization = family.authorization
        user = await self._users.get(authorization.user_id)
        client = await self._clients.look_up(authorization.client_id)
        if user is None or client is None:
            raise InvalidTokenError("The user or the client of the access token is gone.")
        content = claims.one_by_one(user, authorization.claims.get(claims.USERINFO, {}))
        content |= claims.of_scopes(user, token.scopes)
        # By which the client knows the user, as in the ID token, with which it has to compare it (section 5.3.2).
        content["sub"] = authorization.subject
        algorithm = client.settings.userinfo_signed_response_alg
        if algorithm is None:
            return content
        return await self._jwts.encode(content | {"iss": self._issuer, "aud": client.client_id}, algorithm, _TYPE)
