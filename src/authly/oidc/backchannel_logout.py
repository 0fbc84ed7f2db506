"""Telling clients of the ends of sessions (OpenID Connect Back-Channel Logout 1.0)."""

import asyncio
import http.client
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4

import structlog

from authly.core.repository import Repository
from authly.keys.jwt import Jwts
from authly.keys.models import Algorithm

_TYPE = "logout+jwt"
_EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Two minutes, as section 2.4 recommends.
_LIFETIME = 120
# The first at once, the others after 5, 20, 80, 320 and 1280 seconds: in all half an hour.
_MOST_ATTEMPTS = 6
_AT_ONCE = 10
_TIMEOUT = 5.0

Post = Callable[[str, dict[str, str]], int]

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Announcement:
    """The end of a session that a client is to be told of."""

    logout_id: UUID
    client_id: str
    session_id: UUID
    subject: str
    attempts: int
    uri: str | None
    algorithm: Algorithm


class AnnouncementRepository(Repository):
    """Keeps what clients are yet to be told."""

    async def take(self, limit: int) -> list[Announcement]:
        """Return announcements that are due, and put them off to the next attempt.

        Whoever takes one may be killed before it is delivered: then it is due again, and perhaps delivered twice.
        """
        return await self._all(
            "backchannel_logouts.take",
            Announcement,
            """
            UPDATE backchannel_logouts
            SET attempts = attempts + 1, due_at = now() + make_interval(secs => 5 * power(4, attempts))
            FROM clients
            WHERE clients.client_id = backchannel_logouts.client_id AND logout_id IN (
                SELECT logout_id FROM backchannel_logouts WHERE due_at <= now()
                ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
            )
            RETURNING logout_id, backchannel_logouts.client_id, session_id, subject, attempts,
                      backchannel_logout_uri AS uri, id_token_signed_response_alg AS algorithm
            """,
            (limit,),
        )

    async def done(self, logout_id: UUID) -> None:
        """Forget an announcement."""
        await self._execute(
            "backchannel_logouts.done", "DELETE FROM backchannel_logouts WHERE logout_id = %s", (logout_id,)
        )


class BackchannelLogout:
    """Tells clients of the ends of sessions.

    Args:
        issuer: who tells them.
        announcements: what they are yet to be told.
        jwts: signs it.
        post: sends a form to a URL, and returns the status of the answer. Runs in a thread.
        now: the time of day, in seconds since 1970.
    """

    def __init__(
        self,
        issuer: str,
        announcements: AnnouncementRepository,
        jwts: Jwts,
        post: Post | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._announcements = announcements
        self._jwts = jwts
        self._post = post or post_form
        self._now = now

    async def deliver(self, limit: int) -> int:
        """Tell clients of at most so many ends of sessions that are due; return how many it were."""
        due = await self._announcements.take(limit)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def deliver(announcement: Announcement) -> None:
            async with at_once:
                await self._deliver(announcement)

        await asyncio.gather(*(deliver(announcement) for announcement in due))
        return len(due)

    async def _deliver(self, announcement: Announcement) -> None:
        problem = await self._tell(announcement) if announcement.uri is not None else ""
        if not problem or announcement.attempts >= _MOST_ATTEMPTS:
            await self._announcements.done(announcement.logout_id)
        if problem:
            _log.warning(
                "backchannel_logout_failed",
                client_id=announcement.client_id,
                attempt=announcement.attempts,
                given_up=announcement.attempts >= _MOST_ATTEMPTS,
                reason=problem,
            )

    async def _tell(self, announcement: Announcement) -> str:
        """Send a logout token; return what went wrong, or nothing."""
        token = await self._jwts.encode(self._claims(announcement), announcement.algorithm, _TYPE)
        assert announcement.uri is not None
        try:
            status = await asyncio.to_thread(self._post, announcement.uri, {"logout_token": token})
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        # 204 as well: some frameworks turn an empty 200 into it (section 2.8).
        return "" if status in {200, 204} else f"the client answered {status}"

    def _claims(self, announcement: Announcement) -> dict[str, Any]:
        """Return what a logout token says (section 2.4)."""
        issued_at = int(self._now())
        return {
            "iss": self._issuer,
            "sub": announcement.subject,
            "aud": announcement.client_id,
            "iat": issued_at,
            "exp": issued_at + _LIFETIME,
            "jti": str(uuid4()),
            "events": {_EVENT: {}},
            "sid": str(announcement.session_id),
        }


def post_form(url: str, fields: dict[str, str]) -> int:
    """Send a form and return the status of the answer. Follows no redirects: the client chose this address.

    Raises:
        OSError: there is no answer.
        http.client.HTTPException: it is none of HTTP.
    """
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection.request(
            "POST", target, urlencode(fields), {"content-type": "application/x-www-form-urlencoded", "accept": "*/*"}
        )
        return connection.getresponse().status
    finally:
        connection.close()
