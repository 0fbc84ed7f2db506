"""Signed JSON Web Tokens (RFC 7519), whatever they say."""

import json
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from authly.core.security_log import SecurityLog
from authly.keys.models import ALGORITHMS, Algorithm, SigningKey
from authly.keys.service import SigningKeyService
from authly.monitoring.labels import SecurityEvent
from authly.monitoring.recorders import NullSecurityMetrics

# Far longer than ours; longer ones are not worth decoding.
_LONGEST = 8192


class JwtError(ValueError):
    """A token is malformed, or not signed by Authly as tokens of its type are; the message says which."""


class _Algorithms(JWSRegistry):
    """The one algorithm of a key: joserfc's own registry warns of the name EdDSA at each use."""

    def get_alg(self, name: str) -> Any:
        if not self.allowed or name not in self.allowed:
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not allowed")
        return self.algorithms[name]


class Jwts:
    """Signs tokens, and verifies what Authly signed.

    Args:
        keys: what signs.
        security: is told of tokens that name an algorithm which is not that of their key.
    """

    def __init__(self, keys: SigningKeyService, security: SecurityLog | None = None) -> None:
        self._keys = keys
        self._security = security or SecurityLog(NullSecurityMetrics())

    async def encode(self, claims: dict[str, Any], algorithm: Algorithm, type_: str) -> str:
        """Return a signed token.

        Args:
            claims: what it says.
            algorithm: with which it is signed.
            type_: its ``typ``, so that nobody takes a token of one kind for one of another (RFC 8725, section 3.11).

        Raises:
            KeyUnreadableError: there is no key to sign with.
        """
        key = await self._keys.signing_key(algorithm)
        header = {"alg": key.algorithm, "typ": type_, "kid": key.kid}
        content = json.dumps(claims, separators=(",", ":")).encode()
        return jws.serialize_compact(header, content, key.key, registry=_registry_of(key))

    async def decode(self, token: str, type_: str, *, retired: bool = False) -> dict[str, Any]:
        """Return what a token says, having checked that Authly says it; whether it has expired is not looked at.

        Args:
            token: as somebody sent it.
            type_: its ``typ``.
            retired: whether keys count that are no longer published: for what opens nothing.

        Raises:
            JwtError: it is malformed, of another type, or not signed by Authly.
            KeyUnreadableError: there is no key to verify with.
        """
        if len(token) > _LONGEST or not token.isascii():
            raise JwtError("malformed")
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError, RecursionError) as error:
            raise JwtError("malformed") from error
        kid = header.get("kid")
        key = await self._keys.verification_key(kid, retired=retired) if isinstance(kid, str) else None
        # The algorithm is that of the key and not what the token says (RFC 8725, section 3.1): a token that says
        # "none", or "HS256" with the public key as its secret, gets no further.
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS or (key is not None and algorithm != key.algorithm):
            self._security.note(SecurityEvent.BAD_TOKEN_ALGORITHM, algorithm=str(algorithm)[:32], token_type=type_)
        if key is None or algorithm != key.algorithm or str(header.get("typ")).lower() != type_.lower():
            raise JwtError("not signed as Authly signs tokens of this type")
        try:
            payload = jws.deserialize_compact(token.encode(), key.key, registry=_registry_of(key)).payload
        except (JoseError, ValueError) as error:
            raise JwtError("its signature is wrong") from error
        claims: dict[str, Any] = json.loads(payload)
        return claims


def _registry_of(key: SigningKey) -> JWSRegistry:
    return _Algorithms(algorithms=[key.algorithm])
