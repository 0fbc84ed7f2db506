"""What a repository of sessions has to do."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from authly.core.repository import Database
from authly.sessions.models import Session
from authly.sessions.repository import SessionRepository
from authly.users.models import User
from authly.users.repository import UserRepository

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def key(name: str) -> bytes:
    """Return what a cookie of that value is found by."""
    return hashlib.sha256(name.encode()).digest()


def session(user_id: UUID, **values: object) -> Session:
    """Return a session that is not kept yet."""
    made = Session(uuid4(), user_id, NOW, ("pwd",), "192.0.2.1", "Browser/1", NOW, NOW, NOW + timedelta(hours=1))
    return replace(made, **values)  # type: ignore[arg-type]


@pytest.fixture
def sessions(database: Database) -> SessionRepository:
    """The repository."""
    return SessionRepository(database)


@pytest.fixture
async def ada(database: Database) -> UUID:
    """The id of a user."""
    user = User(uuid4(), "ada", None, False, None, {}, False, None, NOW, NOW)
    await UserRepository(database).add(user)
    return user.user_id


async def test_a_session_is_found_by_its_cookie(sessions: SessionRepository, ada: UUID) -> None:
    """Everything comes back as it was, by the hash of the cookie and by the id, and by nothing else."""
    one = session(ada, amr=("pwd", "otp"))
    await sessions.add(key("one"), one)
    assert await sessions.find(key("one"), NOW, LONG_AGO) == one
    assert await sessions.find(key("two"), NOW, LONG_AGO) is None
    assert await sessions.get(one.session_id) == one
    assert await sessions.get(uuid4()) is None


async def test_a_session_that_is_over_is_not_found(sessions: SessionRepository, ada: UUID, database: Database) -> None:
    """Neither an expired, an idle nor an ended one, nor one of a disabled user; the end is exact."""
    one = session(ada)
    await sessions.add(key("one"), one)
    assert await sessions.find(key("one"), one.expires_at - timedelta(microseconds=1), LONG_AGO)
    assert await sessions.find(key("one"), one.expires_at, LONG_AGO) is None
    assert await sessions.find(key("one"), NOW, NOW - timedelta(microseconds=1))
    assert await sessions.find(key("one"), NOW, NOW) is None
    await UserRepository(database).set_disabled(ada, NOW)
    assert await sessions.find(key("one"), NOW, LONG_AGO) is None
    await UserRepository(database).set_disabled(ada, None)
    assert await sessions.end(one.session_id, NOW)
    assert not await sessions.end(one.session_id, NOW + timedelta(hours=1))
    assert await sessions.find(key("one"), NOW, LONG_AGO) is None
    ended = await sessions.get(one.session_id)
    assert ended is not None
    assert ended.ended_at == NOW


async def test_touching_never_goes_back(sessions: SessionRepository, ada: UUID) -> None:
    """The last use is the latest, in whichever order the notes of it arrive."""
    one = session(ada)
    await sessions.add(key("one"), one)
    await sessions.touch(one.session_id, NOW + timedelta(minutes=2))
    await sessions.touch(one.session_id, NOW + timedelta(minutes=1))
    found = await sessions.get(one.session_id)
    assert found is not None
    assert found.last_seen_at == NOW + timedelta(minutes=2)


async def test_renewing(sessions: SessionRepository, ada: UUID) -> None:
    """A renewed session has its id, another cookie, another time; the old cookie opens nothing."""
    one = session(ada)
    await sessions.add(key("old"), one)
    later, end = NOW + timedelta(minutes=5), NOW + timedelta(hours=2)
    renewed = await sessions.renew(one.session_id, key("new"), later, ["pwd", "mfa"], end)
    assert renewed == replace(one, authenticated_at=later, last_seen_at=later, amr=("pwd", "mfa"), expires_at=end)
    assert await sessions.find(key("new"), later, LONG_AGO) == renewed
    assert await sessions.find(key("old"), later, LONG_AGO) is None
    assert await sessions.rotate(one.session_id, key("newer"))
    assert await sessions.find(key("new"), later, LONG_AGO) is None
    await sessions.end(one.session_id, later)
    assert await sessions.renew(one.session_id, key("newest"), later, ["pwd"], end) is None
    assert not await sessions.rotate(one.session_id, key("newest"))


async def test_ending_all_but_one(sessions: SessionRepository, ada: UUID, database: Database) -> None:
    """All sessions of a user end but the one that is spared; those of others go on."""
    other = User(uuid4(), "bob", None, False, None, {}, False, None, NOW, NOW)
    await UserRepository(database).add(other)
    mine = [session(ada) for _ in range(3)]
    theirs = session(other.user_id)
    for number, one in enumerate([*mine, theirs]):
        await sessions.add(key(str(number)), one)
    await sessions.end(mine[2].session_id, NOW)
    assert await sessions.end_all(ada, NOW, mine[0].session_id) == [mine[1].session_id]
    assert await sessions.find(key("0"), NOW, LONG_AGO) == mine[0]
    assert await sessions.find(key("3"), NOW, LONG_AGO) == theirs
    assert await sessions.end_all(ada, NOW, None) == [mine[0].session_id]


async def test_each_session_ends_once(sessions: SessionRepository, ada: UUID) -> None:
    """Of many that end sessions at once, each session is ended by exactly one."""
    made = [session(ada) for _ in range(20)]
    for number, one in enumerate(made):
        await sessions.add(key(str(number)), one)
    ended = await asyncio.gather(
        *(sessions.end_all(ada, NOW, None) for _ in range(5)),
        *(sessions.end(one.session_id, NOW) for one in made),
    )
    by_all = [session_id for found in ended[:5] if isinstance(found, list) for session_id in found]
    by_one = [one.session_id for one, found in zip(made, ended[5:], strict=True) if found is True]
    assert sorted(by_all + by_one, key=str) == sorted((one.session_id for one in made), key=str)


async def test_listing_and_counting(sessions: SessionRepository, ada: UUID) -> None:
    """Those in force are listed, the latest first, and counted."""
    made = [session(ada, created_at=NOW + timedelta(seconds=number)) for number in range(4)]
    for number, one in enumerate(made):
        await sessions.add(key(str(number)), one)
    await sessions.end(made[3].session_id, NOW)
    expected = [made[2], made[1], made[0]]
    assert await sessions.list(ada, NOW, LONG_AGO, 10, 0) == expected
    assert await sessions.list(None, NOW, LONG_AGO, 2, 1) == expected[1:]
    assert await sessions.list(uuid4(), NOW, LONG_AGO, 10, 0) == []
    assert await sessions.count(NOW, LONG_AGO) == 3
    assert await sessions.count(made[0].expires_at, LONG_AGO) == 0


async def test_cleaning_up(sessions: SessionRepository, ada: UUID) -> None:
    """Sessions that are over are deleted in batches, by several at once, and no other is."""
    kept = session(ada)
    await sessions.add(key("kept"), kept)
    over = [
        *(session(ada, expires_at=NOW - timedelta(days=2)) for _ in range(10)),
        *(session(ada, last_seen_at=NOW - timedelta(days=3)) for _ in range(10)),
        *(session(ada) for _ in range(10)),
    ]
    for number, one in enumerate(over):
        await sessions.add(key(str(number)), one)
        if number >= 20:
            await sessions.end(one.session_id, NOW - timedelta(days=2))
    assert len(await sessions.delete_over(NOW - timedelta(days=1), NOW - timedelta(days=2), 7)) == 7
    deleted = await asyncio.gather(
        *(sessions.delete_over(NOW - timedelta(days=1), NOW - timedelta(days=2), 10) for _ in range(4))
    )
    while rest := await sessions.delete_over(NOW - timedelta(days=1), NOW - timedelta(days=2), 10):
        deleted.append(rest)
    assert sum(map(len, deleted)) == 23
    assert await sessions.get(kept.session_id) == kept
