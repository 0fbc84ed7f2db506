"""What is presented many times at the same moment, to three workers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from authly.oauth.models import AuthMethod
from tests.conformance.oauth.conftest import run_server
from tests.conformance.oauth.test_client_authentication import ASSERTION_TYPE, KEYS, assertion_for
from tests.oauth import Pkce, Registered, Server
from tests.plain import NO_TLS

MANY = 200


@pytest.fixture(scope="module")
def strict_server(postgres_server: str, _migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An instance that takes any repetition of a refresh for theft."""
    folder: Path = tmp_path_factory.mktemp("strict")
    yield from run_server(postgres_server, _migrated, folder, AUTHLY_REFRESH_TOKEN_GRACE="0")


def at_once(server: Server, client: Registered, form: dict[str, str]) -> list[httpx.Response]:
    """Send a token request many times at once, each on a connection of its own."""

    async def send() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=MANY)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60, verify=NO_TLS) as http:
            auth = client.basic if client.secret else httpx.USE_CLIENT_DEFAULT
            return list(await asyncio.gather(*(http.post("/oauth2/token", data=form, auth=auth) for _ in range(MANY))))

    return asyncio.run(send())


def rows_of(server: Server, client: Registered) -> dict[str, Any]:
    """Count what a client holds."""
    row = server.sql(
        """
        SELECT
            (SELECT count(*) FROM token_families WHERE client_id = %(id)s),
            (SELECT count(*) FROM token_families WHERE client_id = %(id)s AND revoked_at IS NOT NULL),
            (SELECT count(*) FROM refresh_tokens JOIN token_families USING (family_id) WHERE client_id = %(id)s),
            (SELECT count(*) FROM refresh_tokens JOIN token_families USING (family_id)
             WHERE client_id = %(id)s AND rotated_at IS NULL),
            (SELECT count(*) FROM access_tokens WHERE client_id = %(id)s)
        """.replace("%(id)s", f"'{client.id}'")
    )[0]
    return dict(zip(["families", "revoked", "refresh", "live_refresh", "access"], row, strict=True))


def test_one_code(server: Server) -> None:
    """Of 200 redemptions of one code one succeeds; the others end what it led to (RFC 6749, section 4.1.2)."""
    client, pkce = server.client(), Pkce()
    code = server.code(client, pkce)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": pkce.verifier}
    answers = at_once(server, client, form)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (MANY - 1)
    assert {answer.json().get("error") for answer in answers} == {None, "invalid_grant"}
    assert rows_of(server, client) == {"families": 1, "revoked": 1, "refresh": 1, "live_refresh": 1, "access": 1}
    (issued,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert server.introspect(client, issued["access_token"]) == {"active": False}
    assert server.refresh(client, issued["refresh_token"]).json()["error"] == "invalid_grant"
    recorded = server.sql("SELECT count(*) FROM audit_log WHERE event = 'code_reused' AND actor_id = %s", client.id)
    assert recorded == [(1,)]


def test_one_refresh_token_within_the_grace(server: Server) -> None:
    """200 refreshes of one token are one rotation: all get the same successor, which is the one live token."""
    client = server.client()
    tokens = server.tokens(client)
    answers = at_once(server, client, {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert len({answer.json()["access_token"] for answer in answers}) == MANY
    assert rows_of(server, client) == {
        "families": 1,
        "revoked": 0,
        "refresh": 2,
        "live_refresh": 1,
        "access": MANY + 1,
    }
    assert server.refresh(client, answers[0].json()["refresh_token"]).status_code == 200


def test_one_refresh_token_without_a_grace(strict_server: Server) -> None:
    """Of 200 refreshes of one token one succeeds, and the others end the family (RFC 9700, section 4.14.2)."""
    server = strict_server
    client = server.client()
    tokens = server.tokens(client)
    answers = at_once(server, client, {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (MANY - 1)
    assert {answer.json().get("error") for answer in answers} == {None, "invalid_grant"}
    assert rows_of(server, client) == {"families": 1, "revoked": 1, "refresh": 2, "live_refresh": 1, "access": 2}
    (issued,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert server.introspect(client, issued["access_token"]) == {"active": False}
    assert server.refresh(client, issued["refresh_token"]).json()["error"] == "invalid_grant"
    recorded = server.sql(
        "SELECT count(*) FROM audit_log WHERE event = 'refresh_token_reused' AND actor_id = %s", client.id
    )
    assert recorded == [(1,)]


def test_one_assertion(server: Server) -> None:
    """Of 200 uses of one assertion one succeeds (RFC 7523, section 3)."""
    key = KEYS["ES256"]
    client = server.service(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks={"keys": [key.as_dict(private=False)]})
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion_for(server, client),
    }
    answers = at_once(server, client, form)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * (MANY - 1)
    assert rows_of(server, client)["access"] == 1


def test_one_pushed_request(server: Server) -> None:
    """Of many answers to one pushed request one yields a code (RFC 9126, section 4)."""
    client, person, pkce = server.client(require_consent=False), server.person(), Pkce()
    form = {
        "response_type": "code",
        "redirect_uri": client.client.settings.redirect_uris[0],
        "code_challenge": pkce.challenge,
        "code_challenge_method": "S256",
    }
    person.authorize(server.authorize_url(client, pkce))
    request_uri = server.post("/oauth2/par", client, **form).json()["request_uri"]
    cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in person.cookies.items())}

    async def open_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, headers=cookies, verify=NO_TLS) as http:
            query = {"client_id": client.id, "request_uri": request_uri}
            return list(await asyncio.gather(*(http.get("/oauth2/authorize", params=query) for _ in range(50))))

    locations = [answer.headers.get("location", "") for answer in asyncio.run(open_all())]
    assert sum("code=" in location for location in locations) == 1
