"""Access tokens as JSON Web Tokens (RFC 9068)."""

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from joserfc import jws
from joserfc.errors import JoseError

from authly.errors import InvalidTokenError
from authly.keys.models import Algorithm, SigningKey
from authly.keys.service import SigningKeyService
from authly.tokens.models import AccessTokenClaims

# So that nobody takes an ID token for an access token (RFC 9068, section 2.1; RFC 8725, section 3.11).
_TYPE = "at+jwt"
# Far longer than ours; longer ones are not worth decoding.
_LONGEST = 8192


class AccessTokenFormat:
    """Writes and reads access tokens.

    Args:
        issuer: whose tokens they are.
        keys: what signs them.
        algorithm: with which new ones are signed.
        now: the time of day, in seconds since 1970.
    """

    def __init__(
        self, issuer: str, keys: SigningKeyService, algorithm: Algorithm, now: Callable[[], float] = time.time
    ) -> None:
        self._issuer = issuer
        self._keys = keys
        self._algorithm = algorithm
        self._now = now

    async def encode(self, claims: AccessTokenClaims) -> str:
        """Return a signed token.

        Raises:
            KeyUnreadableError: there is no key to sign with.
        """
        key = await self._keys.signing_key(self._algorithm)
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
        header = {"alg": key.algorithm, "typ": _TYPE, "kid": key.kid}
        content = json.dumps(payload, separators=(",", ":")).encode()
        return jws.serialize_compact(header, content, key.key, algorithms=[key.algorithm])

    async def decode(self, token: str) -> AccessTokenClaims:
        """Return what a token says, having checked that Authly says it and that it has not expired.

        Raises:
            InvalidTokenError: it is malformed, not signed by Authly, or expired.
            KeyUnreadableError: there is no key to verify with.
        """
        payload = json.loads(await self._verified(token))
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

    async def _verified(self, token: str) -> bytes:
        if len(token) > _LONGEST or not token.isascii():
            raise InvalidTokenError("The access token is malformed.")
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError) as error:
            raise InvalidTokenError("The access token is malformed.") from error
        key = await self._key_of(header)
        # The algorithm is that of the key and not what the token says (RFC 8725, section 3.1): a token that says
        # "none", or "HS256" with the public key as its secret, gets no further.
        if key is None or header.get("alg") != key.algorithm or str(header.get("typ")).lower() != _TYPE:
            raise InvalidTokenError("The access token is not signed as Authly signs access tokens.")
        try:
            return jws.deserialize_compact(token.encode(), key.key, algorithms=[key.algorithm]).payload
        except (JoseError, ValueError) as error:
            raise InvalidTokenError("The signature of the access token is wrong.") from error

    async def _key_of(self, header: dict[str, Any]) -> SigningKey | None:
        kid = header.get("kid")
        return await self._keys.verification_key(kid) if isinstance(kid, str) else None
