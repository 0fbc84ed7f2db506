"""What tells, after a login, that it was the one that a request asked for.

A request that demands a login (``prompt=login``, a ``max_age`` that has passed) leads by way of the login page back to
itself, and demands the same again. A marker at the end of its query says when the user had authenticated before. It is
bound to the request, so that nobody gets round the demand of one with the marker of another.
"""

import hmac
import re
from datetime import datetime

from authly.sessions.models import Session

PARAMETER = "authly_login"
_MARKER = re.compile(rb"(?P<query>.*)&authly_login=(?P<before>[0-9]{1,20})\.(?P<mac>[0-9a-f]{64})", re.DOTALL)


class LoginMarkers:
    """Makes and reads markers.

    Args:
        key: 32 bytes that only Authly knows.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mark(self, query: bytes, session: Session | None) -> bytes:
        """Return a query with a marker.

        Args:
            query: of the request, without one.
            session: in which the login is demanded, if there is any.
        """
        before = b"%d" % (_microseconds(session.authenticated_at) if session else 0)
        return b"%s&%s=%s.%s" % (query, PARAMETER.encode(), before, self._mac(query, before))

    def _mac(self, query: bytes, before: bytes) -> bytes:
        return hmac.digest(self._key, before + b"." + query, "sha256").hex().encode()

    def read(self, marked: bytes) -> tuple[bytes, int | None]:
        """Return a query without its marker, and when the user had authenticated before; None if nothing says so."""
        match = _MARKER.fullmatch(marked)
        if match is None or not hmac.compare_digest(match["mac"], self._mac(match["query"], match["before"])):
            return marked, None
        return match["query"], int(match["before"])


def is_since(session: Session, before: int | None) -> bool:
    """Tell whether the user of a session authenticated after what a marker says."""
    return before is not None and _microseconds(session.authenticated_at) > before


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
