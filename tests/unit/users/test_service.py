"""Accounts, as administrators and operators see them, on a real database."""

import asyncio
from uuid import uuid4

import pytest

from authly.audit.models import SYSTEM, AuditFilter, Party, PartyKind
from authly.core.repository import Database
from authly.identity import Identity
from authly.users.authentication import LoginRefusedError, Visitor
from authly.users.models import Profile, UserDataError
from authly.users.passwords import PasswordRefusedError
from tests.identity import PASSWORD, FakeClock, events, make_identity, make_user

pytestmark = pytest.mark.anyio

OPERATOR = Party(PartyKind.OPERATOR, "root")
HERE = Visitor("192.0.2.1")


@pytest.fixture
def identity(database: Database) -> Identity:
    """The services."""
    return make_identity(database, FakeClock())


async def test_creating(identity: Identity) -> None:
    """Who created whom is recorded; the user can log in."""
    profile = Profile("ada", "ada@example.org", name="Ada", claims={"locale": "en"}, is_admin=True)
    ada = await identity.users.create(profile, PASSWORD, OPERATOR, "192.0.2.7")
    assert ada.profile == profile
    assert await identity.users.get(ada.user_id) == ada
    assert (await identity.authentication.log_in("ada", PASSWORD, HERE)).user == ada
    (entry,) = [one for one in await identity.audit.list(AuditFilter()) if one.event == "user_created"]
    assert (entry.actor, entry.subject, entry.client_address) == (OPERATOR, Party.user(ada.user_id), "192.0.2.7")
    assert entry.detail == {"username": "ada", "is_admin": True}


async def test_what_is_refused_creates_nothing(identity: Identity) -> None:
    """A password that is too short, and a name that is taken, leave neither a user nor an entry."""
    with pytest.raises(PasswordRefusedError):
        await identity.users.create(Profile("ada"), "short", OPERATOR)
    await make_user(identity, "ada")
    with pytest.raises(UserDataError):
        await identity.users.create(Profile("ADA"), PASSWORD, OPERATOR)
    assert await identity.users.count() == 1
    assert await events(identity) == ["user_created"]


async def test_signing_up_gives_no_rights(identity: Identity) -> None:
    """Whoever creates their own account is no administrator, and their address is not verified."""
    ada = await identity.users.sign_up("ada", "ada@example.org", PASSWORD, "192.0.2.7")
    assert (ada.is_admin, ada.email_verified) == (False, False)


async def test_updating(identity: Identity) -> None:
    """Only what is changed changes, and it is recorded by name and not by value."""
    ada = await identity.users.create(Profile("ada", "a@example.org", name="Ada"), None, SYSTEM)
    updated = await identity.users.update(ada.user_id, {"email": "b@example.org", "name": "Ada"}, OPERATOR)
    assert updated is not None
    assert updated.profile == Profile("ada", "b@example.org", name="Ada")
    (entry, _) = await identity.audit.list(AuditFilter())
    assert entry.detail == {"changed": ["email"]}
    assert "b@example.org" not in repr(entry)
    assert await identity.users.update(ada.user_id, {"name": "Ada"}, OPERATOR) == updated
    assert await identity.users.update(uuid4(), {"name": "Ada"}, OPERATOR) is None
    with pytest.raises(UserDataError):
        await identity.users.update(ada.user_id, {"email": "nonsense"}, OPERATOR)
    assert await events(identity) == ["user_created", "user_updated"]


async def test_concurrent_updates_lose_nothing(identity: Identity) -> None:
    """Several that each change another field at once: all changes are there."""
    ada = await make_user(identity, "ada")
    changes = {"email": "a@example.org", "name": "Ada", "is_admin": True, "claims": {"locale": "en"}}
    await asyncio.gather(*(identity.users.update(ada.user_id, {name: changes[name]}, OPERATOR) for name in changes))
    found = await identity.users.get(ada.user_id)
    assert found is not None
    assert found.profile == Profile("ada", "a@example.org", name="Ada", claims={"locale": "en"}, is_admin=True)


async def test_deleting(identity: Identity) -> None:
    """With the user end their sessions; the entry stays."""
    ada = await make_user(identity, "ada")
    login = await identity.authentication.log_in("ada", PASSWORD, HERE)
    assert await identity.users.delete(ada.user_id, OPERATOR)
    assert not await identity.users.delete(ada.user_id, OPERATOR)
    assert await identity.sessions.resume(login.session_cookie) is None
    assert await identity.users.find("ada") is None
    assert (await events(identity))[-1] == "user_deleted"


async def test_resetting_a_password(identity: Identity) -> None:
    """A generated password is returned; the old one and all sessions are of no more use, and delays are forgotten."""
    ada = await make_user(identity, "ada")
    login = await identity.authentication.log_in("ada", PASSWORD, HERE)
    for number in range(30):
        with pytest.raises(LoginRefusedError):
            await identity.authentication.log_in("ada", "wrong", Visitor(f"10.0.{number}.1"))
    password = await identity.users.reset_password(ada.user_id, OPERATOR)
    assert password is not None
    assert await identity.sessions.resume(login.session_cookie) is None
    with pytest.raises(LoginRefusedError):
        await identity.authentication.log_in("ada", PASSWORD, HERE)
    await identity.authentication.log_in("ada", password, HERE)
    (entry,) = [one for one in await identity.audit.list(AuditFilter()) if one.event == "password_reset"]
    assert (entry.actor, entry.detail) == (OPERATOR, {"sessions_ended": 1})
    assert await identity.users.reset_password(ada.user_id, OPERATOR, "chosen by an operator")
    await identity.authentication.log_in("ada", "chosen by an operator", HERE)
    assert await identity.users.reset_password(uuid4(), OPERATOR) is None
    with pytest.raises(PasswordRefusedError):
        await identity.users.reset_password(ada.user_id, OPERATOR, "short")


async def test_ending_sessions(identity: Identity) -> None:
    """An administrator signs a user out everywhere."""
    ada = await make_user(identity, "ada")
    logins = [await identity.authentication.log_in("ada", PASSWORD, HERE) for _ in range(3)]
    assert await identity.users.end_sessions(ada.user_id, OPERATOR) == 3
    for login in logins:
        assert await identity.sessions.resume(login.session_cookie) is None
    assert await identity.users.end_sessions(ada.user_id, OPERATOR) == 0


async def test_the_first_administrator_is_created_once(identity: Identity) -> None:
    """Of twenty at once, one creates it; later it is not created again, even when it was deleted."""
    created = await asyncio.gather(*(identity.users.create_first_administrator("admin", None) for _ in range(20)))
    ((admin, password),) = [one for one in created if one is not None]
    assert admin.is_admin
    assert (await identity.authentication.log_in("admin", password, HERE)).user == admin
    await identity.users.delete(admin.user_id, OPERATOR)
    assert await identity.users.create_first_administrator("admin", None) is None


async def test_a_first_administrator_that_is_refused_can_be_created_later(identity: Identity) -> None:
    """What keeps it from being created now does not keep it from being created once that is put right."""
    await make_user(identity, "admin")
    with pytest.raises(UserDataError):
        await identity.users.create_first_administrator("admin", None)
    with pytest.raises(PasswordRefusedError):
        await identity.users.create_first_administrator("root", "short")
    assert await identity.users.create_first_administrator("root", PASSWORD)


async def test_an_administrator_of_the_command_line_is_the_first(identity: Identity) -> None:
    """An operator who created one before the first start needs no other."""
    await identity.users.create(Profile("ada", is_admin=True), PASSWORD, OPERATOR)
    assert await identity.users.create_first_administrator("admin", None) is None
    assert await identity.users.count() == 1
