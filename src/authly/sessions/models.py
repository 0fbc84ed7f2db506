"""A session."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Session:
    """A browser in which a user has logged in."""

    # The `sid` of ID tokens and logout tokens: it names the session, and opens nothing.
    session_id: UUID
    user_id: UUID
    # When the user last proved who they are: the `auth_time` of ID tokens.
    authenticated_at: datetime
    # How, in the words of RFC 8176.
    amr: tuple[str, ...]
    client_address: str | None
    user_agent: str | None
    created_at: datetime
    last_seen_at: datetime
    # The end of it, however much it is used.
    expires_at: datetime
    ended_at: datetime | None = None
