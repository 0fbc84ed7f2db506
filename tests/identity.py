"""Users and sessions for tests: the services on a real database, with a clock that tests set."""

from datetime import UTC, datetime, timedelta
from typing import Any

from authly.audit.models import SYSTEM, AuditFilter
from authly.core.repository import Database
from authly.identity import Identity
from authly.settings import Settings
from authly.users.models import Profile, User

PASSWORD = "correct horse battery staple"
# As cheap as Argon2 can be; what a hash costs is the subject of few tests.
CHEAP = {"password_hash_time": 1, "password_hash_memory": 8}


class FakeClock:
    """A time of day that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, **duration: float) -> None:
        """Let time pass, given as to a timedelta."""
        self.now += timedelta(**duration)


def make_identity(database: Database, clock: FakeClock | None = None, **settings: Any) -> Identity:
    """Put the services together, with cheap hashes unless the settings say otherwise."""
    return Identity(Settings(**{**CHEAP, **settings}), database, clock or FakeClock())


async def make_user(identity: Identity, username: str = "alice", password: str | None = PASSWORD) -> User:
    """Create a user."""
    return await identity.users.create(Profile(username), password, SYSTEM)


async def events(identity: Identity) -> list[str]:
    """Return what the audit log has, the oldest first."""
    return [entry.event for entry in reversed(await identity.audit.list(AuditFilter()))]
