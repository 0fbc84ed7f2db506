"""The life of sessions."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, Self
from uuid import UUID, uuid4

from authly.core.clock import Clock, utc_now
from authly.core.repository import Transaction
from authly.monitoring.recorders import AuthenticationRecorder, NullAuthenticationMetrics
from authly.sessions.models import Session
from authly.sessions.repository import SessionRepository

PASSWORD = "pwd"
_TOKEN_BYTES = 32
# 43 characters of base64url; anything longer is not ours, and not worth a hash and a query.
_TOKEN_LENGTH = 43
_USER_AGENT_LENGTH = 256
# A session is noted as used once in so many seconds at most, for each note is a write.
_TOUCH_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions last."""

    # From the last proof of who somebody is.
    absolute: timedelta = timedelta(hours=12)
    # From the last use.
    idle: timedelta = timedelta(hours=1)


class Endings(Protocol):
    """Whoever has to know of sessions that were ended before their time."""

    def within(self, transaction: Transaction) -> Self:
        """Return the same, inside a transaction."""

    async def sessions_ended(self, session_ids: Sequence[UUID]) -> None:
        """Note that sessions are over."""


class NobodyCares:
    """Has to know nothing."""

    def within(self, transaction: Transaction) -> Self:
        """Return the same."""
        return self

    async def sessions_ended(self, session_ids: Sequence[UUID]) -> None:
        """Do nothing."""


class SessionService:
    """Starts, finds and ends sessions.

    Args:
        sessions: where they are kept.
        lifetimes: how long they last.
        clock: tells the time.
        endings: is told of sessions that were ended.
        metrics: counts them.
    """

    def __init__(
        self,
        sessions: SessionRepository,
        lifetimes: Lifetimes = Lifetimes(),
        clock: Clock = utc_now,
        endings: Endings | None = None,
        metrics: AuthenticationRecorder | None = None,
    ) -> None:
        self._metrics = metrics or NullAuthenticationMetrics()
        self._endings = endings or NobodyCares()
        self._sessions = sessions
        self._lifetimes = lifetimes
        self._clock = clock

    async def start(
        self,
        user_id: UUID,
        *,
        amr: tuple[str, ...] = (PASSWORD,),
        client_address: str | None = None,
        user_agent: str | None = None,
        replacing: Session | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[Session, str]:
        """Start the session of a user who has just proved who they are; return it and the value of its cookie.

        The cookie is always a new one (session fixation). A session of the same user in the same browser goes on under
        its ``session_id``, with a new time of authentication; another user's is ended.

        Args:
            user_id: who it is.
            amr: how they proved it, in the words of RFC 8176.
            client_address: from where.
            user_agent: with what.
            replacing: the session that the browser had before.
            transaction: what else has to happen with it.
        """
        sessions = self._within(transaction)
        now = self._clock()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        expires_at = now + self._lifetimes.absolute
        if replacing is not None and replacing.user_id == user_id:
            renewed = await sessions.renew(replacing.session_id, _hash(token), now, amr, expires_at)
            if renewed is not None:
                return renewed, token
        elif replacing is not None:
            await self.end(replacing, transaction)
        session = Session(
            session_id=uuid4(),
            user_id=user_id,
            authenticated_at=now,
            amr=amr,
            client_address=client_address,
            user_agent=user_agent and user_agent[:_USER_AGENT_LENGTH],
            created_at=now,
            last_seen_at=now,
            expires_at=expires_at,
        )
        await sessions.add(_hash(token), session)
        self._count("created", 1, transaction)
        return session, token

    async def resume(self, cookie: str | None) -> Session | None:
        """Return the session that a cookie opens, or None if there is none in force.

        Args:
            cookie: its value, as the browser sent it.
        """
        if cookie is None or len(cookie) != _TOKEN_LENGTH or not cookie.isascii():
            return None
        now = self._clock()
        session = await self._sessions.find(_hash(cookie), now, now - self._lifetimes.idle)
        if session is not None and now - session.last_seen_at >= min(_TOUCH_EVERY, self._lifetimes.idle / 4):
            await self._sessions.touch(session.session_id, now)
        return session

    async def rotate(self, session: Session, transaction: Transaction | None = None) -> str:
        """Give a session another cookie, and return its value; the old one opens nothing any more."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        await self._within(transaction).rotate(session.session_id, _hash(token))
        return token

    async def end(self, session: Session, transaction: Transaction | None = None) -> bool:
        """End a session; tell whether it was not over already."""
        ended = await self._within(transaction).end(session.session_id, self._clock())
        if ended:
            await self._tell([session.session_id], transaction)
        return ended

    async def end_all(
        self, user_id: UUID, except_: Session | None = None, transaction: Transaction | None = None
    ) -> list[UUID]:
        """End all sessions of a user but for one; return which were not over already."""
        sessions = self._within(transaction)
        ended = await sessions.end_all(user_id, self._clock(), except_.session_id if except_ else None)
        if ended:
            await self._tell(ended, transaction)
        return ended

    async def get(self, session_id: UUID) -> Session | None:
        """Return a session, be it over or not."""
        return await self._sessions.get(session_id)

    async def list(self, user_id: UUID | None = None, limit: int = 50, offset: int = 0) -> list[Session]:
        """Return sessions that are in force, of one user or of all, the latest first."""
        now = self._clock()
        return await self._sessions.list(user_id, now, now - self._lifetimes.idle, limit, offset)

    async def count(self, transaction: Transaction | None = None) -> int:
        """Return how many sessions are in force."""
        now = self._clock()
        return await self._within(transaction).count(now, now - self._lifetimes.idle)

    async def delete_over(self, moment: datetime, limit: int) -> int:
        """Delete at most so many sessions that were over at a moment; return how many it were."""
        deleted = await self._sessions.delete_over(moment, moment - self._lifetimes.idle, limit)
        self._metrics.sessions_changed("expired", sum(deleted))
        return len(deleted)

    async def _tell(self, session_ids: Sequence[UUID], transaction: Transaction | None) -> None:
        endings = self._endings.within(transaction) if transaction else self._endings
        await endings.sessions_ended(session_ids)
        self._count("ended", len(session_ids), transaction)

    def _count(self, event: str, number: int, transaction: Transaction | None) -> None:
        count = partial(self._metrics.sessions_changed, event, number)
        if transaction is None:
            count()
        else:
            transaction.afterwards(count)

    def _within(self, transaction: Transaction | None) -> SessionRepository:
        return self._sessions.within(transaction) if transaction else self._sessions


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
