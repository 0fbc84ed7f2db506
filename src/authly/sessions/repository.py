"""The SQL of sessions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from authly.core.repository import Repository
from authly.sessions.models import Session

_COLUMNS = """
    session_id, sessions.user_id, authenticated_at, amr, client_address, user_agent, sessions.created_at, last_seen_at,
    expires_at, ended_at
"""


class SessionRepository(Repository):
    """Keeps sessions."""

    async def add(self, token_hash: bytes, session: Session) -> None:
        """Add a session."""
        await self._execute(
            "sessions.add",
            """
            INSERT INTO sessions (
                token_hash, session_id, user_id, authenticated_at, amr, client_address, user_agent, created_at,
                last_seen_at, expires_at
            )
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                token_hash,
                session.session_id,
                session.user_id,
                session.authenticated_at,
                list(session.amr),
                session.client_address,
                session.user_agent,
                session.created_at,
                session.last_seen_at,
                session.expires_at,
            ),
        )

    async def find(self, token_hash: bytes, now: datetime, seen_after: datetime) -> Session | None:
        """Return the session of a cookie if it is in force and its user is not disabled.

        Args:
            token_hash: SHA-256 of the cookie's value.
            now: sessions that expired by then are over.
            seen_after: so are those that nobody used since.
        """
        return await self._one(
            "sessions.find",
            _session,
            f"""
            SELECT {_COLUMNS}
            FROM sessions JOIN users USING (user_id)
            WHERE token_hash = %s AND ended_at IS NULL AND expires_at > %s AND last_seen_at > %s
              AND disabled_at IS NULL
            """,
            (token_hash, now, seen_after),
        )

    async def touch(self, session_id: UUID, now: datetime) -> None:
        """Note that a session was used."""
        await self._execute(
            "sessions.touch",
            "UPDATE sessions SET last_seen_at = %(now)s WHERE session_id = %(id)s AND last_seen_at < %(now)s",
            {"id": session_id, "now": now},
        )

    async def renew(
        self, session_id: UUID, token_hash: bytes, authenticated_at: datetime, amr: Sequence[str], expires_at: datetime
    ) -> Session | None:
        """Give a session that is not over another cookie, and note that its user proved again who they are."""
        return await self._one(
            "sessions.renew",
            _session,
            f"""
            UPDATE sessions
            SET token_hash = %(token_hash)s, authenticated_at = %(now)s, last_seen_at = %(now)s, amr = %(amr)s,
                expires_at = %(expires_at)s
            WHERE session_id = %(id)s AND ended_at IS NULL
            RETURNING {_COLUMNS}
            """,
            {
                "id": session_id,
                "token_hash": token_hash,
                "now": authenticated_at,
                "amr": list(amr),
                "expires_at": expires_at,
            },
        )

    async def rotate(self, session_id: UUID, token_hash: bytes) -> bool:
        """Give a session that is not over another cookie."""
        return (
            await self._execute(
                "sessions.rotate",
                "UPDATE sessions SET token_hash = %s WHERE session_id = %s AND ended_at IS NULL",
                (token_hash, session_id),
            )
            == 1
        )

    async def end(self, session_id: UUID, now: datetime) -> bool:
        """End a session; tell whether it was not over already."""
        return (
            await self._execute(
                "sessions.end",
                "UPDATE sessions SET ended_at = %s WHERE session_id = %s AND ended_at IS NULL",
                (now, session_id),
            )
            == 1
        )

    async def end_all(self, user_id: UUID, now: datetime, except_: UUID | None) -> list[UUID]:
        """End a user's sessions but for one; return which were not over already."""
        return await self._all(
            "sessions.end_all",
            _session_id,
            """
            UPDATE sessions SET ended_at = %(now)s
            WHERE user_id = %(user_id)s AND ended_at IS NULL AND session_id IS DISTINCT FROM %(except)s::uuid
            RETURNING session_id
            """,
            {"user_id": user_id, "now": now, "except": except_},
        )

    async def get(self, session_id: UUID) -> Session | None:
        """Return a session, be it over or not."""
        return await self._one(
            "sessions.get", _session, f"SELECT {_COLUMNS} FROM sessions WHERE session_id = %s", (session_id,)
        )

    async def list(
        self, user_id: UUID | None, now: datetime, seen_after: datetime, limit: int, offset: int
    ) -> list[Session]:
        """Return sessions that are in force, of one user or of all, the latest first."""
        return await self._all(
            "sessions.list",
            _session,
            f"""
            SELECT {_COLUMNS}
            FROM sessions
            WHERE (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
              AND ended_at IS NULL AND expires_at > %(now)s AND last_seen_at > %(seen_after)s
            ORDER BY created_at DESC, session_id
            LIMIT %(limit)s OFFSET %(offset)s
            """,
            {"user_id": user_id, "now": now, "seen_after": seen_after, "limit": limit, "offset": offset},
        )

    async def count(self, now: datetime, seen_after: datetime) -> int:
        """Return how many sessions are in force."""
        counted = await self._one(
            "sessions.count",
            _count,
            """
            SELECT count(*) AS count FROM sessions
            WHERE ended_at IS NULL AND expires_at > %s AND last_seen_at > %s
            """,
            (now, seen_after),
        )
        return counted or 0

    async def delete_over(self, moment: datetime, seen_before: datetime, limit: int) -> Sequence[bool]:
        """Delete sessions that were over at a moment, and return of each whether it had expired rather than ended.

        Args:
            moment: those that ended or expired before it are deleted.
            seen_before: so are those that nobody used since.
            limit: how many to delete at most.
        """
        return await self._all(
            "sessions.delete_over",
            _has_expired,
            """
            DELETE FROM sessions
            WHERE token_hash IN (
                SELECT token_hash FROM sessions
                WHERE ended_at < %(moment)s OR expires_at < %(moment)s OR last_seen_at < %(seen_before)s
                LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            )
            RETURNING ended_at IS NULL AS has_expired
            """,
            {"moment": moment, "seen_before": seen_before, "limit": limit},
        )


def _session(*, amr: Sequence[str], **columns: Any) -> Session:
    return Session(amr=tuple(amr), **columns)


def _session_id(*, session_id: UUID) -> UUID:
    return session_id


def _count(*, count: int) -> int:
    return count


def _has_expired(*, has_expired: bool) -> bool:
    return has_expired
