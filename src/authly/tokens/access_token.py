"""Access tokens as JSON Web Tokens (RFC 9068)."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from authly.errors import InvalidTokenError
from authly.keys.jwt import JwtError, Jwts
from authly.keys.models import Algorithm
from authly.tokens.models import AccessTokenClaims

# So that nobody takes an ID token for an access token (RFC 9068, section 2.1; RFC 8725, section 3.11).
_TYPE = "at+jwt"


class AccessTokenFormat:
    """Writes and reads access tokens.

    Args:
        issuer: whose tokens they are.
        jwts: signs them.
        algorithm: with which new ones are signed.
        now: the time of day, in seconds since 1970.
    """

    def __init__(self, issuer: str, jwts: Jwts, algorithm: Algorithm, now: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._jwts = jwts
        self._algorithm = algorithm
        self._now = now

    async def encode(self, claims: AccessTokenClaims) -> str:
        """Return a signed token.

        Raises:
            KeyUnreadableError: there is no key to sign with.
        """
        payload: dict[str, Any] = {
            "iss": self._issuer,
            "sub": claims.subject,
            "aud": claims.audience[0] if len(claims.audience) == 1 else list(claims.audience),
            "client_id": claims.client_id,
            "scope": " ".join(claims.scopes),
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "jti": str(claims.token_id),
        }
        if claims.auth_time is not None:
            payload["auth_time"] = claims.auth_time
        return await self._jwts.encode(payload, self._algorithm, _TYPE)

    async def decode(self, token: str) -> AccessTokenClaims:
        """Return what a token says, having checked that Authly says it and that it has not expired.

        Raises:
            InvalidTokenError: it is malformed, not signed by Authly, or expired.
            KeyUnreadableError: there is no key to verify with.
        """
        try:
            payload = await self._jwts.decode(token, _TYPE)
        except JwtError as error:
            raise InvalidTokenError("The access token is malformed, or not signed by Authly.") from error
        claims = AccessTokenClaims(
            token_id=UUID(payload["jti"]),
            client_id=payload["client_id"],
            subject=payload["sub"],
            scopes=tuple(payload["scope"].split()),
            audience=(payload["aud"],) if isinstance(payload["aud"], str) else tuple(payload["aud"]),
            issued_at=payload["iat"],
            expires_at=payload["exp"],
            auth_time=payload.get("auth_time"),
        )
        if payload["iss"] != self._issuer or claims.expires_at <= self._now():
            raise InvalidTokenError("The access token is expired or of another issuer.")
        return claims
