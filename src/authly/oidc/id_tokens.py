"""ID tokens (OpenID Connect Core 1.0, section 2), and what they tell when they come back as hints."""

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from authly.keys.jwt import JwtError, Jwts
from authly.keys.models import Algorithm
from authly.monitoring.recorders import NullOIDCMetrics, OIDCRecorder
from authly.oidc import claims
from authly.oidc.authentication_request import ACR_PASSWORD, OPENID
from authly.sessions.service import PASSWORD
from authly.tokens.models import Family
from authly.users.models import User

_TYPE = "JWT"
# The hash that belongs to an algorithm (section 3.1.3.6); Ed25519 has SHA-512 inside.
_HASHES: dict[Algorithm, str] = {"RS256": "sha256", "ES256": "sha256", "EdDSA": "sha512"}


@dataclass(frozen=True, slots=True)
class Hint:
    """What an ID token told its client once: which user, in which session."""

    client_id: str
    subject: str
    session_id: str


class IdTokenService:
    """Issues ID tokens, and reads them again.

    Args:
        issuer: whose tokens they are.
        jwts: signs them.
        find_user: knows what can be said of a user.
        lifetime: how long they are valid.
        now: the time of day, in seconds since 1970.
        metrics: is told how long signatures take.
        timer: what to time with, in seconds.
    """

    def __init__(
        self,
        issuer: str,
        jwts: Jwts,
        find_user: Callable[[UUID], Awaitable[User | None]],
        lifetime: timedelta,
        now: Callable[[], float] = time.time,
        metrics: OIDCRecorder | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._metrics = metrics or NullOIDCMetrics()
        self._timer = timer
        self._issuer = issuer
        self._jwts = jwts
        self._find_user = find_user
        self._lifetime = lifetime
        self._now = now

    async def issue(self, family: Family, access_token: str, algorithm: Algorithm, *, with_nonce: bool) -> str | None:
        """Return an ID token; None if the user was not asked for one.

        Args:
            family: what the user allowed.
            access_token: what it is issued with.
            algorithm: with which it is signed.
            with_nonce: whether it answers the authorization request; at a refresh the client has no nonce to compare
                (section 12.2).
        """
        authorization = family.authorization
        if OPENID not in authorization.scopes:
            return None
        issued_at = int(self._now())
        content: dict[str, Any] = await self._asked_for(family) | {
            "iss": self._issuer,
            "sub": authorization.subject,
            "aud": authorization.client_id,
            "azp": authorization.client_id,
            "iat": issued_at,
            "exp": issued_at + int(self._lifetime.total_seconds()),
            "auth_time": int(authorization.auth_time.timestamp()),
            "at_hash": _half_hash(access_token, algorithm),
            "sid": str(authorization.session_id),
        }
        if authorization.amr:
            content["amr"] = list(authorization.amr)
        if PASSWORD in authorization.amr:
            content["acr"] = ACR_PASSWORD
        if with_nonce and authorization.nonce is not None:
            content["nonce"] = authorization.nonce
        began = self._timer()
        token = await self._jwts.encode(content, algorithm, _TYPE)
        self._metrics.id_token_signed(algorithm, self._timer() - began)
        return token

    async def read(self, token: str) -> Hint | None:
        """Return what an ID token says, be it expired or not and its key retired or not; None if Authly never said it.

        Args:
            token: as a client sent it.
        """
        try:
            content = await self._jwts.decode(token, _TYPE, retired=True)
        except JwtError:
            return None
        if content.get("iss") != self._issuer or "sid" not in content:
            return None
        return Hint(content["aud"], content["sub"], content["sid"])

    async def _asked_for(self, family: Family) -> dict[str, Any]:
        """Return the claims of the user that the client wants here, rather than from userinfo."""
        wanted = family.authorization.claims.get(claims.ID_TOKEN)
        user = await self._find_user(family.authorization.user_id) if wanted else None
        return claims.one_by_one(user, wanted) if wanted and user else {}


def _half_hash(value: str, algorithm: Algorithm) -> str:
    digest = hashlib.new(_HASHES[algorithm], value.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
