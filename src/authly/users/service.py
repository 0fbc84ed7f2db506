"""Accounts, as administrators and operators see them; and the first of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from authly.audit.models import ANONYMOUS, SYSTEM, AuditEvent, Party
from authly.audit.service import AuditLog
from authly.core.clock import Clock, utc_now
from authly.core.repository import Database, Transaction
from authly.monitoring.recorders import AuthenticationRecorder, NullAuthenticationMetrics
from authly.sessions.service import SessionService
from authly.users.models import Profile, User
from authly.users.passwords import PasswordHasher, PasswordPolicy, PasswordRefusedError, generate_password
from authly.users.repository import CredentialRepository, UserFilter, UserRepository
from authly.users.throttle import DeviceRepository, LoginThrottle


class UserService:
    """Creates, changes and deletes users.

    Args:
        database: where transactions are begun.
        users: who there is.
        credentials: the hashes of their passwords.
        devices: the browsers they are known by.
        throttle: slows guessing down.
        hasher: hashes passwords.
        policy: says which are accepted.
        sessions: ends sessions.
        audit: records what happened.
        clock: tells the time.
        metrics: is told how changes of passwords end.
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
        metrics: AuthenticationRecorder | None = None,
    ) -> None:
        self._metrics = metrics or NullAuthenticationMetrics()
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

    async def get(self, user_id: UUID) -> User | None:
        """Return a user."""
        return await self._users.get(user_id)

    async def find(self, username: str) -> User | None:
        """Return the user of a name, in whichever case it is written."""
        return await self._users.find(username)

    async def list(
        self, wanted: UserFilter | None = None, limit: int = 50, after: tuple[datetime, UUID] | None = None
    ) -> Sequence[User]:
        """Return users, the oldest first.

        Args:
            wanted: which.
            limit: how many at most.
            after: ``created_at`` and ``user_id`` of the last one of the page before.
        """
        return await self._users.list(wanted or UserFilter(), limit, after)

    async def count(self) -> int:
        """Return how many users there are."""
        return await self._users.count()

    async def create(
        self, profile: Profile, password: str | None, actor: Party, client_address: str | None = None
    ) -> User:
        """Create a user.

        Args:
            profile: what is said about them.
            password: their password; without one they cannot log in until it is reset.
            actor: who does it.
            client_address: from where.

        Raises:
            UserDataError: the username or the verified e-mail address is another's.
            PasswordRefusedError: the password is not accepted.
            DatabaseUnavailableError: the database is away.
        """
        password_hash = await self._hash_new(password, profile.username)
        async with self._database.transaction() as transaction:
            return await self._add(profile, password_hash, AuditEvent.USER_CREATED, actor, client_address, transaction)

    async def sign_up(self, username: str, email: str | None, password: str, client_address: str | None) -> User:
        """Create the account of somebody who asks for one.

        Raises:
            UserDataError: the username is not valid, or another's; or the e-mail address is not one.
            PasswordRefusedError: the password is not accepted.
            DatabaseUnavailableError: the database is away.
        """
        return await self.create(Profile(username, email), password, ANONYMOUS, client_address)

    async def update(
        self, user_id: UUID, changes: Mapping[str, Any], actor: Party, client_address: str | None = None
    ) -> User | None:
        """Change what is said about a user; return None if there is no such user.

        Args:
            user_id: whom.
            changes: fields of :class:`~authly.users.models.Profile` with their new values.
            actor: who does it.
            client_address: from where.

        Raises:
            UserDataError: a value is not valid; the username or the verified e-mail address is another's.
            DatabaseUnavailableError: the database is away.
        """
        async with self._database.transaction() as transaction:
            users = self._users.within(transaction)
            user = await users.get_for_update(user_id)
            if user is None:
                return None
            profile = replace(user.profile, **changes)
            if profile == user.profile:
                return user
            changed = sorted(name for name in changes if getattr(profile, name) != getattr(user, name))
            updated = await users.update(user_id, profile, self._clock())
            await self._record(
                AuditEvent.USER_UPDATED, actor, user_id, {"changed": changed}, client_address, transaction
            )
            return updated

    async def disable(self, user_id: UUID, actor: Party, client_address: str | None = None) -> bool:
        """Keep a user from logging in, and end their sessions; tell whether that changed anything."""
        async with self._database.transaction() as transaction:
            if not await self._users.within(transaction).set_disabled(user_id, self._clock()):
                return False
            ended = await self._sessions.end_all(user_id, transaction=transaction)
            detail = {"sessions_ended": len(ended)}
            await self._record(AuditEvent.USER_DISABLED, actor, user_id, detail, client_address, transaction)
            return True

    async def enable(self, user_id: UUID, actor: Party, client_address: str | None = None) -> bool:
        """Let a user log in again; tell whether that changed anything."""
        async with self._database.transaction() as transaction:
            if not await self._users.within(transaction).set_disabled(user_id, None):
                return False
            await self._record(AuditEvent.USER_ENABLED, actor, user_id, {}, client_address, transaction)
            return True

    async def delete(self, user_id: UUID, actor: Party, client_address: str | None = None) -> bool:
        """Delete a user with all that is theirs; tell whether there was one."""
        async with self._database.transaction() as transaction:
            if not await self._users.within(transaction).delete(user_id):
                return False
            await self._record(AuditEvent.USER_DELETED, actor, user_id, {}, client_address, transaction)
            return True

    async def reset_password(
        self, user_id: UUID, actor: Party, password: str | None = None, client_address: str | None = None
    ) -> str | None:
        """Give a user another password and end their sessions; return it, or None if there is no such user.

        Args:
            user_id: whom.
            actor: who does it.
            password: the new one; a generated one by default.
            client_address: from where.

        Raises:
            PasswordRefusedError: the password is not accepted.
            DatabaseUnavailableError: the database is away.
        """
        try:
            user = await self._users.get(user_id)
            if user is None:
                return None
            password = generate_password() if password is None else password
            await self._reset_password(user, actor, password, client_address)
        except BaseException as error:
            status = "refused" if isinstance(error, PasswordRefusedError) else "error"
            self._metrics.password_change_ended("admin", status)
            raise
        self._metrics.password_change_ended("admin", "success")
        return password

    async def _reset_password(self, user: User, actor: Party, password: str, client_address: str | None) -> None:
        user_id = user.user_id
        password_hash = await self._hash_new(password, user.username)
        assert password_hash is not None
        async with self._database.transaction() as transaction:
            await self._credentials.within(transaction).set(user_id, password_hash, self._clock())
            ended = await self._sessions.end_all(user_id, transaction=transaction)
            await self._devices.within(transaction).forget_all(user_id)
            await self._throttle.forgive(user.username, transaction)
            detail = {"sessions_ended": len(ended)}
            await self._record(AuditEvent.PASSWORD_RESET, actor, user_id, detail, client_address, transaction)

    async def end_sessions(self, user_id: UUID, actor: Party, client_address: str | None = None) -> int:
        """End all sessions of a user; return how many it were."""
        async with self._database.transaction() as transaction:
            ended = await self._sessions.end_all(user_id, transaction=transaction)
            detail = {"sessions_ended": len(ended)}
            await self._record(AuditEvent.SESSIONS_ENDED, actor, user_id, detail, client_address, transaction)
            return len(ended)

    async def create_first_administrator(self, username: str, password: str | None) -> tuple[User, str] | None:
        """Create the first administrator of an installation, once; return it with its password.

        Of any number of workers and instances that call this at once, one does it; the others wait for its end and
        return None, as all later ones do.

        Args:
            username: how to call it.
            password: its password; a generated one by default.

        Raises:
            UserDataError: the username is not valid, or another's.
            PasswordRefusedError: the password is not accepted.
            DatabaseUnavailableError: the database is away.
        """
        profile = Profile(username, is_admin=True)
        async with self._database.transaction() as transaction:
            users = self._users.within(transaction)
            if not await users.claim_first_administrator(self._clock()):
                return None
            # One that the command line created before the first start is the first, too.
            if await users.list(UserFilter(is_admin=True), 1):
                return None
            password = generate_password() if password is None else password
            password_hash = await self._hash_new(password, username)
            user = await self._add(profile, password_hash, AuditEvent.ADMINISTRATOR_CREATED, SYSTEM, None, transaction)
            return user, password

    async def _hash_new(self, password: str | None, username: str) -> str | None:
        if password is None:
            return None
        self._policy.check(password, username)
        return await self._hasher.hash(password)

    async def _add(
        self,
        profile: Profile,
        password_hash: str | None,
        event: AuditEvent,
        actor: Party,
        client_address: str | None,
        transaction: Transaction,
    ) -> User:
        now = self._clock()
        user = User(
            user_id=uuid4(),
            username=profile.username,
            email=profile.email,
            email_verified=profile.email_verified,
            name=profile.name,
            claims=profile.claims,
            is_admin=profile.is_admin,
            disabled_at=None,
            created_at=now,
            updated_at=now,
        )
        await self._users.within(transaction).add(user)
        if password_hash is not None:
            await self._credentials.within(transaction).set(user.user_id, password_hash, now)
        detail = {"username": user.username, "is_admin": user.is_admin}
        await self._record(event, actor, user.user_id, detail, client_address, transaction)
        return user

    async def _record(
        self,
        event: AuditEvent,
        actor: Party,
        user_id: UUID,
        detail: Mapping[str, Any],
        client_address: str | None,
        transaction: Transaction,
    ) -> None:
        await self._audit.record(
            event, actor, Party.user(user_id), detail, client_address=client_address, transaction=transaction
        )
