"""What a repository of failed logins, and one of known devices, have to do."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from authly.core.repository import Database
from authly.users.models import User
from authly.users.repository import UserRepository
from authly.users.throttle import Delays, DeviceRepository, LoginFailureRepository

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
KEY, OTHER = hashlib.sha256(b"one").digest(), hashlib.sha256(b"other").digest()
DELAYS = Delays(free=3, longest=8.0)


@pytest.fixture
def failures(database: Database) -> LoginFailureRepository:
    """The repository."""
    return LoginFailureRepository(database)


async def test_delays_double_up_to_a_limit(failures: LoginFailureRepository) -> None:
    """Three attempts are free; then a second, two, four, eight, and no more, counted from each attempt."""
    now, waited = NOW, []
    for number in range(1, 9):
        counted = await failures.count(KEY, now, DELAYS)
        assert counted is not None
        assert counted.failures == number
        until = counted.blocked_until or now
        waited.append((until - now).total_seconds())
        now = until
    assert waited == [0, 0, 0, 1, 2, 4, 8, 8]


async def test_a_very_long_series_stays_at_the_limit(failures: LoginFailureRepository) -> None:
    """Doubling more often than a number can hold is no error."""
    now = NOW
    for _ in range(80):
        counted = await failures.count(KEY, now, DELAYS)
        assert counted is not None
        now = counted.blocked_until or now
    assert await failures.blocked_until(KEY) == now
    assert now - NOW < timedelta(seconds=80 * 8)


async def test_an_early_attempt_is_not_counted(failures: LoginFailureRepository) -> None:
    """What comes too early prolongs nothing; the moment itself is not too early."""
    for _ in range(4):
        await failures.count(KEY, NOW, DELAYS)
    until = NOW + timedelta(seconds=1)
    for _ in range(10):
        assert await failures.count(KEY, NOW + timedelta(milliseconds=999), DELAYS) is None
    assert await failures.blocked_until(KEY) == until
    counted = await failures.count(KEY, until, DELAYS)
    assert counted is not None
    assert counted.failures == 5
    assert await failures.blocked_until(OTHER) is None


async def test_attempts_at_once_share_what_is_free(failures: LoginFailureRepository) -> None:
    """Of a hundred attempts at once four are admitted: three for free, and the one that begins the delay."""
    counted = await asyncio.gather(*(failures.count(KEY, NOW, DELAYS) for _ in range(100)))
    assert sorted(one.failures for one in counted if one is not None) == [1, 2, 3, 4]


async def test_clocks_that_differ_a_little_delay_nobody(failures: LoginFailureRepository) -> None:
    """An attempt that looked at the clock before another, and came after it, is as free as the other."""
    for earlier in range(3):
        counted = await failures.count(KEY, NOW - timedelta(milliseconds=earlier), DELAYS)
        assert counted == (earlier + 1, None)
        await failures.take_back(OTHER, 1)
    await failures.take_back(KEY, 1)
    assert await failures.count(KEY, NOW - timedelta(seconds=5), DELAYS) == (3, None)


async def test_failures_are_forgotten_after_a_day(failures: LoginFailureRepository) -> None:
    """A day after the last attempt everything is as at first."""
    for _ in range(4):
        await failures.count(KEY, NOW, DELAYS)
    counted = await failures.count(KEY, NOW + timedelta(days=1, seconds=1), DELAYS)
    assert counted is not None
    assert counted.failures == 1


async def test_taking_back(failures: LoginFailureRepository) -> None:
    """What was counted can be taken back, as a whole or in part, and never below nothing."""
    for _ in range(4):
        await failures.count(KEY, NOW, DELAYS)
    await failures.take_back(KEY, 2)
    counted = await failures.count(KEY, NOW, DELAYS)
    assert counted is not None
    assert counted.failures == 3
    assert await failures.take(KEY) == 3
    assert await failures.take(KEY) == 0
    await failures.count(KEY, NOW, DELAYS)
    await failures.take_back(KEY, 5)
    assert await failures.take(KEY) == 0


async def test_cleaning_up(failures: LoginFailureRepository) -> None:
    """Keys without an attempt since a moment are deleted in batches."""
    for number in range(5):
        await failures.count(hashlib.sha256(bytes([number])).digest(), NOW, DELAYS)
    await failures.count(KEY, NOW + timedelta(days=2), DELAYS)
    deleted = await asyncio.gather(*(failures.delete_before(NOW + timedelta(days=1), 2) for _ in range(5)))
    assert sum(deleted) + await failures.delete_before(NOW + timedelta(days=1), 9) == 5
    assert await failures.take(KEY) == 1


async def test_devices(database: Database) -> None:
    """A device is known for the users who logged in with it, until it expires or is forgotten."""
    users, devices = UserRepository(database), DeviceRepository(database)
    ids: dict[str, UUID] = {}
    for name in ("Ada", "bob"):
        user = User(uuid4(), name, None, False, None, {}, False, None, NOW, NOW)
        await users.add(user)
        ids[name] = user.user_id
    end = NOW + timedelta(days=1)
    await devices.add(KEY, ids["Ada"], end)
    assert await devices.is_known(KEY, "ada", NOW)
    assert not await devices.is_known(KEY, "bob", NOW)
    assert not await devices.is_known(OTHER, "ada", NOW)
    assert not await devices.is_known(KEY, "ada", end)
    await devices.add(KEY, ids["bob"], end)
    await asyncio.gather(*(devices.add(KEY, ids["Ada"], end + timedelta(days=1)) for _ in range(10)))
    assert await devices.is_known(KEY, "ADA", end)
    assert await devices.delete_before(end + timedelta(seconds=1), 10) == 1
    assert not await devices.is_known(KEY, "bob", NOW)
    await devices.forget_all(ids["Ada"])
    assert not await devices.is_known(KEY, "ada", NOW)
