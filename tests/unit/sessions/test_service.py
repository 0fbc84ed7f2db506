"""The life of sessions, on a real database."""

from datetime import timedelta
from uuid import UUID

import pytest

from authly.core.repository import Database
from authly.identity import Identity
from authly.sessions.models import Session
from tests.identity import FakeClock, make_identity, make_user

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    """The time of day."""
    return FakeClock()


@pytest.fixture
def identity(database: Database, clock: FakeClock) -> Identity:
    """The services, with sessions that last two hours, and ten minutes without use."""
    return make_identity(database, clock, session_lifetime=7200, session_idle_timeout=600)


@pytest.fixture
async def alice(identity: Identity) -> UUID:
    """The id of a user."""
    return (await make_user(identity)).user_id


async def test_cookies_cannot_be_guessed(identity: Identity, alice: UUID, database: Database) -> None:
    """Each has 256 random bits, and the database does not know it."""
    cookies = [(await identity.sessions.start(alice))[1] for _ in range(50)]
    assert len(set(cookies)) == 50
    assert {len(cookie) for cookie in cookies} == {43}
    rows = (await database.run("test", "SELECT * FROM sessions", None, dict)).rows
    assert not any(cookie in repr(rows) or cookie.encode().hex() in repr(rows) for cookie in cookies)


@pytest.mark.parametrize("cookie", [None, "", "x", "x" * 43, "ä" * 43, "x" * 100_000, "\0" * 43, "\ud800" * 43])
async def test_a_cookie_that_was_made_up_opens_nothing(identity: Identity, alice: UUID, cookie: str | None) -> None:
    """Whatever it holds."""
    await identity.sessions.start(alice)
    assert await identity.sessions.resume(cookie) is None


async def test_a_session_ends_however_much_it_is_used(identity: Identity, alice: UUID, clock: FakeClock) -> None:
    """Two hours after the login, though it is used every five minutes."""
    session, cookie = await identity.sessions.start(alice)
    for _ in range(23):
        clock.advance(minutes=5)
        assert await identity.sessions.resume(cookie)
    clock.advance(minutes=5)
    assert clock.now == session.expires_at
    assert await identity.sessions.resume(cookie) is None


async def test_a_session_that_nobody_uses_ends(identity: Identity, alice: UUID, clock: FakeClock) -> None:
    """Ten minutes after the last use."""
    _, cookie = await identity.sessions.start(alice)
    clock.advance(minutes=9)
    assert await identity.sessions.resume(cookie)
    clock.advance(minutes=9)
    assert await identity.sessions.resume(cookie)
    clock.advance(minutes=10)
    assert await identity.sessions.resume(cookie) is None
    assert await identity.sessions.count() == 0
    assert await identity.sessions.list() == []


async def test_a_use_is_noted_once_a_minute_at_most(identity: Identity, alice: UUID, clock: FakeClock) -> None:
    """Not every request is a write."""
    session, cookie = await identity.sessions.start(alice)

    async def seen() -> timedelta:
        await identity.sessions.resume(cookie)
        found = await identity.sessions.get(session.session_id)
        assert found is not None
        return found.last_seen_at - session.created_at

    clock.advance(seconds=59)
    assert await seen() == timedelta(0)
    clock.advance(seconds=1)
    assert await seen() == timedelta(seconds=60)
    clock.advance(seconds=59)
    assert await seen() == timedelta(seconds=60)


async def test_how_somebody_proved_who_they_are(identity: Identity, alice: UUID) -> None:
    """Is kept with the session, and what the browser says of itself is cut to a sane length."""
    session, cookie = await identity.sessions.start(alice, amr=("pwd", "otp"), user_agent="x" * 10_000)
    assert session.amr == ("pwd", "otp")
    assert session.user_agent == "x" * 256
    assert await identity.sessions.resume(cookie) == session


async def test_a_session_that_ended_meanwhile_is_replaced_by_another(identity: Identity, alice: UUID) -> None:
    """A login in a browser whose session was just ended elsewhere does not bring that one back."""
    old, _ = await identity.sessions.start(alice)
    await identity.sessions.end(old)
    new, cookie = await identity.sessions.start(alice, replacing=old)
    assert new.session_id != old.session_id
    assert await identity.sessions.resume(cookie) == new


async def test_ending_all(identity: Identity, alice: UUID) -> None:
    """All but one, and then that one."""
    made: list[tuple[Session, str]] = [await identity.sessions.start(alice) for _ in range(3)]
    assert len(await identity.sessions.end_all(alice, except_=made[1][0])) == 2
    assert [await identity.sessions.resume(cookie) is not None for _, cookie in made] == [False, True, False]
    assert await identity.sessions.end_all(alice) == [made[1][0].session_id]


async def test_cleaning_up(identity: Identity, alice: UUID, clock: FakeClock) -> None:
    """What has been over for a while is deleted, whatever ended it; the rest stays."""
    ended, _ = await identity.sessions.start(alice)
    await identity.sessions.end(ended)
    idle, _ = await identity.sessions.start(alice)
    clock.advance(days=1)
    fresh, _ = await identity.sessions.start(alice)
    assert await identity.sessions.delete_over(clock.now - timedelta(hours=1), 10) == 2
    assert [await identity.sessions.get(one.session_id) for one in (ended, idle)] == [None, None]
    assert await identity.sessions.get(fresh.session_id) == fresh
