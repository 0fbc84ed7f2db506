"""The SQL of codes, refresh tokens, access tokens, and their families.

What is redeemed or rotated, and what is issued for it, is one statement each: either all of it happens or nothing, and
of any number at the same time one finds the row as it was.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from authly.core.repository import Repository
from authly.tokens.models import (
    Authorization,
    AuthorizationCode,
    Family,
    NewAccessToken,
    NewRefreshToken,
    RefreshToken,
    RevocationReason,
    StoredAccessToken,
)

_FAMILY_COLUMNS = """
    token_families.family_id, token_families.client_id, token_families.user_id, token_families.session_id,
    token_families.scopes, token_families.resources, token_families.nonce, token_families.auth_time,
    token_families.subject, token_families.amr, token_families.claims,
    token_families.created_at AS family_created_at, token_families.expires_at AS family_expires_at,
    token_families.revoked_at, token_families.revocation_reason
"""
_ACCESS_TOKEN_COLUMNS = """
    token_id, access_tokens.client_id, family_id, user_id, access_tokens.scopes, audience, access_tokens.created_at,
    access_tokens.expires_at, coalesce(access_tokens.revoked_at, token_families.revoked_at) AS revoked_at,
    coalesce(access_tokens.revocation_reason, token_families.revocation_reason) AS revocation_reason
"""
# What comes after a code was redeemed or a refresh token rotated, in a part named "presented".
_ISSUE = """
    , family AS (
        UPDATE token_families SET expires_at = greatest(expires_at, now() + %(longest)s)
        FROM presented
        WHERE token_families.family_id = presented.family_id AND revoked_at IS NULL
        RETURNING token_families.family_id
    ), refresh_token AS (
        INSERT INTO refresh_tokens (token_hash, family_id, salt, expires_at)
        SELECT %(refresh_hash)s, family_id, %(salt)s, now() + %(refresh_lifetime)s
        FROM family WHERE %(refresh_hash)s::bytea IS NOT NULL
    )
    INSERT INTO access_tokens (token_id, client_id, family_id, scopes, audience, expires_at)
    SELECT %(token_id)s, %(client_id)s, family_id, %(scopes)s, %(audience)s, now() + %(lifetime)s FROM family
"""


class TokenRepository(Repository):
    """Keeps what was issued."""

    async def add_code(
        self,
        family_id: UUID,
        code_hash: bytes,
        authorization: Authorization,
        redirect_uri: str,
        code_challenge: str | None,
        lifetime: timedelta,
    ) -> None:
        """Add a family, with an authorization code as its first member."""
        await self._execute(
            "tokens.add_code",
            """
            WITH family AS (
                INSERT INTO token_families (
                    family_id, client_id, user_id, session_id, scopes, resources, nonce, auth_time, subject, amr,
                    claims, expires_at
                )
                VALUES (
                    %(family_id)s, %(client_id)s, %(user_id)s, %(session_id)s, %(scopes)s, %(resources)s, %(nonce)s,
                    %(auth_time)s, %(subject)s, %(amr)s, %(claims)s, now() + %(lifetime)s
                )
                RETURNING family_id, expires_at
            ), told AS (
                INSERT INTO session_clients (session_id, client_id, subject)
                SELECT session_id, %(client_id)s, %(subject)s FROM sessions
                WHERE session_id = %(session_id)s AND 'openid' = ANY(%(scopes)s::text[])
                ON CONFLICT (session_id, client_id) DO UPDATE SET subject = excluded.subject
            )
            INSERT INTO authorization_codes (code_hash, family_id, redirect_uri, code_challenge, expires_at)
            SELECT %(code_hash)s, family_id, %(redirect_uri)s, %(code_challenge)s, expires_at FROM family
            """,
            {
                "family_id": family_id,
                "code_hash": code_hash,
                "client_id": authorization.client_id,
                "user_id": authorization.user_id,
                "session_id": authorization.session_id,
                "scopes": list(authorization.scopes),
                "resources": list(authorization.resources),
                "nonce": authorization.nonce,
                "auth_time": authorization.auth_time,
                "subject": authorization.subject,
                "amr": list(authorization.amr),
                "claims": Jsonb({where: dict(claims) for where, claims in authorization.claims.items()}),
                "redirect_uri": redirect_uri,
                "code_challenge": code_challenge,
                "lifetime": lifetime,
            },
        )

    async def find_code(self, code_hash: bytes) -> AuthorizationCode | None:
        """Return a code, redeemed and expired ones too, unless its user is disabled."""
        return await self._one(
            "tokens.find_code",
            _code,
            f"""
            SELECT code_hash, redirect_uri, code_challenge, authorization_codes.expires_at <= now() AS is_expired,
                   redeemed_at IS NOT NULL AS is_redeemed, {_FAMILY_COLUMNS}
            FROM authorization_codes JOIN token_families USING (family_id) JOIN users USING (user_id)
            WHERE code_hash = %s AND users.disabled_at IS NULL
            """,
            (code_hash,),
        )

    async def redeem_code(self, code_hash: bytes, access: NewAccessToken, refresh: NewRefreshToken | None) -> bool:
        """Redeem a code and issue tokens for it; tell whether it was still there to be redeemed."""
        return (
            await self._execute(
                "tokens.redeem_code",
                f"""
            WITH presented AS (
                UPDATE authorization_codes SET redeemed_at = now()
                WHERE code_hash = %(presented)s AND redeemed_at IS NULL AND expires_at > now()
                RETURNING family_id
            ) {_ISSUE}
            """,
                {"presented": code_hash, **_issue(access, refresh)},
            )
            == 1
        )

    async def find_refresh_token(self, token_hash: bytes) -> RefreshToken | None:
        """Return a refresh token, rotated and expired ones too, unless its user is disabled."""
        return await self._one(
            "tokens.find_refresh_token",
            _refresh_token,
            f"""
            SELECT refresh_tokens.token_hash, refresh_tokens.salt, refresh_tokens.expires_at <= now() AS is_expired,
                   -- By the clock, not by the transaction: two that are under way began at the same time.
                   clock_timestamp() - refresh_tokens.rotated_at AS rotated_for,
                   successors.rotated_at IS NOT NULL AS is_successor_used, refresh_tokens.created_at,
                   refresh_tokens.expires_at, {_FAMILY_COLUMNS}
            FROM refresh_tokens JOIN token_families USING (family_id) JOIN users USING (user_id)
                 LEFT JOIN refresh_tokens AS successors ON successors.token_hash = refresh_tokens.successor
            WHERE refresh_tokens.token_hash = %s AND users.disabled_at IS NULL
            """,
            (token_hash,),
        )

    async def rotate(self, token_hash: bytes, access: NewAccessToken, successor: NewRefreshToken) -> bool:
        """Give a refresh token a successor and issue tokens; tell whether it had none and is valid."""
        return (
            await self._execute(
                "tokens.rotate",
                f"""
            WITH presented AS (
                UPDATE refresh_tokens SET rotated_at = clock_timestamp(), successor = %(refresh_hash)s
                WHERE token_hash = %(presented)s AND rotated_at IS NULL AND expires_at > now()
                RETURNING family_id
            ) {_ISSUE}
            """,
                {"presented": token_hash, **_issue(access, successor)},
            )
            == 1
        )

    async def repeat(self, successor_hash: bytes, access: NewAccessToken) -> bool:
        """Issue an access token to a client that did not get its last answer; tell whether that may be.

        Args:
            successor_hash: the refresh token in that answer, which must not have been used.
            access: what to issue.
        """
        return (
            await self._execute(
                "tokens.repeat",
                f"""
            WITH presented AS (
                SELECT family_id FROM refresh_tokens
                WHERE token_hash = %(successor)s AND rotated_at IS NULL AND expires_at > now()
            ) {_ISSUE}
            """,
                {"successor": successor_hash, **_issue(access, None)},
            )
            == 1
        )

    async def add_access_token(self, access: NewAccessToken) -> None:
        """Add an access token that no user's authorization led to."""
        await self._execute(
            "tokens.add_access_token",
            """
            INSERT INTO access_tokens (token_id, client_id, scopes, audience, expires_at)
            VALUES (%s, %s, %s, %s, now() + %s)
            """,
            (access.token_id, access.client_id, list(access.scopes), list(access.audience), access.lifetime),
        )

    async def find_access_token(self, token_id: UUID) -> StoredAccessToken | None:
        """Return an access token, revoked and expired ones too, unless its client or user is disabled."""
        return await self._one(
            "tokens.find_access_token",
            _access_token,
            f"""
            SELECT {_ACCESS_TOKEN_COLUMNS}
            FROM access_tokens JOIN clients USING (client_id) LEFT JOIN token_families USING (family_id)
                 LEFT JOIN users USING (user_id)
            WHERE token_id = %s AND clients.enabled AND users.disabled_at IS NULL
            """,
            (token_id,),
        )

    async def find_family_of(self, token_id: UUID) -> Family | None:
        """Return the family of an access token that is neither expired nor revoked, unless its user is disabled."""
        return await self._one(
            "tokens.find_family_of",
            _family,
            f"""
            SELECT {_FAMILY_COLUMNS}
            FROM access_tokens JOIN token_families USING (family_id) JOIN users USING (user_id)
                 JOIN clients ON clients.client_id = token_families.client_id
            WHERE token_id = %s AND access_tokens.expires_at > now() AND access_tokens.revoked_at IS NULL
              AND token_families.revoked_at IS NULL AND users.disabled_at IS NULL AND clients.enabled
            """,
            (token_id,),
        )

    async def revoke_access_token(self, token_id: UUID, reason: RevocationReason) -> bool:
        """Revoke one access token; tell whether it was not revoked already."""
        return (
            await self._execute(
                "tokens.revoke_access_token",
                """
            UPDATE access_tokens SET revoked_at = now(), revocation_reason = %s
            WHERE token_id = %s AND revoked_at IS NULL
            """,
                (reason.value, token_id),
            )
            == 1
        )

    async def revoke_family(self, family_id: UUID, reason: RevocationReason) -> bool:
        """Revoke a family; tell whether it was not revoked already."""
        return (
            await self._execute(
                "tokens.revoke_family",
                """
            UPDATE token_families SET revoked_at = now(), revocation_reason = %s
            WHERE family_id = %s AND revoked_at IS NULL
            """,
                (reason.value, family_id),
            )
            == 1
        )

    async def revoke_families(
        self,
        reason: RevocationReason,
        *,
        user_id: UUID | None = None,
        client_id: str | None = None,
        session_id: UUID | None = None,
    ) -> int:
        """Revoke the families of a user, a client, a session, or what these have in common; return how many.

        Raises:
            ValueError: none of them is given, which would be all families there are.
        """
        if user_id is None and client_id is None and session_id is None:
            raise ValueError("say whose families are to be revoked")
        return await self._execute(
            "tokens.revoke_families",
            """
            UPDATE token_families SET revoked_at = now(), revocation_reason = %(reason)s
            WHERE revoked_at IS NULL AND expires_at > now()
              AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
              AND (%(client_id)s::text IS NULL OR client_id = %(client_id)s)
              AND (%(session_id)s::uuid IS NULL OR session_id = %(session_id)s)
            """,
            {"reason": reason.value, "user_id": user_id, "client_id": client_id, "session_id": session_id},
        )

    async def revoke_access_tokens_of_client(self, client_id: str, reason: RevocationReason) -> int:
        """Revoke the access tokens that a client has for itself; return how many."""
        return await self._execute(
            "tokens.revoke_access_tokens_of_client",
            """
            UPDATE access_tokens SET revoked_at = now(), revocation_reason = %s
            WHERE client_id = %s AND family_id IS NULL AND revoked_at IS NULL AND expires_at > now()
            """,
            (reason.value, client_id),
        )

    async def list_families(
        self, *, user_id: UUID | None, client_id: str | None, limit: int, offset: int
    ) -> list[Family]:
        """Return families that have not expired, the latest first."""
        return await self._all(
            "tokens.list_families",
            _family,
            f"""
            SELECT {_FAMILY_COLUMNS} FROM token_families
            WHERE expires_at > now()
              AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
              AND (%(client_id)s::text IS NULL OR client_id = %(client_id)s)
            ORDER BY created_at DESC, family_id LIMIT %(limit)s OFFSET %(offset)s
            """,
            {"user_id": user_id, "client_id": client_id, "limit": limit, "offset": offset},
        )

    async def list_access_tokens(
        self, *, user_id: UUID | None, client_id: str | None, limit: int, offset: int
    ) -> list[StoredAccessToken]:
        """Return access tokens that have not expired, the latest first."""
        return await self._all(
            "tokens.list_access_tokens",
            _access_token,
            f"""
            SELECT {_ACCESS_TOKEN_COLUMNS}
            FROM access_tokens LEFT JOIN token_families USING (family_id)
            WHERE access_tokens.expires_at > now()
              AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
              AND (%(client_id)s::text IS NULL OR access_tokens.client_id = %(client_id)s)
            ORDER BY access_tokens.created_at DESC, token_id LIMIT %(limit)s OFFSET %(offset)s
            """,
            {"user_id": user_id, "client_id": client_id, "limit": limit, "offset": offset},
        )

    async def count_active(self) -> tuple[int, int]:
        """Return how many access tokens and how many refresh tokens are valid."""
        counted = await self._one(
            "tokens.count_active",
            _counts,
            """
            SELECT
                (SELECT count(*) FROM access_tokens LEFT JOIN token_families USING (family_id)
                 WHERE access_tokens.expires_at > now() AND access_tokens.revoked_at IS NULL
                   AND token_families.revoked_at IS NULL) AS access_tokens,
                (SELECT count(*) FROM refresh_tokens JOIN token_families USING (family_id)
                 WHERE refresh_tokens.expires_at > now() AND rotated_at IS NULL AND revoked_at IS NULL)
                AS refresh_tokens
            """,
        )
        return counted or (0, 0)

    async def delete_expired_families(self, limit: int) -> int:
        """Delete at most so many families whose last member has expired; return how many it were."""
        return await self._execute(
            "tokens.delete_expired_families",
            """
            DELETE FROM token_families WHERE family_id IN (
                SELECT family_id FROM token_families WHERE expires_at < now() LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (limit,),
        )

    async def delete_expired_access_tokens(self, limit: int) -> int:
        """Delete at most so many access tokens that have expired; return how many it were."""
        return await self._execute(
            "tokens.delete_expired_access_tokens",
            """
            DELETE FROM access_tokens WHERE token_id IN (
                SELECT token_id FROM access_tokens WHERE expires_at < now() LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (limit,),
        )

    async def delete_expired_refresh_tokens(self, limit: int) -> int:
        """Delete at most so many refresh tokens that have expired, rotated ones too; return how many it were."""
        return await self._execute(
            "tokens.delete_expired_refresh_tokens",
            """
            DELETE FROM refresh_tokens WHERE token_hash IN (
                SELECT token_hash FROM refresh_tokens WHERE expires_at < now() LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (limit,),
        )


def _issue(access: NewAccessToken, refresh: NewRefreshToken | None) -> dict[str, Any]:
    return {
        "token_id": access.token_id,
        "client_id": access.client_id,
        "scopes": list(access.scopes),
        "audience": list(access.audience),
        "lifetime": access.lifetime,
        "longest": max(access.lifetime, refresh.lifetime) if refresh else access.lifetime,
        "refresh_hash": refresh and refresh.token_hash,
        "salt": refresh and refresh.salt,
        "refresh_lifetime": refresh.lifetime if refresh else timedelta(),
    }


def _family(
    *,
    family_id: UUID,
    client_id: str,
    user_id: UUID,
    session_id: UUID,
    scopes: Sequence[str],
    resources: Sequence[str],
    nonce: str | None,
    auth_time: datetime,
    subject: str,
    amr: Sequence[str],
    claims: Mapping[str, Any],
    family_created_at: datetime,
    family_expires_at: datetime,
    revoked_at: datetime | None,
    revocation_reason: str | None,
) -> Family:
    return Family(
        family_id=family_id,
        authorization=Authorization(
            client_id=client_id,
            user_id=user_id,
            session_id=session_id,
            scopes=tuple(scopes),
            resources=tuple(resources),
            nonce=nonce,
            auth_time=auth_time,
            subject=subject,
            amr=tuple(amr),
            claims=claims,
        ),
        created_at=family_created_at,
        expires_at=family_expires_at,
        revoked_at=revoked_at,
        revocation_reason=_reason(revocation_reason),
    )


def _code(
    *,
    code_hash: bytes,
    redirect_uri: str,
    code_challenge: str | None,
    is_expired: bool,
    is_redeemed: bool,
    **family: Any,
) -> AuthorizationCode:
    return AuthorizationCode(code_hash, redirect_uri, code_challenge, is_expired, is_redeemed, _family(**family))


def _refresh_token(
    *,
    token_hash: bytes,
    salt: bytes,
    is_expired: bool,
    rotated_for: timedelta | None,
    is_successor_used: bool,
    created_at: datetime,
    expires_at: datetime,
    **family: Any,
) -> RefreshToken:
    return RefreshToken(
        token_hash, salt, is_expired, rotated_for, is_successor_used, created_at, expires_at, _family(**family)
    )


def _access_token(
    *, scopes: Sequence[str], audience: Sequence[str], revocation_reason: str | None, **columns: Any
) -> StoredAccessToken:
    return StoredAccessToken(
        scopes=tuple(scopes), audience=tuple(audience), revocation_reason=_reason(revocation_reason), **columns
    )


def _reason(value: str | None) -> RevocationReason | None:
    return RevocationReason(value) if value else None


def _counts(*, access_tokens: int, refresh_tokens: int) -> tuple[int, int]:
    return access_tokens, refresh_tokens
