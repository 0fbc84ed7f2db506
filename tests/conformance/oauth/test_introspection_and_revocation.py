"""Introspection (RFC 7662) and revocation (RFC 7009)."""

from typing import Any

import pytest

from tests.oauth import Registered, Server


@pytest.fixture(scope="module")
def client(server: Server) -> Registered:
    """A client with tokens of users."""
    return server.client()


def test_access_token(server: Server, client: Registered) -> None:
    """Any client that authenticates is told what an access token is worth (RFC 7662, section 2.2)."""
    person = server.person()
    token = server.tokens(client, person)["access_token"]
    told = server.introspect(server.service(), token)
    assert told.pop("jti")
    assert told.pop("exp") - told.pop("iat") == 600
    assert told == {
        "active": True,
        "iss": server.url,
        "sub": person.user_id,
        "aud": server.url,
        "client_id": client.id,
        "scope": "profile email",
        "token_type": "Bearer",
    }


def test_refresh_token(server: Server, client: Registered) -> None:
    """A refresh token is the business of its client alone (RFC 7662, section 4)."""
    person = server.person()
    token = server.tokens(client, person)["refresh_token"]
    told = server.introspect(client, token)
    assert told.pop("exp") > told.pop("iat")
    assert told == {
        "active": True,
        "iss": server.url,
        "sub": person.user_id,
        "client_id": client.id,
        "scope": "profile email",
    }
    assert server.introspect(server.service(), token) == {"active": False}


def test_rotated_refresh_token(server: Server, client: Registered) -> None:
    """One that has a successor is not active, though a retry may still use it (RFC 7662, section 2.2)."""
    token = server.tokens(client)["refresh_token"]
    server.refresh(client, token)
    assert server.introspect(client, token) == {"active": False}


@pytest.mark.parametrize("token", ["x", "a.b.c", "x" * 43, "x" * 20_000, "ü"])
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "unknown", ""])
def test_what_is_no_token(server: Server, client: Registered, token: str, hint: str) -> None:
    """It is not active, and no more is said of it, whatever the hint (RFC 7662, sections 2.1 and 2.2)."""
    answer = server.post("/oauth2/introspect", client, token=token, token_type_hint=hint)
    assert (answer.status_code, answer.json()) == (200, {"active": False})


@pytest.mark.parametrize("path", ["/oauth2/introspect", "/oauth2/revoke"])
def test_no_token(server: Server, client: Registered, path: str) -> None:
    """The parameter is needed (RFC 7662, section 2.1; RFC 7009, section 2.1)."""
    answer = server.post(path, client)
    assert answer.status_code == 401 or answer.json()["error"] == "invalid_request"
    answer = server.post(path, client, token="")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_introspection_is_for_clients(server: Server, client: Registered) -> None:
    """Who does not authenticate is told nothing: not anybody, not a public client (RFC 7662, section 2.1)."""
    token = server.tokens(client)["access_token"]
    for data in ({}, {"client_id": server.client(public=True).id}, {"client_id": client.id}):
        answer = server.post("/oauth2/introspect", None, token=token, **data)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("public", [True, False])
def test_revoked_refresh_token(server: Server, public: bool) -> None:
    """With it ends everything that came of the authorization (RFC 7009, section 2.1)."""
    client, resource_server = server.client(public=public), server.service()
    tokens = server.tokens(client)
    answer = server.post("/oauth2/revoke", client, token=tokens["refresh_token"])
    assert (answer.status_code, answer.content) == (200, b"")
    assert server.introspect(resource_server, tokens["access_token"]) == {"active": False}
    assert server.refresh(client, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    recorded = server.sql("SELECT count(*) FROM audit_log WHERE event = 'token_revoked' AND actor_id = %s", client.id)
    assert recorded == [(1,)]


def test_revoked_access_token(server: Server, client: Registered) -> None:
    """It ends by itself, and the refresh token stays (RFC 7009, section 2.1)."""
    tokens = server.tokens(client)
    hint = {"token_type_hint": "refresh_token"}  # wrong, and not believed
    assert server.post("/oauth2/revoke", client, token=tokens["access_token"], **hint).status_code == 200
    assert server.introspect(client, tokens["access_token"]) == {"active": False}
    assert server.refresh(client, tokens["refresh_token"]).status_code == 200


def test_revocation_is_idempotent(server: Server, client: Registered) -> None:
    """What is no longer valid can be revoked, and so can what never was (RFC 7009, section 2.2)."""
    tokens = server.tokens(client)
    wanted: list[Any] = [tokens["refresh_token"], tokens["refresh_token"], tokens["access_token"], "x", "a.b.c"]
    for token in wanted:
        assert server.post("/oauth2/revoke", client, token=token).status_code == 200


def test_token_of_another_client(server: Server, client: Registered) -> None:
    """A client revokes its own tokens only (RFC 7009, section 2.1)."""
    tokens, other = server.tokens(client), server.client()
    for token in (tokens["refresh_token"], tokens["access_token"]):
        answer = server.post("/oauth2/revoke", other, token=token)
        assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
        assert server.introspect(client, token)["active"]


def test_revocation_is_for_clients(server: Server, client: Registered) -> None:
    """Who does not authenticate revokes nothing (RFC 7009, section 2.1)."""
    token = server.tokens(client)["access_token"]
    answer = server.post("/oauth2/revoke", None, token=token, client_id=client.id)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert server.introspect(client, token)["active"]
