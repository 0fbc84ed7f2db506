"""Refresh tokens: rotation, reuse, retries."""

import pytest

from tests.oauth import Pkce, Registered, Server


@pytest.fixture(scope="module")
def client(server: Server) -> Registered:
    """A client that can refresh."""
    return server.client(resources=("https://api.example/",))


def age_rotations(server: Server, client: Registered) -> None:
    """Make it as if everything had been rotated longer ago than the grace."""
    server.sql(
        "UPDATE refresh_tokens SET rotated_at = rotated_at - interval '1 minute' FROM token_families "
        "WHERE token_families.family_id = refresh_tokens.family_id AND client_id = %s",
        client.id,
    )


@pytest.mark.parametrize("public", [True, False])
def test_rotation(server: Server, public: bool) -> None:
    """Each use yields another refresh token, of any kind of client (RFC 9700, section 4.14.2)."""
    client = server.client(public=public)
    tokens = server.tokens(client)
    seen = {tokens["refresh_token"]}
    for _ in range(3):
        answer = server.refresh(client, tokens["refresh_token"])
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        seen.add(tokens["refresh_token"])
    assert len(seen) == 4


def test_reuse_ends_the_family(server: Server, client: Registered) -> None:
    """A token that was used before was stolen, before or now: all that came of it ends (RFC 9700, section 4.14.2)."""
    person = server.person()
    first = server.tokens(client, person)
    second = server.refresh(client, first["refresh_token"]).json()
    age_rotations(server, client)
    assert server.refresh(client, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.refresh(client, second["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.introspect(client, second["access_token"]) == {"active": False}
    recorded = server.sql("SELECT detail ->> 'user_id' FROM audit_log WHERE event = 'refresh_token_reused'")
    assert recorded.count((person.user_id,)) == 1


def test_reuse_within_the_grace_once_the_successor_was_used(server: Server, client: Registered) -> None:
    """Who used the successor has had the answer: a retry is somebody else's (RFC 9700, section 4.14.2)."""
    first = server.tokens(client)
    second = server.refresh(client, first["refresh_token"]).json()
    third = server.refresh(client, second["refresh_token"]).json()
    assert server.refresh(client, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.refresh(client, third["refresh_token"]).json()["error"] == "invalid_grant"


def test_retry_yields_the_same_refresh_token(server: Server, client: Registered) -> None:
    """A client that did not get the answer asks again, and there is one live refresh token at any time."""
    first = server.tokens(client)
    second = server.refresh(client, first["refresh_token"]).json()
    again = server.refresh(client, first["refresh_token"]).json()
    assert again["refresh_token"] == second["refresh_token"]
    assert again["access_token"] != second["access_token"]
    assert server.refresh(client, again["refresh_token"]).status_code == 200


def test_refresh_token_of_another_client(server: Server, client: Registered) -> None:
    """It is bound to the client it was issued to, and stays good for that one (RFC 6749, sections 6 and 10.4)."""
    tokens = server.tokens(client)
    for other in (server.client(), server.client(public=True)):
        assert server.refresh(other, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.refresh(client, tokens["refresh_token"]).status_code == 200


def test_impersonation_without_the_secret(server: Server, client: Registered) -> None:
    """A confidential client has to authenticate (RFC 6749, section 6)."""
    tokens = server.tokens(client)
    answer = server.token(None, grant_type="refresh_token", refresh_token=tokens["refresh_token"], client_id=client.id)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_expired_refresh_token(server: Server, client: Registered) -> None:
    """One that nobody used for long is worth nothing (RFC 9700, section 4.14.2)."""
    person = server.person()
    tokens = server.tokens(client, person)
    server.sql(
        "UPDATE refresh_tokens SET expires_at = now() FROM token_families "
        "WHERE token_families.family_id = refresh_tokens.family_id AND user_id = %s",
        person.user_id,
    )
    assert server.refresh(client, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.introspect(client, tokens["refresh_token"]) == {"active": False}


@pytest.mark.parametrize("token", ["x", "x" * 43, "x" * 10_000, "a.b.c", "ü" * 43])
def test_unknown_refresh_token(server: Server, client: Registered, token: str) -> None:
    """What Authly never issued is worth nothing (RFC 6749, section 5.2)."""
    assert server.refresh(client, token).json()["error"] == "invalid_grant"


def test_access_token_is_no_refresh_token(server: Server, client: Registered) -> None:
    """One cannot be used for the other (RFC 6749, section 6)."""
    tokens = server.tokens(client)
    assert server.refresh(client, tokens["access_token"]).json()["error"] == "invalid_grant"


def test_less_scope(server: Server, client: Registered) -> None:
    """A token may be for less, and the next one for all of it again, but for no more (RFC 6749, section 6)."""
    tokens = server.tokens(client)
    less = server.refresh(client, tokens["refresh_token"], scope="profile").json()
    assert less["scope"] == "profile"
    more = server.refresh(client, less["refresh_token"], scope="profile email phone")
    assert more.json()["error"] == "invalid_scope"
    assert server.refresh(client, less["refresh_token"]).json()["scope"] == "profile email"


def test_scope_that_the_user_did_not_allow(server: Server, client: Registered) -> None:
    """What the client could have asked for, and did not, it does not get later (RFC 6749, section 6)."""
    tokens = server.tokens(client, scope="profile")
    assert server.refresh(client, tokens["refresh_token"], scope="email").json()["error"] == "invalid_scope"


def test_resource_that_the_user_did_not_allow(server: Server, client: Registered) -> None:
    """The same of resources (RFC 8707, section 2.2)."""
    tokens = server.tokens(client)
    answer = server.refresh(client, tokens["refresh_token"], resource="https://api.example/")
    assert answer.json()["error"] == "invalid_target"


def test_scope_that_was_taken_from_the_client(server: Server) -> None:
    """What an administrator takes from a client it does not get again."""
    client = server.client()
    tokens = server.tokens(client)
    server.update(client, scopes=("profile",))
    assert server.refresh(client, tokens["refresh_token"]).json()["scope"] == "profile"


def test_disabled_client(server: Server) -> None:
    """A client that is disabled loses what it holds."""
    client, resource_server = server.client(), server.service()
    tokens = server.tokens(client)
    server.update(client, enabled=False)
    assert server.introspect(resource_server, tokens["access_token"]) == {"active": False}
    assert server.refresh(client, tokens["refresh_token"]).json()["error"] == "invalid_client"
    server.update(client, enabled=True)
    assert server.refresh(client, tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_disabled_user(server: Server, client: Registered) -> None:
    """Nothing is issued in the name of a user who is disabled, and what was is worth nothing."""
    person = server.person()
    tokens = server.tokens(client, person)
    server.sql("UPDATE users SET disabled_at = now() WHERE user_id = %s", person.user_id)
    assert server.introspect(client, tokens["access_token"]) == {"active": False}
    assert server.refresh(client, tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_nothing_is_kept_in_the_clear(server: Server, client: Registered) -> None:
    """Codes, tokens and secrets are in the database as hashes only, and never in the log (RFC 9700, section 2.2)."""
    pkce = Pkce()
    code = server.code(client, pkce)
    tokens = server.redeem(client, code, pkce).json()
    assert client.secret
    tables = server.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        for (row,) in server.sql(f'SELECT t::text FROM "{table}" AS t'):
            for secret in (code, tokens["refresh_token"], tokens["access_token"], client.secret):
                assert secret not in row
    for secret in (code, tokens["refresh_token"], tokens["access_token"], client.secret):
        assert secret not in server.instance.log()
