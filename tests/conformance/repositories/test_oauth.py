"""What every repository of the protocol promises, also when it is called many times at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from authly.core.repository import Database
from authly.keys.repository import SigningKeyRepository
from authly.oauth.client_repository import ClientRepository
from authly.oauth.consent_repository import ConsentRepository
from authly.oauth.models import AuthMethod, ClientSettings, ClientType, GrantType
from authly.oauth.pushed_request_repository import PushedRequestRepository
from authly.oauth.scope_repository import ScopeRepository
from authly.tokens.models import Authorization, NewAccessToken, NewRefreshToken, RevocationReason
from authly.tokens.repository import TokenRepository
from authly.tokens.secrets import hash_of, new_salt
from tests.identity import make_identity, make_user

pytestmark = pytest.mark.anyio

MANY = 20
MINUTE = timedelta(minutes=1)
PAST = timedelta(seconds=-1)
SETTINGS = ClientSettings(
    "A client",
    redirect_uris=("https://client.example/a", "https://client.example/b"),
    grant_types=(GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN),
    scopes=("profile", "email"),
    resources=("https://api.example/",),
    access_token_ttl=MINUTE,
)


async def at_once(call: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Call something many times at once."""
    return list(await asyncio.gather(*(call() for _ in range(MANY))))


async def add_client(database: Database, client_id: str = "client", settings: ClientSettings = SETTINGS) -> None:
    """Add a client with a secret."""
    repository = ClientRepository(database)
    await repository.add(
        client_id, ClientType.CONFIDENTIAL, AuthMethod.CLIENT_SECRET_BASIC, hash_of("secret"), settings
    )


async def add_user(database: Database) -> UUID:
    """Add a user."""
    return (await make_user(make_identity(database), f"u{uuid4().hex[:12]}", password=None)).user_id


class TestClients:
    """The table ``clients`` and those that belong to it."""

    async def test_what_is_added_is_found(self, database: Database) -> None:
        """With everything that was said about it."""
        await add_client(database)
        client = await ClientRepository(database).find("client")
        assert client
        assert client.settings == SETTINGS
        assert (client.type, client.secret_hash) == (ClientType.CONFIDENTIAL, hash_of("secret"))
        assert "secret_hash" not in repr(client)
        assert await ClientRepository(database).find("nobody") is None

    async def test_an_id_is_taken_once(self, database: Database) -> None:
        """A second client of the same id is refused, and leaves nothing behind."""
        await add_client(database)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await add_client(database, settings=replace(SETTINGS, redirect_uris=("https://evil.example/",)))
        client = await ClientRepository(database).find("client")
        assert client
        assert client.settings == SETTINGS

    async def test_update(self, database: Database) -> None:
        """All of it is replaced, redirect URIs too."""
        await add_client(database)
        changed = ClientSettings(
            "Another name", redirect_uris=("https://client.example/b", "https://client.example/c"), enabled=False
        )
        repository = ClientRepository(database)
        assert await repository.update("client", changed)
        client = await repository.find("client")
        assert client
        assert client.settings == changed
        assert not await repository.update("nobody", changed)
        assert await repository.count() == 0

    async def test_updates_at_once(self, database: Database) -> None:
        """One of them stays, with its own redirect URIs among others at most."""
        await add_client(database)
        repository = ClientRepository(database)
        wanted = iter(range(MANY))

        async def update() -> bool:
            number = next(wanted)
            return await repository.update("client", replace(SETTINGS, name=f"Client {number}"))

        assert all(await at_once(update))
        client = await repository.find("client")
        assert client
        assert client.settings.redirect_uris == SETTINGS.redirect_uris

    async def test_list(self, database: Database) -> None:
        """By name, in pages, and those that contain something."""
        for name in ("b", "A", "c%"):
            await add_client(database, f"id-{name}", replace(SETTINGS, name=name))
        repository = ClientRepository(database)
        assert [client.settings.name for client in await repository.list(2, 0)] == ["A", "b"]
        assert [client.settings.name for client in await repository.list(2, 2)] == ["c%"]
        assert [client.settings.name for client in await repository.list(9, 0, "%")] == ["c%"]
        assert [client.client_id for client in await repository.list(9, 0, "ID-B")] == ["id-b"]

    async def test_secret(self, database: Database) -> None:
        """Only a client that has a secret gets another."""
        await add_client(database)
        repository = ClientRepository(database)
        await repository.add("public", ClientType.PUBLIC, AuthMethod.NONE, None, SETTINGS)
        assert await repository.set_secret("client", hash_of("other"))
        client = await repository.find("client")
        assert client
        assert client.secret_hash == hash_of("other")
        assert not await repository.set_secret("public", hash_of("other"))

    async def test_delete(self, database: Database) -> None:
        """With it goes what it was issued; a second time there is nothing to delete."""
        user_id = await add_user(database)
        await add_client(database)
        tokens = TokenRepository(database)
        await add_code(tokens, user_id)
        await tokens.add_access_token(access())
        repository = ClientRepository(database)
        assert sorted(await at_once(lambda: repository.delete("client"))) == [False] * (MANY - 1) + [True]
        assert await tokens.find_code(hash_of("code")) is None
        assert await tokens.count_active() == (0, 0)

    async def test_assertions(self, database: Database) -> None:
        """Each is used once, whoever asks at the same time; they are kept until they cannot be used anyway."""
        await add_client(database)
        repository = ClientRepository(database)
        soon = datetime.now(UTC) + MINUTE
        assert sum(await at_once(lambda: repository.use_assertion("client", hash_of("jti"), soon))) == 1
        assert await repository.use_assertion("client", hash_of("old"), soon - timedelta(hours=1))
        assert await repository.delete_expired_assertions(10) == 1
        assert not await repository.use_assertion("client", hash_of("jti"), soon)


class TestScopes:
    """The table ``scopes``."""

    async def test_those_of_authly_itself_are_there(self, database: Database) -> None:
        """From the start: those of OpenID Connect, and those of administrators."""
        names = [scope.name for scope in await ScopeRepository(database).list()]
        openid_connect = ["address", "email", "offline_access", "openid", "phone", "profile"]
        assert names == sorted(["admin:read", "admin:write", "metrics:read", *openid_connect])

    async def test_add(self, database: Database) -> None:
        """A name is taken once."""
        repository = ScopeRepository(database)
        assert sum(await at_once(lambda: repository.add("read", "Read"))) == 1
        assert [scope.description for scope in await repository.find(["read", "write"])] == ["Read"]
        assert await repository.describe("read", "Read everything")
        assert not await repository.describe("write", "Write")

    async def test_delete(self, database: Database) -> None:
        """It is taken from clients and consents."""
        repository, consents = ScopeRepository(database), ConsentRepository(database)
        user_id = await add_user(database)
        await add_client(database)
        await consents.add(user_id, "client", ["email", "profile"], [])
        assert sum(await at_once(lambda: repository.delete("email"))) == 1
        client = await ClientRepository(database).find("client")
        assert client
        assert client.settings.scopes == ("profile",)
        consent = await consents.find(user_id, "client")
        assert consent
        assert consent.scopes == ("profile",)


class TestConsents:
    """The table ``consents``."""

    async def test_consents_add_up(self, database: Database) -> None:
        """Whatever is allowed at the same time is allowed."""
        user_id = await add_user(database)
        await add_client(database)
        repository = ConsentRepository(database)
        names = iter(f"scope{number:02}" for number in range(MANY))
        await at_once(lambda: repository.add(user_id, "client", [next(names)], ["https://api.example/"]))
        consent = await repository.find(user_id, "client")
        assert consent
        assert consent.scopes == tuple(f"scope{number:02}" for number in range(MANY))
        assert consent.resources == ("https://api.example/",)
        assert consent.covers(("scope00",), ())
        assert not consent.covers(("scope00",), ("https://other.example/",))

    async def test_delete_and_list(self, database: Database) -> None:
        """A consent is taken back once, and is listed by user and by client until then."""
        user_id = await add_user(database)
        await add_client(database)
        repository = ConsentRepository(database)
        await repository.add(user_id, "client", ["email"], [])
        for wanted in ({"user_id": user_id, "client_id": None}, {"user_id": None, "client_id": "client"}):
            assert len(await repository.list(**wanted, limit=5, offset=0)) == 1
        assert await repository.list(user_id=uuid4(), client_id=None, limit=5, offset=0) == []
        assert sum(await at_once(lambda: repository.delete(user_id, "client"))) == 1
        assert await repository.find(user_id, "client") is None


class TestPushedRequests:
    """The table ``pushed_authorization_requests``."""

    async def test_used_once(self, database: Database) -> None:
        """It is found until it is used, by its client alone."""
        await add_client(database)
        repository = PushedRequestRepository(database)
        pairs = [("scope", "a b"), ("resource", "https://one/"), ("resource", "https://two/")]
        await repository.add(hash_of("uri"), "client", pairs, MINUTE)
        found = await repository.find(hash_of("uri"), "client")
        assert found
        assert found.pairs() == pairs
        assert await repository.find(hash_of("uri"), "other") is None
        assert sum(await at_once(lambda: repository.use(hash_of("uri")))) == 1
        assert await repository.find(hash_of("uri"), "client") is None

    async def test_expired(self, database: Database) -> None:
        """It is not found, not used, and deleted at last, so many at a time."""
        await add_client(database)
        repository = PushedRequestRepository(database)
        for name in "abc":
            await repository.add(hash_of(name), "client", [], PAST)
        assert await repository.find(hash_of("a"), "client") is None
        assert not await repository.use(hash_of("a"))
        assert [await repository.delete_expired(2), await repository.delete_expired(2)] == [2, 1]


def authorization(user_id: UUID) -> Authorization:
    """Return what a user allowed."""
    return Authorization(
        "client", user_id, uuid4(), ("profile",), ("https://api.example/",), "a nonce", datetime.now(UTC), str(user_id)
    )


async def add_code(tokens: TokenRepository, user_id: UUID, code: str = "code", lifetime: timedelta = MINUTE) -> UUID:
    """Add a code; return its family."""
    family_id = uuid4()
    await tokens.add_code(family_id, hash_of(code), authorization(user_id), "https://a/", "challenge", lifetime)
    return family_id


def access(lifetime: timedelta = MINUTE) -> NewAccessToken:
    """Return an access token to be issued."""
    return NewAccessToken(uuid4(), "client", ("profile",), ("https://api.example/",), lifetime)


def refresh(token: str, lifetime: timedelta = MINUTE) -> NewRefreshToken:
    """Return a refresh token to be issued."""
    return NewRefreshToken(hash_of(token), new_salt(), lifetime)


class TestTokens:
    """Codes, refresh tokens, access tokens and their families."""

    @pytest.fixture
    async def user_id(self, database: Database) -> UUID:
        """A user; and the client is there."""
        await add_client(database)
        return await add_user(database)

    async def test_what_is_authorized_is_found(self, database: Database, user_id: UUID) -> None:
        """With its code, which is neither expired nor redeemed."""
        tokens = TokenRepository(database)
        family_id = await add_code(tokens, user_id)
        code = await tokens.find_code(hash_of("code"))
        assert code
        assert (code.is_expired, code.is_redeemed, code.redirect_uri) == (False, False, "https://a/")
        assert code.family.family_id == family_id
        assert code.family.authorization.nonce == "a nonce"
        assert code.family.authorization.user_id == user_id
        assert await tokens.find_code(hash_of("other")) is None

    async def test_a_code_is_redeemed_once(self, database: Database, user_id: UUID) -> None:
        """Of many at once one issues tokens, and the others nothing."""
        tokens = TokenRepository(database)
        await add_code(tokens, user_id)
        names = iter(range(MANY))
        done = await at_once(lambda: tokens.redeem_code(hash_of("code"), access(), refresh(f"r{next(names)}")))
        assert sum(done) == 1
        assert await tokens.count_active() == (1, 1)
        code = await tokens.find_code(hash_of("code"))
        assert code
        assert code.is_redeemed

    @pytest.mark.parametrize("why", ["expired", "revoked"])
    async def test_a_code_that_is_not_redeemed(self, database: Database, user_id: UUID, why: str) -> None:
        """One that has expired, or whose family is revoked, issues nothing."""
        tokens = TokenRepository(database)
        family_id = await add_code(tokens, user_id, lifetime=PAST if why == "expired" else MINUTE)
        if why == "revoked":
            assert await tokens.revoke_family(family_id, RevocationReason.CONSENT)
        assert not await tokens.redeem_code(hash_of("code"), access(), refresh("r"))
        assert await tokens.find_refresh_token(hash_of("r")) is None
        assert await tokens.count_active() == (0, 0)

    async def test_what_cannot_be_issued_leaves_the_code(self, database: Database, user_id: UUID) -> None:
        """Redeeming and issuing happen together or not at all."""
        tokens = TokenRepository(database)
        await add_code(tokens, user_id)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await tokens.redeem_code(hash_of("code"), replace(access(), client_id="nobody"), refresh("r"))
        assert await tokens.redeem_code(hash_of("code"), access(), refresh("r"))

    async def test_rotation(self, database: Database, user_id: UUID) -> None:
        """Of many at once one rotates; there is one live refresh token before and after."""
        tokens = TokenRepository(database)
        await add_code(tokens, user_id)
        await tokens.redeem_code(hash_of("code"), access(), refresh("r0"))
        names = iter(range(MANY))
        done = await at_once(lambda: tokens.rotate(hash_of("r0"), access(), refresh(f"s{next(names)}")))
        assert sum(done) == 1
        assert await tokens.count_active() == (2, 1)
        found = await tokens.find_refresh_token(hash_of("r0"))
        assert found
        assert found.rotated_for is not None
        assert timedelta() <= found.rotated_for < MINUTE
        assert not found.is_successor_used

    async def test_repetition(self, database: Database, user_id: UUID) -> None:
        """A rotated token yields access tokens until its successor is used."""
        tokens = TokenRepository(database)
        await add_code(tokens, user_id)
        await tokens.redeem_code(hash_of("code"), access(), refresh("r0"))
        await tokens.rotate(hash_of("r0"), access(), refresh("r1"))
        assert all(await at_once(lambda: tokens.repeat(hash_of("r1"), access())))
        await tokens.rotate(hash_of("r1"), access(), refresh("r2"))
        assert not await tokens.repeat(hash_of("r1"), access())
        found = await tokens.find_refresh_token(hash_of("r0"))
        assert found
        assert found.is_successor_used

    async def test_rotation_and_revocation_at_once(self, database: Database, user_id: UUID) -> None:
        """Whichever comes first: what is issued is revoked."""
        tokens = TokenRepository(database)
        for round_ in range(10):
            family_id = await add_code(tokens, user_id, f"code{round_}")
            await tokens.redeem_code(hash_of(f"code{round_}"), access(), refresh(f"r{round_}"))
            await asyncio.gather(
                tokens.rotate(hash_of(f"r{round_}"), access(), refresh(f"s{round_}")),
                tokens.revoke_family(family_id, RevocationReason.LOGOUT),
            )
        assert await tokens.count_active() == (0, 0)

    async def test_revocation(self, database: Database, user_id: UUID) -> None:
        """It happens once, keeps its first reason, and is what is found of an access token."""
        tokens, wanted = TokenRepository(database), access()
        family_id = await add_code(tokens, user_id)
        await tokens.redeem_code(hash_of("code"), wanted, None)
        assert sum(await at_once(lambda: tokens.revoke_family(family_id, RevocationReason.ADMIN))) == 1
        assert not await tokens.revoke_family(family_id, RevocationReason.LOGOUT)
        found = await tokens.find_access_token(wanted.token_id)
        assert found
        assert found.revocation_reason is RevocationReason.ADMIN
        assert (found.user_id, found.family_id) == (user_id, family_id)

    async def test_revocation_of_what_is_in_common(self, database: Database, user_id: UUID) -> None:
        """By user, by client, by session; never of everything there is."""
        tokens = TokenRepository(database)
        await add_code(tokens, user_id, "a")
        code = await tokens.find_code(hash_of("a"))
        assert code
        assert await tokens.revoke_families(RevocationReason.LOGOUT, session_id=uuid4()) == 0
        session_id = code.family.authorization.session_id
        assert await tokens.revoke_families(RevocationReason.LOGOUT, session_id=session_id) == 1
        await add_code(tokens, user_id, "b")
        assert await tokens.revoke_families(RevocationReason.ADMIN, user_id=user_id, client_id="other") == 0
        assert await tokens.revoke_families(RevocationReason.ADMIN, user_id=user_id, client_id="client") == 1
        with pytest.raises(ValueError, match="whose"):
            await tokens.revoke_families(RevocationReason.ADMIN)

    async def test_access_tokens_of_a_client(self, database: Database, user_id: UUID) -> None:
        """What a client has for itself is revoked by client, and one by one."""
        tokens, first, second = TokenRepository(database), access(), access()
        await tokens.add_access_token(first)
        await tokens.add_access_token(second)
        assert await tokens.revoke_access_token(first.token_id, RevocationReason.CLIENT)
        assert not await tokens.revoke_access_token(first.token_id, RevocationReason.ADMIN)
        assert await tokens.revoke_access_tokens_of_client("client", RevocationReason.ADMIN) == 1
        listed = await tokens.list_access_tokens(user_id=None, client_id="client", limit=9, offset=0)
        assert {token.revocation_reason for token in listed} == {RevocationReason.CLIENT, RevocationReason.ADMIN}
        assert await tokens.list_access_tokens(user_id=user_id, client_id=None, limit=9, offset=0) == []

    async def test_clean_up(self, database: Database, user_id: UUID) -> None:
        """What has expired goes, so many at a time; a family goes with the last of its members."""
        tokens = TokenRepository(database)
        for number in range(3):
            await add_code(tokens, user_id, f"old{number}", PAST)
        await add_code(tokens, user_id, "code")
        await tokens.redeem_code(hash_of("code"), access(PAST), refresh("r0", PAST))
        await tokens.add_access_token(access())
        assert [await tokens.delete_expired_families(2) for _ in range(3)] == [2, 1, 0]
        assert await tokens.delete_expired_access_tokens(9) == 1
        assert await tokens.delete_expired_refresh_tokens(9) == 1
        # Its code could still be presented again, and would revoke it.
        assert await tokens.find_code(hash_of("code"))
        assert len(await tokens.list_families(user_id=user_id, client_id="client", limit=9, offset=0)) == 1
        assert await tokens.count_active() == (1, 0)


class TestSigningKeys:
    """The table ``signing_keys``."""

    async def test_the_first(self, database: Database) -> None:
        """Of many workers that begin at once one adds the first key of an algorithm."""
        keys = SigningKeyRepository(database)
        names = iter(range(MANY))
        assert sum(await at_once(lambda: keys.add_first(f"k{next(names)}", "RS256", {}, b"x"))) == 1
        assert await keys.add_first("other", "ES256", {}, b"x")
        assert [key.algorithm for key in await keys.published()] == ["RS256", "ES256"]

    async def test_succession(self, database: Database) -> None:
        """Of many rotations at once one takes place: there is one key whose end is open."""
        keys = SigningKeyRepository(database)
        await keys.add_first("first", "RS256", {}, b"x")
        names = iter(range(MANY))

        async def succeed() -> bool:
            return await keys.succeed(f"k{next(names)}", "RS256", {}, b"x", signs_after=MINUTE, overlap=2 * MINUTE)

        done = await at_once(succeed)
        assert sum(done) >= 1
        published = await keys.published()
        assert sum(key.expires_at is None for key in published) == 1
        assert len(published) == 1 + sum(done)
        assert not await keys.succeed("x", "ES256", {}, b"x", signs_after=MINUTE, overlap=MINUTE)
