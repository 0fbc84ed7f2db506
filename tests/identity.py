"""Users and sessions for tests: the services on a real database, with a clock that tests set."""

from datetime import UTC, datetime, timedelta

from authly.audit.repository import AuditRepository
from authly.audit.service import AuditLog
from authly.core.repository import Database
from authly.sessions.repository import SessionRepository
from authly.sessions.service import SessionService
from authly.users.authentication import AuthenticationService
from authly.users.passwords import HashParameters, PasswordHasher, PasswordPolicy
from authly.users.repository import CredentialRepository, UserRepository
from authly.users.service import UserService
from authly.users.throttle import DeviceRepository, LoginFailureRepository, LoginThrottle

# As cheap as Argon2 can be; what a hash costs is the subject of few tests.
CHEAP = HashParameters(time_cost=1, memory_kib=8)


class FakeClock:
    """A time of day that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, **duration: float) -> None:
        """Let time pass."""
        self.now += timedelta(**duration)


class Identity:
    """The services of users and sessions, put together as the application does.

    Args:
        database: has the schema.
        hasher: of passwords; a cheap one by default.
    """

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self.clock = FakeClock()
        self.database = database
        self.users = UserRepository(database)
        self.credentials = CredentialRepository(database)
        self.devices = DeviceRepository(database)
        self.failures = LoginFailureRepository(database)
        self.hasher = hasher or PasswordHasher(CHEAP)
        self.audit = AuditLog(AuditRepository(database), self.clock)
        self.sessions = SessionService(SessionRepository(database), clock=self.clock)
        self.throttle = LoginThrottle(database, self.failures, clock=self.clock)
        policy = PasswordPolicy()
        self.accounts = UserService(
            database=database,
            users=self.users,
            credentials=self.credentials,
            devices=self.devices,
            throttle=self.throttle,
            hasher=self.hasher,
            policy=policy,
            sessions=self.sessions,
            audit=self.audit,
            clock=self.clock,
        )
        self.authentication = AuthenticationService(
            database=database,
            users=self.users,
            credentials=self.credentials,
            devices=self.devices,
            throttle=self.throttle,
            hasher=self.hasher,
            policy=policy,
            sessions=self.sessions,
            audit=self.audit,
            clock=self.clock,
        )
