"""From settings to the services of users and sessions: the same for the application and for the command line."""

import logging
from datetime import timedelta

import structlog

from authly.audit.repository import AuditRepository
from authly.audit.service import AuditLog
from authly.core.clock import Clock, utc_now
from authly.core.repository import Database
from authly.monitoring.recorders import Recorders
from authly.oidc.ended_sessions import EndedSessions
from authly.sessions.repository import SessionRepository
from authly.sessions.service import Lifetimes, SessionService
from authly.settings import Settings
from authly.users.authentication import AuthenticationService
from authly.users.passwords import HashParameters, PasswordHasher, PasswordPolicy
from authly.users.repository import CredentialRepository, UserRepository
from authly.users.service import UserService
from authly.users.throttle import Delays, DeviceRepository, LoginFailureRepository, LoginThrottle

_first_start = structlog.stdlib.get_logger("authly.first_start")


class Identity:
    """The services of users and sessions on one database.

    Args:
        settings: what an operator chose.
        database: where everything is kept.
        clock: tells the time.
        recorders: are told what they do.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock = utc_now,
        recorders: Recorders | None = None,
    ) -> None:
        recorders = recorders or Recorders()
        self.audit = AuditLog(AuditRepository(database), clock)
        self.sessions = SessionService(
            SessionRepository(database),
            Lifetimes(timedelta(seconds=settings.session_lifetime), timedelta(seconds=settings.session_idle_timeout)),
            clock,
            EndedSessions(database, recorders.oauth),
            recorders.auth,
        )
        self.throttle = LoginThrottle(
            database,
            LoginFailureRepository(database),
            Delays(settings.login_free_failures, settings.login_longest_delay),
            Delays(settings.login_account_free_failures, settings.login_account_longest_delay),
            clock,
        )
        self.devices = DeviceRepository(database)
        self.hasher = PasswordHasher(
            HashParameters(
                settings.password_hash_time, settings.password_hash_memory, settings.password_hash_parallelism
            ),
            settings.password_hash_threads,
            settings.password_hash_queue,
            recorders.auth,
        )
        self.credentials = CredentialRepository(database)
        users = UserRepository(database)
        policy = PasswordPolicy(settings.password_min_length)
        self.users = UserService(
            database=database,
            users=users,
            credentials=self.credentials,
            devices=self.devices,
            throttle=self.throttle,
            hasher=self.hasher,
            policy=policy,
            sessions=self.sessions,
            audit=self.audit,
            clock=clock,
            metrics=recorders.auth,
        )
        self.authentication = AuthenticationService(
            database=database,
            users=users,
            credentials=self.credentials,
            devices=self.devices,
            throttle=self.throttle,
            hasher=self.hasher,
            policy=policy,
            sessions=self.sessions,
            audit=self.audit,
            clock=clock,
            recorders=recorders,
        )


async def create_first_administrator(settings: Settings, users: UserService) -> None:
    """Create the first administrator of an installation, and show a generated password once, in the log.

    Args:
        settings: say how to call it, and may hold its password.
        users: creates it.

    Raises:
        UserDataError: a user has its name already.
        PasswordRefusedError: the configured password is not accepted.
        DatabaseUnavailableError: the database is away.
    """
    chosen = settings.admin_password.get_secret_value() if settings.admin_password else None
    created = await users.create_first_administrator(settings.admin_username, chosen)
    if created is None:
        return
    user, password = created
    # Whatever the log level is: nobody shows it again.
    logging.getLogger("authly.first_start").setLevel(logging.INFO)
    if chosen is None:
        _first_start.info(
            "administrator_created",
            username=user.username,
            password=password,
            hint="This password is shown once. Sign in with it at /account/password, and choose your own.",
        )
    else:
        _first_start.info("administrator_created", username=user.username)
