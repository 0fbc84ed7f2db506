"""Issuing, redeeming, rotating, revoking and reading what clients hold."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID, uuid4

from authly.errors import InvalidTokenError
from authly.keys.models import Algorithm
from authly.monitoring.recorders import NullOAuthMetrics, OAuthRecorder
from authly.tokens.access_token import AccessTokenFormat
from authly.tokens.models import (
    AccessTokenClaims,
    Authorization,
    AuthorizationCode,
    Family,
    Issued,
    Lifetimes,
    NewAccessToken,
    NewRefreshToken,
    RefreshToken,
    RevocationReason,
    StoredAccessToken,
)
from authly.tokens.repository import TokenRepository
from authly.tokens.secrets import LENGTH, Successors, hash_of, new_salt, new_secret

_OPENID = "openid"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The access token that is asked for."""

    client_id: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    # Of this client; None is what the settings say.
    lifetime: timedelta | None = None
    # With which an ID token is signed, if one is due.
    id_token_algorithm: Algorithm = "RS256"


class IdTokens(Protocol):
    """Whoever tells clients who the user is."""

    async def issue(self, family: Family, access_token: str, algorithm: Algorithm, *, with_nonce: bool) -> str | None:
        """Return an ID token; None if none was asked for.

        Args:
            family: what the user allowed.
            access_token: what it is issued with.
            algorithm: with which it is signed.
            with_nonce: whether it answers the authorization request, and not a later refresh.
        """


class NoIdTokens:
    """Tells nobody."""

    async def issue(self, family: Family, access_token: str, algorithm: Algorithm, *, with_nonce: bool) -> str | None:
        """Return none."""


class TokenService:
    """Issues, redeems, rotates, revokes and reads codes and tokens.

    Args:
        tokens: where they are kept.
        access_tokens: how access tokens are written and read.
        successors: which refresh token follows on which.
        lifetimes: how long they are valid.
        id_tokens: issues what comes with access tokens where users log in.
        now: the time of day, in seconds since 1970.
        metrics: is told what is issued and revoked.
        timer: what to time with, in seconds.
    """

    def __init__(
        self,
        tokens: TokenRepository,
        access_tokens: AccessTokenFormat,
        successors: Successors,
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008
        id_tokens: IdTokens | None = None,
        now: Callable[[], float] = time.time,
        metrics: OAuthRecorder | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._metrics = metrics or NullOAuthMetrics()
        self._timer = timer
        self._tokens = tokens
        self._access_tokens = access_tokens
        self._successors = successors
        self._lifetimes = lifetimes
        self._id_tokens = id_tokens or NoIdTokens()
        self._now = now

    # Issuing

    async def issue_code(self, authorization: Authorization, redirect_uri: str, code_challenge: str | None) -> str:
        """Return a new authorization code."""
        code = new_secret()
        await self._tokens.add_code(
            uuid4(), hash_of(code), authorization, redirect_uri, code_challenge, self._lifetimes.authorization_code
        )
        return code

    async def find_code(self, code: str) -> AuthorizationCode | None:
        """Return a code that was issued, redeemed and expired ones too."""
        return await self._tokens.find_code(hash_of(code)) if len(code) == LENGTH else None

    async def redeem(self, code: AuthorizationCode, wanted: Wanted, *, with_refresh_token: bool) -> Issued | None:
        """Redeem a code for tokens; None if somebody else was quicker."""
        access, claims = self._new_access_token(wanted, code.family)
        # Signed first: a code shall not be used up by what cannot be signed.
        token = await self._sign(claims)
        id_token = await self._id_token(code.family, token, wanted, with_nonce=True)
        refresh_token = new_secret() if with_refresh_token else None
        new = self._new_refresh_token(refresh_token) if refresh_token else None
        done = await self._tokens.redeem_code(code.code_hash, access, new)
        if not done:
            return None
        self._count("authorization_code", refresh_token=new is not None, id_token=id_token is not None)
        return Issued(token, claims, refresh_token, id_token)

    async def find_refresh_token(self, token: str) -> RefreshToken | None:
        """Return a refresh token that was issued, rotated and expired ones too."""
        return await self._tokens.find_refresh_token(hash_of(token)) if len(token) == LENGTH else None

    def may_be_repeated(self, found: RefreshToken) -> bool:
        """Tell whether a rotated refresh token may be presented once more, by a client that missed the answer."""
        return (
            found.rotated_for is not None
            and found.rotated_for < self._lifetimes.refresh_grace
            and not found.is_successor_used
        )

    async def rotate(self, token: str, found: RefreshToken, wanted: Wanted) -> Issued | None:
        """Issue tokens for a refresh token, which gets a successor; None if somebody else was quicker.

        Args:
            token: what the client presented.
            found: what was found of it: not rotated, or so that it may be repeated.
            wanted: the access token to issue.
        """
        access, claims = self._new_access_token(wanted, found.family)
        access_token = await self._sign(claims)
        id_token = None
        if _OPENID in wanted.scopes:
            id_token = await self._id_token(found.family, access_token, wanted, with_nonce=False)
        successor = self._successors.of(token, found.salt)
        if found.rotated_for is None:
            done = await self._tokens.rotate(found.token_hash, access, self._new_refresh_token(successor))
        else:
            done = await self._tokens.repeat(hash_of(successor), access)
        if not done:
            return None
        # A refresh token that is given again was issued before.
        self._count("refresh_token", refresh_token=found.rotated_for is None, id_token=id_token is not None)
        return Issued(access_token, claims, successor, id_token)

    async def issue_for_client(self, wanted: Wanted) -> Issued:
        """Return an access token that a client has for itself."""
        access, claims = self._new_access_token(wanted, None)
        token = await self._sign(claims)
        await self._tokens.add_access_token(access)
        self._count("client_credentials", refresh_token=False, id_token=False)
        return Issued(token, claims)

    async def _sign(self, claims: AccessTokenClaims) -> str:
        began = self._timer()
        token = await self._access_tokens.encode(claims)
        self._metrics.token_generated("access_token", self._timer() - began)
        return token

    async def _id_token(self, family: Family, access_token: str, wanted: Wanted, *, with_nonce: bool) -> str | None:
        began = self._timer()
        token = await self._id_tokens.issue(family, access_token, wanted.id_token_algorithm, with_nonce=with_nonce)
        if token is not None:
            self._metrics.token_generated("id_token", self._timer() - began)
        return token

    def _count(self, grant_type: str, *, refresh_token: bool, id_token: bool) -> None:
        self._metrics.token_issued("access_token", grant_type)
        if refresh_token:
            self._metrics.token_issued("refresh_token", grant_type)
        if id_token:
            self._metrics.token_issued("id_token", grant_type)

    def _new_access_token(self, wanted: Wanted, family: Family | None) -> tuple[NewAccessToken, AccessTokenClaims]:
        lifetime = wanted.lifetime or self._lifetimes.access_token
        issued_at = int(self._now())
        new = NewAccessToken(uuid4(), wanted.client_id, wanted.scopes, wanted.audience, lifetime)
        claims = AccessTokenClaims(
            token_id=new.token_id,
            client_id=wanted.client_id,
            # A client that acts for itself is its own subject (RFC 9068, section 2.2).
            subject=family.authorization.subject if family else wanted.client_id,
            scopes=wanted.scopes,
            audience=wanted.audience,
            issued_at=issued_at,
            expires_at=issued_at + int(lifetime.total_seconds()),
            auth_time=int(family.authorization.auth_time.timestamp()) if family else None,
        )
        return new, claims

    def _new_refresh_token(self, token: str) -> NewRefreshToken:
        return NewRefreshToken(hash_of(token), new_salt(), self._lifetimes.refresh_token)

    # Reading

    async def verify(self, token: str, audience: str) -> AccessTokenClaims:
        """Return what an access token says, having checked everything about it.

        Args:
            token: as the client sent it.
            audience: for whom it has to be.

        Raises:
            InvalidTokenError: it is malformed, expired, revoked, or for somebody else.
        """
        claims = await self.decode(token)
        if audience not in claims.audience:
            raise InvalidTokenError("The access token is for another audience.")
        if not await self._is_known(claims):
            raise InvalidTokenError("The access token is revoked.")
        return claims

    async def verify_of_user(self, token: str, audience: str) -> tuple[AccessTokenClaims, Family]:
        """Return what an access token says and the user's authorization behind it, having checked everything about it.

        Args:
            token: as the client sent it.
            audience: for whom it has to be.

        Raises:
            InvalidTokenError: it is malformed, expired, revoked, for somebody else, or a client's own.
        """
        claims = await self.decode(token)
        family = await self._tokens.find_family_of(claims.token_id) if audience in claims.audience else None
        if family is None:
            raise InvalidTokenError("The access token is revoked, for another audience, or for no user.")
        return claims, family

    async def user_of(self, claims: AccessTokenClaims) -> UUID | None:
        """Return in whose name an access token was issued, whatever subject it names; None if it is a client's own."""
        stored = await self._tokens.find_access_token(claims.token_id)
        return stored.user_id if stored else None

    async def decode(self, token: str) -> AccessTokenClaims:
        """Return what an access token says, whether it has been revoked or not.

        Raises:
            InvalidTokenError: it is malformed, not signed by Authly, or expired.
        """
        return await self._access_tokens.decode(token)

    async def read_access_token(self, token: str) -> AccessTokenClaims | None:
        """Return what an access token says, for whomever it is; None if it is not valid now."""
        try:
            claims = await self.decode(token)
        except InvalidTokenError:
            return None
        return claims if await self._is_known(claims) else None

    async def read_refresh_token(self, token: str) -> RefreshToken | None:
        """Return a refresh token; None if it cannot be used now."""
        found = await self.find_refresh_token(token)
        if found is None or found.is_expired or found.rotated_for is not None or found.family.revoked_at is not None:
            return None
        return found

    async def _is_known(self, claims: AccessTokenClaims) -> bool:
        stored = await self._tokens.find_access_token(claims.token_id)
        return stored is not None and stored.revoked_at is None

    async def list_families(
        self, *, user_id: UUID | None = None, client_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[Family]:
        """Return families that have not expired, the latest first."""
        return await self._tokens.list_families(user_id=user_id, client_id=client_id, limit=limit, offset=offset)

    async def list_access_tokens(
        self, *, user_id: UUID | None = None, client_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[StoredAccessToken]:
        """Return access tokens that have not expired, the latest first."""
        return await self._tokens.list_access_tokens(user_id=user_id, client_id=client_id, limit=limit, offset=offset)

    async def count_active(self) -> tuple[int, int]:
        """Return how many access tokens and how many refresh tokens are valid."""
        return await self._tokens.count_active()

    # Revoking

    async def revoke_family(self, family_id: UUID, reason: RevocationReason) -> bool:
        """Revoke everything that an authorization led to; tell whether it was not revoked already."""
        revoked = await self._tokens.revoke_family(family_id, reason)
        self._metrics.tokens_revoked("family", reason, revoked)
        return revoked

    async def revoke_access_token(self, token_id: UUID, reason: RevocationReason) -> bool:
        """Revoke one access token; tell whether it was not revoked already."""
        revoked = await self._tokens.revoke_access_token(token_id, reason)
        self._metrics.tokens_revoked("access_token", reason, revoked)
        return revoked

    async def revoke_of_user(self, user_id: UUID, reason: RevocationReason, client_id: str | None = None) -> int:
        """Revoke what a user's authorizations led to, of one client or of all; return how many authorizations."""
        revoked = await self._tokens.revoke_families(reason, user_id=user_id, client_id=client_id)
        self._metrics.tokens_revoked("family", reason, revoked)
        return revoked

    async def revoke_of_session(self, session_id: UUID, reason: RevocationReason) -> int:
        """Revoke what the authorizations of a session led to; return how many authorizations."""
        revoked = await self._tokens.revoke_families(reason, session_id=session_id)
        self._metrics.tokens_revoked("family", reason, revoked)
        return revoked

    async def revoke_of_client(self, client_id: str, reason: RevocationReason) -> int:
        """Revoke everything that a client holds; return how many authorizations and tokens of its own."""
        families = await self._tokens.revoke_families(reason, client_id=client_id)
        self._metrics.tokens_revoked("family", reason, families)
        own = await self._tokens.revoke_access_tokens_of_client(client_id, reason)
        self._metrics.tokens_revoked("access_token", reason, own)
        return families + own

    # Cleaning up

    async def delete_expired(self, limit: int) -> int:
        """Delete at most so many rows of each kind that nobody needs any more; return how many it were."""
        return (
            await self._tokens.delete_expired_access_tokens(limit)
            + await self._tokens.delete_expired_refresh_tokens(limit)
            + await self._tokens.delete_expired_families(limit)
        )
