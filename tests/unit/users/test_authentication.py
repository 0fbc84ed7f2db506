"""How users prove who they are, on a real database: the same answer for all who do not, and delays for who guesses."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from authly.audit.models import SYSTEM, AuditFilter
from authly.core.repository import Database
from authly.identity import Identity
from authly.monitoring.instruments import Instruments
from authly.monitoring.metrics import compose
from authly.monitoring.recorders import Recorders
from authly.settings import Settings
from authly.users.authentication import Login, LoginFailure, LoginRefusedError, Visitor
from authly.users.passwords import HasherBusyError, PasswordRefusedError
from tests.identity import CHEAP, PASSWORD, FakeClock, events, make_identity, make_user
from tests.vocabulary import observe, series_of

pytestmark = pytest.mark.anyio

HERE, ELSEWHERE = Visitor("192.0.2.1", "Browser/1"), Visitor("198.51.100.1")
NEW = "a new and longer sentence"


@pytest.fixture
def clock() -> FakeClock:
    """The time of day."""
    return FakeClock()


@pytest.fixture
def identity(database: Database, clock: FakeClock) -> Identity:
    """The services."""
    return make_identity(database, clock)


async def refusal(identity: Identity, username: str, password: str, visitor: Visitor = HERE) -> LoginRefusedError:
    """Fail to log in, and return how."""
    with pytest.raises(LoginRefusedError) as caught:
        await identity.authentication.log_in(username, password, visitor)
    return caught.value


async def log_in(identity: Identity, visitor: Visitor = HERE, **options: Any) -> Login:
    """Log alice in."""
    return await identity.authentication.log_in("alice", PASSWORD, visitor, **options)


async def test_a_login_starts_a_session(identity: Identity, clock: FakeClock) -> None:
    """The session is the user's, of now, by password, from where they are."""
    alice = await make_user(identity)
    login = await log_in(identity)
    assert login.user == alice
    session = await identity.sessions.resume(login.session_cookie)
    assert session == login.session
    assert (session.user_id, session.authenticated_at, session.amr) == (alice.user_id, clock.now, ("pwd",))
    assert (session.client_address, session.user_agent) == ("192.0.2.1", "Browser/1")
    assert await events(identity) == ["user_created", "login_succeeded"]


async def test_the_name_is_taken_as_people_type_it(identity: Identity) -> None:
    """With a space around it, in another case."""
    await make_user(identity)
    await identity.authentication.log_in(" Alice ", PASSWORD, HERE)


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", PASSWORD + " "),
        ("alice", "x" * 100_000),
        ("nobody", PASSWORD),
        ("", ""),
        ("a\0b", PASSWORD),
        ("x" * 10_000, PASSWORD),
        ("\ud800", PASSWORD),
        ("nopassword", ""),
        ("nopassword", PASSWORD),
    ],
)
async def test_whoever_proves_nothing_is_answered_alike(identity: Identity, username: str, password: str) -> None:
    """A wrong password, an unknown user, a name nobody can have, a user without a password: one reason for all."""
    await make_user(identity)
    await make_user(identity, "nopassword", None)
    error = await refusal(identity, username, password)
    assert (error.reason, error.retry_after) == (LoginFailure.CREDENTIALS, 0.0)
    assert (await events(identity))[2:] == ["login_failed"]


async def test_the_audit_log_does_not_keep_what_was_typed(identity: Identity) -> None:
    """People type their password where the name belongs."""
    await refusal(identity, "hunter2hunter2", "hunter2hunter2")
    entries = await identity.audit.list(AuditFilter())
    assert "hunter2" not in repr(entries)


async def test_a_disabled_user_is_told_so_only_with_the_right_password(identity: Identity) -> None:
    """To everybody else the account looks like any other."""
    alice = await make_user(identity)
    login = await log_in(identity)
    assert await identity.users.disable(alice.user_id, SYSTEM)
    assert await identity.sessions.resume(login.session_cookie) is None
    assert (await refusal(identity, "alice", "wrong")).reason is LoginFailure.CREDENTIALS
    assert (await refusal(identity, "alice", PASSWORD)).reason is LoginFailure.DISABLED
    assert await identity.users.enable(alice.user_id, SYSTEM)
    await log_in(identity)


@pytest.mark.parametrize("username", ["alice", "nobody"])
async def test_guessing_from_one_network_is_slowed_down(identity: Identity, clock: FakeClock, username: str) -> None:
    """Whether or not there is such a user: five attempts are free, then even the right password has to wait."""
    await make_user(identity)
    for _ in range(6):
        assert (await refusal(identity, username, "wrong")).reason is LoginFailure.CREDENTIALS
    error = await refusal(identity, username, PASSWORD)
    assert (error.reason, error.retry_after) == (LoginFailure.LOCKED, 1.0)
    # Others are not concerned, and neither is the same user in another network.
    await make_user(identity, "bob")
    await identity.authentication.log_in("bob", PASSWORD, HERE)
    assert (await refusal(identity, username, "wrong", ELSEWHERE)).reason is LoginFailure.CREDENTIALS
    clock.advance(seconds=1)
    assert (await refusal(identity, username, "wrong")).reason is LoginFailure.CREDENTIALS
    assert (await refusal(identity, username, PASSWORD)).retry_after == 2.0
    # What came too early was not recorded, for there may be very much of it.
    assert (await events(identity)).count("login_failed") == 8


async def test_a_network_of_ipv6_is_that_of_a_subscriber(identity: Identity) -> None:
    """Other addresses of the same /64 are no fresh start."""
    for number in range(6):
        await refusal(identity, "alice", "wrong", Visitor(f"2001:db8::{number}"))
    error = await refusal(identity, "alice", "wrong", Visitor("2001:db8::ffff:1"))
    assert error.reason is LoginFailure.LOCKED
    error = await refusal(identity, "alice", "wrong", Visitor("2001:db8:0:1::1"))
    assert error.reason is LoginFailure.CREDENTIALS


async def test_a_success_forgives_the_failures_before_it(identity: Identity, clock: FakeClock) -> None:
    """Who mistyped a few times and then got it right has all attempts again."""
    await make_user(identity)
    for _ in range(4):
        for _ in range(5):
            await refusal(identity, "alice", "wrong")
        await log_in(identity)
    # Nor did they count against the account as a whole.
    error = await refusal(identity, "alice", "wrong", ELSEWHERE)
    assert error.reason is LoginFailure.CREDENTIALS


async def test_guessing_from_everywhere_is_slowed_down_for_a_minute_at_most(
    identity: Identity, clock: FakeClock
) -> None:
    """A hundred networks that guess at one account get twenty attempts for free, and later one a minute together."""
    await make_user(identity)
    admitted = []
    for number in range(100):
        error = await refusal(identity, "alice", "wrong", Visitor(f"10.0.{number}.1"))
        admitted.append(error.reason is LoginFailure.CREDENTIALS)
    assert admitted == [True] * 21 + [False] * 79
    longest = 0.0
    for number in range(20):
        error = await refusal(identity, "alice", "wrong", Visitor(f"10.1.{number}.1"))
        longest = max(longest, error.retry_after)
        clock.advance(seconds=error.retry_after)
        error = await refusal(identity, "alice", "wrong", Visitor(f"10.1.{number}.1"))
        assert error.reason is LoginFailure.CREDENTIALS
    assert longest == 60.0
    # The owner gets in a minute after the attack at the latest, from anywhere.
    clock.advance(seconds=60)
    await log_in(identity)


async def test_nobody_is_locked_out_of_a_device_that_is_known(identity: Identity, clock: FakeClock) -> None:
    """However many guess from wherever, even from the owner's own network: in their browser the owner logs in."""
    await make_user(identity)
    device = (await log_in(identity)).device_cookie
    for number in range(30):
        await refusal(identity, "alice", "wrong", Visitor(f"10.0.{number}.1"))
    for _ in range(10):
        await refusal(identity, "alice", "wrong", HERE)
    assert (await refusal(identity, "alice", PASSWORD, HERE)).reason is LoginFailure.LOCKED
    login = await log_in(identity, Visitor("192.0.2.1", device=device))
    assert login.device_cookie == device
    # A known device is no licence to guess either, and it is one of its user alone.
    for _ in range(6):
        await refusal(identity, "alice", "wrong", Visitor("192.0.2.1", device=device))
    error = await refusal(identity, "alice", PASSWORD, Visitor("192.0.2.9", device=device))
    assert error.reason is LoginFailure.LOCKED
    await make_user(identity, "bob")
    for number in range(30):
        await refusal(identity, "bob", "wrong", Visitor(f"10.0.{number}.1"))
    error = await refusal(identity, "bob", PASSWORD, Visitor("192.0.2.1", device=device))
    assert error.reason is LoginFailure.LOCKED


@pytest.mark.parametrize("device", ["", "x" * 43, "ä" * 43, "x" * 44, "\ud800" * 43])
async def test_a_device_that_was_made_up_is_not_known(identity: Identity, device: str) -> None:
    """It gets nobody around the delays."""
    for _ in range(6):
        await refusal(identity, "alice", "wrong", Visitor("192.0.2.1", device=device))
    error = await refusal(identity, "alice", "wrong", Visitor("192.0.2.1", device=device))
    assert error.reason is LoginFailure.LOCKED


async def test_a_hundred_guesses_at_once_are_not_for_free(identity: Identity) -> None:
    """The limit holds exactly, for attempts count before their password is looked at."""
    await make_user(identity)
    errors = await asyncio.gather(
        *(identity.authentication.log_in("alice", f"wrong {number}", HERE) for number in range(60)),
        return_exceptions=True,
    )
    reasons = [error.reason for error in errors if isinstance(error, LoginRefusedError)]
    assert len(reasons) == 60
    assert reasons.count(LoginFailure.CREDENTIALS) == 6
    assert reasons.count(LoginFailure.LOCKED) == 54


async def test_a_login_replaces_the_session_of_the_browser(identity: Identity, clock: FakeClock) -> None:
    """The same user's goes on under its id with another cookie; another user's ends."""
    await make_user(identity)
    bob = await make_user(identity, "bob")
    first = await log_in(identity)
    clock.advance(minutes=10)
    second = await log_in(identity, replacing=first.session)
    assert second.session.session_id == first.session.session_id
    assert second.session.authenticated_at == clock.now
    assert second.session_cookie != first.session_cookie
    assert await identity.sessions.resume(first.session_cookie) is None
    third = await identity.authentication.log_in("bob", PASSWORD, HERE, second.session)
    assert third.session.user_id == bob.user_id
    assert third.session.session_id != second.session.session_id
    assert await identity.sessions.resume(second.session_cookie) is None
    ended = await identity.sessions.get(second.session.session_id)
    assert ended is not None
    assert ended.ended_at == clock.now


async def test_a_login_makes_an_outdated_hash_anew(identity: Identity, database: Database, clock: FakeClock) -> None:
    """With the parameters of now, and for the same password."""
    alice = await make_user(identity)
    before = await identity.credentials.get(alice.user_id)
    await log_in(identity)
    assert await identity.credentials.get(alice.user_id) == before
    stronger = make_identity(database, clock, password_hash_time=2)
    await log_in(stronger)
    after = await identity.credentials.get(alice.user_id)
    assert after is not None
    assert "t=2" in after
    await log_in(stronger)
    assert await identity.credentials.get(alice.user_id) == after


async def test_logging_out(identity: Identity) -> None:
    """The session is over, and that it ended is recorded once."""
    await make_user(identity)
    login = await log_in(identity)
    await identity.authentication.log_out(login.session, HERE)
    await identity.authentication.log_out(login.session, HERE)
    assert await identity.sessions.resume(login.session_cookie) is None
    assert (await events(identity))[2:] == ["logged_out"]


async def test_changing_the_password_ends_other_sessions(identity: Identity) -> None:
    """The session goes on with another cookie; the old password is of no more use, and no other device is known."""
    await make_user(identity)
    mine, other = await log_in(identity), await log_in(identity, ELSEWHERE)
    cookie, device = await identity.authentication.change_password(mine.session, PASSWORD, NEW, HERE)
    assert await identity.sessions.resume(cookie) == mine.session
    assert await identity.sessions.resume(mine.session_cookie) is None
    assert await identity.sessions.resume(other.session_cookie) is None
    assert (await refusal(identity, "alice", PASSWORD)).reason is LoginFailure.CREDENTIALS
    await identity.authentication.log_in("alice", NEW, HERE)
    (entry,) = [one for one in await identity.audit.list(AuditFilter()) if one.event == "password_changed"]
    assert entry.detail == {"sessions_ended": 1}
    for number in range(30):
        await refusal(identity, "alice", "wrong", Visitor(f"10.0.{number}.1"))
    old = Visitor("192.0.2.2", device=other.device_cookie)
    assert (await refusal(identity, "alice", NEW, old)).reason is LoginFailure.LOCKED
    await identity.authentication.log_in("alice", NEW, Visitor("192.0.2.2", device=device))


async def test_a_change_that_is_refused_changes_nothing(identity: Identity) -> None:
    """A wrong current password, a new one that is too short, the same one."""
    await make_user(identity)
    login = await log_in(identity)
    change = identity.authentication.change_password
    with pytest.raises(LoginRefusedError):
        await change(login.session, "wrong", NEW, HERE)
    with pytest.raises(PasswordRefusedError, match="too short"):
        await change(login.session, PASSWORD, "short", HERE)
    with pytest.raises(PasswordRefusedError, match="current one"):
        await change(login.session, PASSWORD, PASSWORD, HERE)
    assert await identity.sessions.resume(login.session_cookie) == login.session
    await log_in(identity)


async def test_whoever_took_over_a_session_cannot_guess_the_password_in_it(
    identity: Identity, clock: FakeClock
) -> None:
    """Attempts at the current password are slowed down by session, and do not keep the owner from logging in."""
    await make_user(identity)
    login = await log_in(identity)
    change = identity.authentication.change_password
    reasons = []
    for number in range(20):
        with pytest.raises(LoginRefusedError) as caught:
            await change(login.session, f"guess {number}", NEW, ELSEWHERE)
        reasons.append(caught.value.reason)
    assert reasons == [LoginFailure.CREDENTIALS] * 6 + [LoginFailure.LOCKED] * 14
    await log_in(identity, ELSEWHERE)


async def test_of_two_changes_at_once_one_succeeds(identity: Identity) -> None:
    """The other is told that the current password is wrong, which it is by then."""
    await make_user(identity)
    one, two = await log_in(identity), await log_in(identity, ELSEWHERE)
    change = identity.authentication.change_password
    results = await asyncio.gather(
        change(one.session, PASSWORD, NEW + "1", HERE),
        change(two.session, PASSWORD, NEW + "2", ELSEWHERE),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, LoginRefusedError) for result in results) == [False, True]


async def test_no_session_of_the_old_password_survives_its_change(identity: Identity) -> None:
    """Logins that run while the password is changed either ended before it, and with it, or fail."""
    await make_user(identity)
    mine = await log_in(identity)
    results = await asyncio.gather(
        *(log_in(identity, Visitor(f"10.0.{number}.1")) for number in range(8)),
        identity.authentication.change_password(mine.session, PASSWORD, NEW, HERE),
        *(log_in(identity, Visitor(f"10.1.{number}.1")) for number in range(8)),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, Login):
            assert await identity.sessions.resume(result.session_cookie) is None
        else:
            assert isinstance(result, (tuple, LoginRefusedError))
    assert await identity.sessions.count() == 1


async def test_an_attempt_that_nobody_judged_does_not_count(database: Database, clock: FakeClock) -> None:
    """Where too many passwords wait, the attempt is refused, and may be repeated at once as if it had not been."""
    identity = make_identity(database, clock, password_hash_queue=0)
    await make_user(identity)
    gate = threading.Event()
    blocking = asyncio.create_task(identity.hasher._run("verify", gate.wait))
    await asyncio.sleep(0)
    for _ in range(10):
        with pytest.raises(HasherBusyError):
            await log_in(identity)
    gate.set()
    await blocking
    for _ in range(6):
        assert (await refusal(identity, "alice", "wrong")).reason is LoginFailure.CREDENTIALS
    assert (await refusal(identity, "alice", "wrong")).reason is LoginFailure.LOCKED


@pytest.mark.produces("authly_auth_login_attempts_total", status=("error",))
@pytest.mark.produces("authly_auth_password_changes_total", status=("error",))
async def test_what_nobody_could_judge_counts_as_such(database: Database) -> None:
    """A login, a change and a reset that find too many passwords waiting are errors, and nobody's failures."""
    registry = CollectorRegistry()
    metrics = compose(instruments=Instruments("authly", registry))
    recorders = Recorders(auth=metrics.auth)
    settings = Settings.model_validate({**CHEAP, "password_hash_queue": 0})
    identity = Identity(settings, database, recorders=recorders)
    alice = await make_user(identity)
    login = await log_in(identity)
    gate = threading.Event()
    blocking = asyncio.create_task(identity.hasher._run("verify", gate.wait))
    await asyncio.sleep(0)
    with pytest.raises(HasherBusyError):
        await log_in(identity)
    with pytest.raises(HasherBusyError):
        await identity.authentication.change_password(login.session, PASSWORD, NEW, HERE)
    with pytest.raises(HasherBusyError):
        await identity.users.reset_password(alice.user_id, SYSTEM, NEW)
    gate.set()
    await blocking

    def counted(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"authly_auth_{name}_total", labels)

    observe(series_of(registry.collect()))
    assert counted("login_attempts", method="password", status="error") == 1
    assert counted("login_attempts", method="password", status="failure") == 0
    assert counted("password_changes", initiator="user", status="error") == 1
    assert counted("password_changes", initiator="admin", status="error") == 1


async def test_what_is_undone_is_not_counted(database: Database) -> None:
    """A session that a transaction began and did not keep was never created, nor one ended that goes on."""
    registry = CollectorRegistry()
    metrics = compose(instruments=Instruments("authly", registry))
    identity = Identity(Settings.model_validate(CHEAP), database, recorders=Recorders(auth=metrics.auth))
    alice = await make_user(identity)
    login = await log_in(identity)

    async def fail() -> None:
        async with database.transaction() as transaction:
            await identity.sessions.start(alice.user_id, transaction=transaction)
            await identity.sessions.end(login.session, transaction)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    counted = {
        event: registry.get_sample_value("authly_auth_sessions_total", {"event": event})
        for event in ("created", "ended")
    }
    assert counted == {"created": 1, "ended": 0}
    await identity.sessions.end(login.session)
    assert registry.get_sample_value("authly_auth_sessions_total", {"event": "ended"}) == 1


async def test_nothing_secret_is_logged(identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    """Neither passwords nor the values of cookies, even when everything is logged."""
    caplog.set_level(logging.DEBUG)
    await make_user(identity)
    login = await log_in(identity)
    await refusal(identity, "alice", "wrong password of alice")
    for secret in (PASSWORD, "wrong password", login.session_cookie, login.device_cookie):
        assert secret not in caplog.text
