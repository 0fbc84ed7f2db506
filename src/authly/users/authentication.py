"""How users prove who they are: logging in and out, and changing the password."""

import contextlib
import hashlib
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeGuard, TypeVar
from uuid import UUID

from authly.audit.models import ANONYMOUS, AuditEvent, Party
from authly.audit.service import AuditLog
from authly.core.clock import Clock, utc_now
from authly.core.repository import Database
from authly.core.security_log import SecurityLog
from authly.monitoring.labels import SecurityEvent
from authly.monitoring.recorders import Recorders
from authly.sessions.models import Session
from authly.sessions.service import SessionService
from authly.users.models import User, is_username
from authly.users.passwords import HasherBusyError, PasswordHasher, PasswordPolicy, PasswordRefusedError
from authly.users.repository import CredentialRepository, UserRepository
from authly.users.throttle import Attempt, DeviceRepository, LoginBlockedError, LoginThrottle

T = TypeVar("T")
KNOWN_FOR = timedelta(days=365)
_DEVICE_LENGTH = 43
_NOBODY = UUID(int=0)


class LoginFailure(StrEnum):
    """Why a login failed. That there is no such user is no reason of its own: it would tell who is one."""

    CREDENTIALS = "credentials"
    LOCKED = "locked"
    DISABLED = "disabled"


class LoginRefusedError(Exception):
    """Somebody did not prove who they are.

    Args:
        reason: why.
        retry_after: when the next attempt is admitted, in seconds from now.
    """

    def __init__(self, reason: LoginFailure, retry_after: float = 0.0) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Visitor:
    """Where a request comes from."""

    address: str | None = None
    user_agent: str | None = None
    # The value of the cookie by which a browser is known.
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """What a login gives: the values of two cookies, and what they stand for."""

    user: User
    session: Session
    session_cookie: str
    device_cookie: str


class AuthenticationService:
    """Lets users prove who they are.

    Args:
        database: where transactions are begun.
        users: who there is.
        credentials: the hashes of their passwords.
        devices: the browsers they are known by.
        throttle: slows guessing down.
        hasher: verifies passwords.
        policy: says which new ones are accepted.
        sessions: starts and ends sessions.
        audit: records what happened.
        clock: tells the time.
        recorders: are told how attempts end.
    """

    def __init__(
        self,
        *,
        database: Database,
        users: UserRepository,
        credentials: CredentialRepository,
        devices: DeviceRepository,
        throttle: LoginThrottle,
        hasher: PasswordHasher,
        policy: PasswordPolicy,
        sessions: SessionService,
        audit: AuditLog,
        clock: Clock = utc_now,
        recorders: Recorders | None = None,
    ) -> None:
        self._database = database
        self._users = users
        self._credentials = credentials
        self._devices = devices
        self._throttle = throttle
        self._hasher = hasher
        self._policy = policy
        self._sessions = sessions
        self._audit = audit
        self._clock = clock
        recorders = recorders or Recorders()
        self._metrics = recorders.auth
        self._security = SecurityLog(recorders.security)

    async def log_in(self, username: str, password: str, visitor: Visitor, replacing: Session | None = None) -> Login:
        """Log a user in.

        An unknown user and a wrong password are answered alike and after the same time.

        Args:
            username: as it was typed.
            password: as it was typed.
            visitor: where the attempt comes from.
            replacing: the session that the browser had before.

        Raises:
            LoginRefusedError: with the reason.
            HasherBusyError: too many log in at this moment.
            DatabaseUnavailableError: the database is away.
        """
        try:
            login = await self._log_in(username, password, visitor, replacing)
        except LoginRefusedError as error:
            self._metrics.login_failed(error.reason)
            raise
        except BaseException:
            self._metrics.login_broke()
            raise
        self._metrics.login_succeeded()
        return login

    async def _log_in(self, username: str, password: str, visitor: Visitor, replacing: Session | None) -> Login:
        username = username.strip()
        device = await self._known_device(visitor.device, username)
        attempt = await self._admit(username, visitor, device)
        # A name that nobody can have may hold what the database refuses.
        user = await self._users.find(username if is_username(username) else "-")
        password_hash = await self._credentials.get(user.user_id if user else _NOBODY)
        right = await self._verify(attempt, password_hash, password)
        if user is None or password_hash is None or not right:
            await self._record_failure(LoginFailure.CREDENTIALS, attempt, user, visitor)
            raise LoginRefusedError(LoginFailure.CREDENTIALS)
        if user.disabled_at is not None:
            await self._record_failure(LoginFailure.DISABLED, attempt, user, visitor)
            raise LoginRefusedError(LoginFailure.DISABLED)
        return await self._succeed(user, password_hash, password, attempt, visitor, replacing)

    async def log_out(self, session: Session, visitor: Visitor) -> None:
        """End a session."""
        async with self._database.transaction() as transaction:
            if await self._sessions.end(session, transaction):
                await self._audit.record(
                    AuditEvent.LOGGED_OUT,
                    Party.user(session.user_id),
                    Party.session(session.session_id),
                    client_address=visitor.address,
                    transaction=transaction,
                )

    async def change_password(self, session: Session, current: str, new: str, visitor: Visitor) -> tuple[str, str]:
        """Give the user of a session another password; their other sessions end.

        Args:
            session: in which it is done.
            current: the password until now.
            new: the password from now on.
            visitor: where the attempt comes from.

        Returns:
            The new values of the cookies of the session and of the device.

        Raises:
            LoginRefusedError: the current password is wrong, or too many attempts failed.
            PasswordRefusedError: the new one is not accepted.
            HasherBusyError: too many passwords are hashed at this moment.
            DatabaseUnavailableError: the database is away.
        """
        try:
            cookies = await self._change_password(session, current, new, visitor)
        except BaseException as error:
            self._metrics.password_change_ended("user", _outcome_of(error))
            raise
        self._metrics.password_change_ended("user", "success")
        return cookies

    async def _change_password(self, session: Session, current: str, new: str, visitor: Visitor) -> tuple[str, str]:
        user = await self._users.get(session.user_id)
        if user is None:
            raise LoginRefusedError(LoginFailure.CREDENTIALS)
        self._policy.check(new, user.username)
        if new == current:
            raise PasswordRefusedError("The new password is the current one.")
        # Counted by the session: whoever took over a browser shall not guess, and nobody else shall be in the way.
        attempt = await self._admit(user.username, visitor, session.session_id.bytes)
        old_hash = await self._credentials.get(user.user_id)
        if old_hash is None or not await self._verify(attempt, old_hash, current):
            await self._record_failure(LoginFailure.CREDENTIALS, attempt, user, visitor)
            raise LoginRefusedError(LoginFailure.CREDENTIALS)
        new_hash = await self._attempting(attempt, self._hasher.hash(new))
        device = secrets.token_urlsafe(32)
        async with self._database.transaction() as transaction:
            if not await self._credentials.within(transaction).change(user.user_id, old_hash, new_hash, self._clock()):
                raise LoginRefusedError(LoginFailure.CREDENTIALS)
            ended = await self._sessions.end_all(user.user_id, session, transaction)
            cookie = await self._sessions.rotate(session, transaction)
            devices = self._devices.within(transaction)
            await devices.forget_all(user.user_id)
            await devices.add(_hash(device), user.user_id, self._clock() + KNOWN_FOR)
            await self._throttle.succeeded(attempt, transaction)
            await self._audit.record(
                AuditEvent.PASSWORD_CHANGED,
                Party.user(user.user_id),
                Party.user(user.user_id),
                {"sessions_ended": len(ended)},
                client_address=visitor.address,
                transaction=transaction,
            )
        return cookie, device

    async def _known_device(self, device: str | None, username: str) -> bytes | None:
        if not _can_be_device(device) or not is_username(username):
            return None
        device_hash = _hash(device)
        return device_hash if await self._devices.is_known(device_hash, username, self._clock()) else None

    async def _admit(self, username: str, visitor: Visitor, device: bytes | None) -> Attempt:
        try:
            return await self._throttle.admit(username, visitor.address, device)
        except LoginBlockedError as error:
            raise LoginRefusedError(LoginFailure.LOCKED, error.retry_after) from error

    async def _verify(self, attempt: Attempt, password_hash: str | None, password: str) -> bool:
        return await self._attempting(attempt, self._hasher.verify(password_hash, password))

    async def _attempting(self, attempt: Attempt, work: Awaitable[T]) -> T:
        try:
            return await work
        except HasherBusyError:
            await self._throttle.withdrawn(attempt)
            raise

    async def _record_failure(
        self, reason: LoginFailure, attempt: Attempt, user: User | None, visitor: Visitor
    ) -> None:
        if attempt.blocks:
            user_id = str(user.user_id) if user else ""
            self._security.note(SecurityEvent.ACCOUNT_LOCKED, user_id=user_id, client=visitor.address or "")
        # Not the name that was typed, which may be a password.
        subject = Party.user(user.user_id) if user else None
        await self._audit.record(
            AuditEvent.LOGIN_FAILED,
            ANONYMOUS,
            subject,
            {"reason": reason.value, "blocks": attempt.blocks},
            client_address=visitor.address,
        )

    async def _succeed(
        self,
        user: User,
        password_hash: str,
        password: str,
        attempt: Attempt,
        visitor: Visitor,
        replacing: Session | None,
    ) -> Login:
        better_hash = password_hash
        if self._hasher.is_outdated(password_hash):
            # Where too many wait, at another login.
            with contextlib.suppress(HasherBusyError):
                better_hash = await self._hasher.hash(password)
        # A browser keeps its name: more than one person may use it.
        device = visitor.device if _can_be_device(visitor.device) else secrets.token_urlsafe(32)
        async with self._database.transaction() as transaction:
            # Keeps a change of the password waiting: the session of a login that saw the old one shall end by it.
            if not await self._credentials.within(transaction).replace(user.user_id, password_hash, better_hash):
                raise LoginRefusedError(LoginFailure.CREDENTIALS)
            await self._throttle.succeeded(attempt, transaction)
            await self._devices.within(transaction).add(_hash(device), user.user_id, self._clock() + KNOWN_FOR)
            session, cookie = await self._sessions.start(
                user.user_id,
                client_address=visitor.address,
                user_agent=visitor.user_agent,
                replacing=replacing,
                transaction=transaction,
            )
            await self._audit.record(
                AuditEvent.LOGIN_SUCCEEDED,
                Party.user(user.user_id),
                Party.session(session.session_id),
                client_address=visitor.address,
                transaction=transaction,
            )
        return Login(user, session, cookie, device)


def _outcome_of(error: BaseException) -> str:
    """Return how an attempt to change a password ended."""
    if isinstance(error, PasswordRefusedError):
        return "refused"
    return "denied" if isinstance(error, LoginRefusedError) else "error"


def _can_be_device(cookie: str | None) -> TypeGuard[str]:
    return cookie is not None and len(cookie) == _DEVICE_LENGTH and cookie.isascii()


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
