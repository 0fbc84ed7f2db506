"""What a repository of users and of their credentials has to do."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from authly.core.repository import Database
from authly.users.models import Profile, User, UserDataError
from authly.users.repository import CredentialRepository, UserFilter, UserRepository

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)


def user(username: str, created_at: datetime = NOW, **values: object) -> User:
    """Return a user who is not kept yet."""
    made = User(uuid4(), username, None, False, None, {}, False, None, created_at, created_at)
    return replace(made, **values)  # type: ignore[arg-type]


@pytest.fixture
def users(database: Database) -> UserRepository:
    """The repository."""
    return UserRepository(database)


@pytest.fixture
def credentials(database: Database) -> CredentialRepository:
    """The repository of credentials."""
    return CredentialRepository(database)


async def test_what_is_kept_is_found(users: UserRepository) -> None:
    """Everything said about a user comes back as it was, by id and by name."""
    claims = {"given_name": "Ada", "phone_number_verified": False, "address": {"locality": "Łódź"}}
    ada = user("Ada", email="ada@example.org", email_verified=True, name="Ada ☃", claims=claims, is_admin=True)
    await users.add(ada)
    assert await users.get(ada.user_id) == ada
    assert await users.find("Ada") == ada
    assert await users.get(uuid4()) is None
    assert await users.find("ad") is None


async def test_names_differ_by_more_than_case(users: UserRepository) -> None:
    """A user is found in whichever case the name is written, and nobody else can have it in another."""
    ada = user("Ada")
    await users.add(ada)
    assert await users.find("aDA") == ada
    with pytest.raises(UserDataError, match="This username is taken"):
        await users.add(user("ADA"))
    await users.add(user("ada2"))


async def test_a_verified_address_belongs_to_one(users: UserRepository) -> None:
    """Of users who claim an address one can prove it, and those who cannot are not in the way."""
    await users.add(user("one", email="x@example.org"))
    await users.add(user("two", email="x@example.org"))
    await users.add(user("three", email="X@example.org", email_verified=True))
    four = user("four")
    await users.add(four)
    with pytest.raises(UserDataError, match="proved to own"):
        await users.update(four.user_id, Profile("four", "x@EXAMPLE.org", email_verified=True), NOW)


async def test_of_concurrent_namesakes_one_is_added(users: UserRepository) -> None:
    """Twenty tasks that add the same name at once: one succeeds, and the others are told that it is taken."""
    results = await asyncio.gather(*(users.add(user("ada")) for _ in range(20)), return_exceptions=True)
    assert [result for result in results if result is None] == [None]
    assert all(result is None or isinstance(result, UserDataError) for result in results)
    assert await users.count() == 1


async def test_update(users: UserRepository) -> None:
    """A user is changed as a whole; whoever does not exist is not created."""
    ada = user("ada")
    await users.add(ada)
    later = NOW + timedelta(minutes=1)
    profile = Profile(
        "lovelace", "a@example.org", email_verified=True, name="A", claims={"locale": "en"}, is_admin=True
    )
    updated = await users.update(ada.user_id, profile, later)
    assert updated is not None
    assert (updated.profile, updated.updated_at, updated.created_at) == (profile, later, NOW)
    assert await users.get(ada.user_id) == updated
    assert await users.update(uuid4(), Profile("nobody"), later) is None
    assert await users.count() == 1


async def test_update_to_a_name_that_is_taken(users: UserRepository) -> None:
    """A name cannot be taken over."""
    ada, bob = user("ada"), user("bob")
    await users.add(ada)
    await users.add(bob)
    with pytest.raises(UserDataError, match="taken"):
        await users.update(bob.user_id, Profile("ADA"), NOW)
    assert await users.get(bob.user_id) == bob


async def test_disabling(users: UserRepository) -> None:
    """Disabling and enabling tell whether they changed anything; the time of the first disabling stays."""
    ada = user("ada")
    await users.add(ada)
    assert await users.set_disabled(ada.user_id, NOW)
    assert not await users.set_disabled(ada.user_id, NOW + timedelta(hours=1))
    found = await users.get(ada.user_id)
    assert found is not None
    assert found.disabled_at == NOW
    assert await users.set_disabled(ada.user_id, None)
    assert not await users.set_disabled(ada.user_id, None)
    assert not await users.set_disabled(uuid4(), NOW)


async def test_deleting(users: UserRepository, credentials: CredentialRepository) -> None:
    """With a user goes what is theirs; the name is free again."""
    ada = user("ada")
    await users.add(ada)
    await credentials.set(ada.user_id, "hash", NOW)
    assert await users.delete(ada.user_id)
    assert not await users.delete(ada.user_id)
    assert await credentials.get(ada.user_id) is None
    await users.add(user("ada"))


async def test_paging(users: UserRepository) -> None:
    """Pages follow one another without a gap or an overlap, also where many were created at the same moment."""
    added = [user(f"user{number}", NOW + timedelta(seconds=number // 4)) for number in range(11)]
    for one in added:
        await users.add(one)
    expected = sorted(added, key=lambda one: (one.created_at, one.user_id))
    seen: list[User] = []
    after: tuple[datetime, UUID] | None = None
    while page := await users.list(UserFilter(), 3, after):
        assert len(page) <= 3
        seen += page
        after = page[-1].created_at, page[-1].user_id
    assert seen == expected


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (UserFilter(), ["ada", "bob", "eve"]),
        (UserFilter(text="AD"), ["ada"]),
        (UserFilter(text="example"), ["bob"]),
        (UserFilter(text="evil"), ["eve"]),
        (UserFilter(text="%"), []),
        (UserFilter(text="_"), []),
        (UserFilter(is_admin=True), ["ada"]),
        (UserFilter(is_admin=False), ["bob", "eve"]),
        (UserFilter(disabled=True), ["eve"]),
        (UserFilter(disabled=False, is_admin=False), ["bob"]),
    ],
)
async def test_filters(users: UserRepository, wanted: UserFilter, names: list[str]) -> None:
    """Users are found by part of what they are called, by what they may do, and by whether they are disabled."""
    await users.add(user("ada", NOW, is_admin=True))
    await users.add(user("bob", NOW + timedelta(1), email="b@example.org"))
    await users.add(user("eve", NOW + timedelta(2), name="Evil", disabled_at=NOW))
    assert [found.username for found in await users.list(wanted, 10)] == names


async def test_one_of_many_may_create_the_first_administrator(database: Database) -> None:
    """Of twenty that ask at once one may; if it fails, the next one may."""
    users = UserRepository(database)
    asked = []

    async def ask() -> None:
        async with database.transaction() as transaction:
            first = await users.within(transaction).claim_first_administrator(NOW)
            asked.append(first)
            if first and asked.count(True) == 1:
                raise RuntimeError("the first one fails")

    results = await asyncio.gather(*(ask() for _ in range(20)), return_exceptions=True)
    assert [str(result) for result in results if result is not None] == ["the first one fails"]
    assert asked.count(True) == 2
    assert not await users.claim_first_administrator(NOW)


async def test_credentials(users: UserRepository, credentials: CredentialRepository) -> None:
    """A user has one hash at most, which is replaced only by whoever knows it."""
    ada = user("ada")
    await users.add(ada)
    assert await credentials.get(ada.user_id) is None
    await credentials.set(ada.user_id, "one", NOW)
    assert await credentials.get(ada.user_id) == "one"
    await credentials.set(ada.user_id, "two", NOW)
    assert not await credentials.replace(ada.user_id, "one", "three")
    assert not await credentials.change(ada.user_id, "one", "three", NOW)
    assert await credentials.replace(ada.user_id, "two", "three")
    assert await credentials.change(ada.user_id, "three", "four", NOW)
    assert await credentials.get(ada.user_id) == "four"


async def test_of_concurrent_changes_of_a_password_one_succeeds(
    users: UserRepository, credentials: CredentialRepository
) -> None:
    """Twenty tasks that know the password change it at once: one does, and its password is the one that counts."""
    ada = user("ada")
    await users.add(ada)
    await credentials.set(ada.user_id, "old", NOW)
    results = await asyncio.gather(
        *(credentials.change(ada.user_id, "old", f"new{number}", NOW) for number in range(20))
    )
    assert results.count(True) == 1
    assert await credentials.get(ada.user_id) == f"new{results.index(True)}"
