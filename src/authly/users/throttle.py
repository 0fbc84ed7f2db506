"""What guessing passwords meets: delays that grow with each failure.

Every attempt counts as a failure until it has succeeded, so that a thousand attempts at once are not a thousand
attempts for free. Two things are counted: attempts at one account from one network, and attempts at one account from
anywhere. The first delay may grow long, the second stays short, for it is one that others can cause. A device in which
the account's owner has logged in before is counted by itself, and so nobody else can delay a login there.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from authly.core.addresses import network_of
from authly.core.clock import Clock, utc_now
from authly.core.repository import Database, Repository, Transaction

_FORGET_AFTER = timedelta(days=1)


class LoginBlockedError(Exception):
    """Too many attempts failed.

    Args:
        retry_after: when the next one is admitted, in seconds from now.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the next attempt is admitted in {retry_after:.1f} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Delays:
    """How delays grow: none after so many failures, then a second, doubled by each further failure up to a limit."""

    free: int
    longest: float
    first: float = 1.0


class Counted(NamedTuple):
    """What counting an attempt gave."""

    failures: int
    blocked_until: datetime | None


class Attempt(NamedTuple):
    """An attempt that was admitted."""

    own_key: bytes
    account_key: bytes | None
    # Whether those that follow have to wait.
    blocks: bool


class LoginFailureRepository(Repository):
    """Keeps the failures."""

    async def count(self, key: bytes, now: datetime, delays: Delays) -> Counted | None:
        """Count an attempt as a failure, and return how many there are; None if it comes too early, and is not counted.

        Args:
            key: what is counted.
            now: the time.
            delays: what follows from it.
        """
        return await self._one(
            "login_failures.count",
            Counted,
            """
            INSERT INTO login_failures AS known (key, failures, last_at, blocked_until)
            VALUES (%(key)s, 1, %(now)s, NULL)
            ON CONFLICT (key) DO UPDATE
            SET (failures, last_at, blocked_until) = (
                -- No delay is NULL and not now: whoever waited for this row looked at the clock before.
                SELECT n, %(now)s, CASE WHEN n > %(free)s THEN %(now)s::timestamptz + make_interval(
                    secs => least(%(longest)s::float8, %(first)s::float8 * power(2, least(n - %(free)s - 1, 30)))
                ) END
                FROM (SELECT CASE WHEN known.last_at < %(forgotten)s THEN 1 ELSE known.failures + 1 END AS n)
            )
            WHERE known.blocked_until IS NULL OR known.blocked_until <= %(now)s
            RETURNING failures, blocked_until
            """,
            {
                "key": key,
                "now": now,
                "forgotten": now - _FORGET_AFTER,
                "free": delays.free,
                "first": delays.first,
                "longest": delays.longest,
            },
        )

    async def blocked_until(self, key: bytes) -> datetime | None:
        """Return until when attempts are not admitted."""
        return await self._one(
            "login_failures.blocked_until", _moment, "SELECT blocked_until FROM login_failures WHERE key = %s", (key,)
        )

    async def take(self, key: bytes) -> int:
        """Forget the failures of a key, and return how many it were."""
        query = "DELETE FROM login_failures WHERE key = %s RETURNING failures AS number"
        return await self._one("login_failures.take", _number, query, (key,)) or 0

    async def take_back(self, key: bytes, failures: int) -> None:
        """Count so many failures less, and let the next attempt be admitted at once."""
        await self._execute(
            "login_failures.take_back",
            """
            UPDATE login_failures SET failures = greatest(0, failures - %s), blocked_until = NULL WHERE key = %s
            """,
            (failures, key),
        )

    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Delete at most so many keys without an attempt since a moment; return how many it were."""
        return await self._execute(
            "login_failures.delete_before",
            """
            DELETE FROM login_failures WHERE key IN (
                SELECT key FROM login_failures WHERE last_at < %s LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (moment, limit),
        )


class LoginThrottle:
    """Admits attempts to log in, or makes them wait.

    Args:
        database: where transactions are begun.
        failures: where attempts are counted.
        own: delays for attempts at an account from one network or from one known device.
        account: delays for attempts at an account from anywhere else.
        clock: tells the time.
    """

    def __init__(
        self,
        database: Database,
        failures: LoginFailureRepository,
        own: Delays = Delays(free=5, longest=900.0),
        account: Delays = Delays(free=20, longest=60.0),
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._failures = failures
        self._own = own
        self._account = account
        self._clock = clock

    async def admit(self, username: str, address: str | None, device: bytes | None = None) -> Attempt:
        """Count an attempt, whether or not there is such a user.

        Args:
            username: of the account that is tried.
            address: from where.
            device: what is known of the account, and counts by itself: a device or a session.

        Raises:
            LoginBlockedError: it comes too early. It is not counted.
        """
        now = self._clock()
        account = username.lower()
        async with self._database.transaction() as transaction:
            failures = self._failures.within(transaction)
            if device is not None:
                own_key = _key(account, "device", device.hex())
                counted = await self._count(failures, own_key, now, self._own)
                return Attempt(own_key, None, blocks=counted.blocked_until is not None)
            own_key, account_key = _key(account, "network", network_of(address or "")), account_key_of(account)
            # Always in this order, so that no two attempts wait for one another.
            own = await self._count(failures, own_key, now, self._own)
            shared = await self._count(failures, account_key, now, self._account)
            return Attempt(own_key, account_key, blocks=(own.blocked_until or shared.blocked_until) is not None)

    async def succeeded(self, attempt: Attempt, transaction: Transaction) -> None:
        """Take back what an attempt and those before it counted: they were the owner's."""
        failures = self._failures.within(transaction)
        taken = await failures.take(attempt.own_key)
        if attempt.account_key is not None:
            await failures.take_back(attempt.account_key, taken)

    async def withdrawn(self, attempt: Attempt) -> None:
        """Take back an attempt that nobody judged."""
        async with self._database.transaction() as transaction:
            failures = self._failures.within(transaction)
            for key in (attempt.own_key, attempt.account_key):
                if key is not None:
                    await failures.take_back(key, 1)

    async def forgive(self, username: str, transaction: Transaction) -> None:
        """Forget the attempts at an account from anywhere."""
        await self._failures.within(transaction).take(account_key_of(username.lower()))

    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Delete at most so many counts without an attempt since a moment; return how many it were.

        Those of the last day are still needed.
        """
        return await self._failures.delete_before(min(moment, self._clock() - _FORGET_AFTER), limit)

    @staticmethod
    async def _count(failures: LoginFailureRepository, key: bytes, now: datetime, delays: Delays) -> Counted:
        counted = await failures.count(key, now, delays)
        if counted is None:
            until = await failures.blocked_until(key)
            raise LoginBlockedError(max((until - now).total_seconds(), 0.0) if until else 0.0)
        return counted


class DeviceRepository(Repository):
    """Keeps by which browsers users are known."""

    async def add(self, device_hash: bytes, user_id: UUID, expires_at: datetime) -> None:
        """Know a device, or know it longer."""
        await self._execute(
            "known_devices.add",
            """
            INSERT INTO known_devices (device_hash, user_id, expires_at) VALUES (%s, %s, %s)
            ON CONFLICT (device_hash, user_id) DO UPDATE SET expires_at = excluded.expires_at
            """,
            (device_hash, user_id, expires_at),
        )

    async def is_known(self, device_hash: bytes, username: str, now: datetime) -> bool:
        """Tell whether a user logged in with a device before."""
        found = await self._one(
            "known_devices.is_known",
            _number,
            """
            SELECT count(*) AS number FROM known_devices JOIN users USING (user_id)
            WHERE device_hash = %s AND lower(username) = lower(%s) AND expires_at > %s
            """,
            (device_hash, username, now),
        )
        return bool(found)

    async def forget_all(self, user_id: UUID) -> None:
        """Know no device of a user."""
        await self._execute("known_devices.forget_all", "DELETE FROM known_devices WHERE user_id = %s", (user_id,))

    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Delete at most so many devices that expired before a moment; return how many it were."""
        return await self._execute(
            "known_devices.delete_before",
            """
            DELETE FROM known_devices WHERE (device_hash, user_id) IN (
                SELECT device_hash, user_id FROM known_devices WHERE expires_at < %s LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (moment, limit),
        )


def account_key_of(account: str) -> bytes:
    """Return by what the attempts at an account from anywhere are counted."""
    return _key(account, "account", "")


def _key(account: str, kind: str, rest: str) -> bytes:
    # What people type into the wrong field is a password at times: only a hash is kept.
    return hashlib.sha256(f"{kind}\0{rest}\0{account}".encode("utf-8", "surrogatepass")).digest()


def _moment(*, blocked_until: datetime | None) -> datetime | None:
    return blocked_until


def _number(*, number: int) -> int:
    return number
