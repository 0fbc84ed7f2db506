"""Pushed authorization requests (RFC 9126) that are refused."""

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.oauth import CALLBACK, Pkce, Registered, Server


@pytest.fixture(scope="module")
def client(server: Server) -> Registered:
    """A client that may push its requests."""
    return server.client()


def push(server: Server, client: Registered, **changes: Any) -> Any:
    """Push a request; a parameter that is None is left out."""
    wanted = {
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "profile",
        "state": "pushed",
        "code_challenge": Pkce().challenge,
        "code_challenge_method": "S256",
        **changes,
    }
    return server.post("/oauth2/par", client, **{name: value for name, value in wanted.items() if value is not None})


def pushed(server: Server, client: Registered, **changes: Any) -> str:
    """Push a request and return its name."""
    answer = push(server, client, **changes)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["request_uri"])


def url(server: Server, client_id: str, request_uri: str, **more: str) -> str:
    """Return the address of a request that was pushed."""
    return f"{server.url}/oauth2/authorize?{urlencode({'client_id': client_id, 'request_uri': request_uri, **more})}"


def test_pushed_parameters_count_alone(server: Server, client: Registered) -> None:
    """What the browser adds does not change what was pushed (RFC 9126, section 4)."""
    request_uri = pushed(server, client)
    more = {"redirect_uri": "https://evil.example/", "scope": "email", "state": "other"}
    answer = server.person().authorize(url(server, client.id, request_uri, **more))
    assert answer.location.startswith(f"{CALLBACK}?")
    assert answer.parameters["state"] == "pushed"


def test_public_client(server: Server) -> None:
    """A public client pushes as it is (RFC 9126, section 2)."""
    client = server.client(public=True)
    answer = server.person().authorize(url(server, client.id, pushed(server, client)))
    assert answer.code


def test_used_once(server: Server, client: Registered) -> None:
    """A request that was answered is not answered again (RFC 9126, section 4)."""
    request_uri, person = pushed(server, client), server.person()
    assert person.authorize(url(server, client.id, request_uri)).code
    assert person.open(url(server, client.id, request_uri)) is None
    assert person.page.status_code == 400
    denied = pushed(server, client, scope="email")
    person.authorize(url(server, client.id, denied), decision="deny")
    assert person.open(url(server, client.id, denied)) is None


def test_of_another_client(server: Server, client: Registered) -> None:
    """A request is its client's (RFC 9126, section 2.2)."""
    other = server.client()
    assert server.http.get(url(server, other.id, pushed(server, client))).status_code == 400


def test_expired(server: Server, client: Registered) -> None:
    """A request waits for ten minutes (RFC 9126, section 2.2)."""
    request_uri = pushed(server, client)
    assert server.http.get(url(server, client.id, request_uri)).status_code == 303
    server.sql("UPDATE pushed_authorization_requests SET expires_at = now() WHERE client_id = %s", client.id)
    assert server.http.get(url(server, client.id, request_uri)).status_code == 400


@pytest.mark.parametrize("name", ["", "x", "x" * 43, "x" * 5000, "%00"])
def test_unknown(server: Server, client: Registered, name: str) -> None:
    """What was not pushed is not answered (RFC 9126, section 4)."""
    request_uri = f"urn:ietf:params:oauth:request_uri:{name}"
    answer = server.http.get(url(server, client.id, request_uri))
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": "https://evil.example/"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": "https://other.example/"}, "invalid_target"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
    ],
)
def test_refused_when_pushed(server: Server, client: Registered, changes: dict[str, Any], error: str) -> None:
    """It is refused as the authorization endpoint would refuse it, and before (RFC 9126, sections 2.1 and 2.3)."""
    answer = push(server, client, **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_client_has_to_authenticate(server: Server, client: Registered) -> None:
    """As at the token endpoint (RFC 9126, section 2)."""
    answer = server.post("/oauth2/par", None, client_id=client.id, response_type="code")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_client_that_has_to_push(server: Server) -> None:
    """Of such a client no other request is answered (RFC 9126, section 6)."""
    client = server.client(require_pushed_authorization_requests=True)
    answer = server.http.get(server.authorize_url(client))
    assert "error=invalid_request" in answer.headers["location"]
    assert server.person().authorize(url(server, client.id, pushed(server, client))).code


def test_secrets_are_not_kept(server: Server, client: Registered) -> None:
    """What authenticates the client is no part of the request (RFC 9126, section 2.1)."""
    client_id, secret = client.basic
    form = {
        "client_id": client_id,
        "client_secret": secret,
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "code_challenge": Pkce().challenge,
        "code_challenge_method": "S256",
    }
    assert server.http.post("/oauth2/par", data=form).status_code == 201
    for (kept,) in server.sql("SELECT parameters::text FROM pushed_authorization_requests"):
        assert secret not in kept
