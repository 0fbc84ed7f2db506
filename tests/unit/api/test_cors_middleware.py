"""Which origins may read what (Fetch standard, CORS protocol)."""

import pytest

from authly.api.cors_middleware import CORSMiddleware
from authly.core.repository import DatabaseUnavailableError
from tests.asgi import Answer, Echo, ask
from tests.unit.api.test_security_middleware import Events

pytestmark = pytest.mark.anyio

ORIGIN, OTHER = "https://app.example", "https://evil.example"


async def is_allowed(origin: str) -> bool:
    """Know one origin."""
    return origin == ORIGIN


async def call(method: str, path: str, origin: str | None, events: Events, *, preflight: bool = False) -> Answer:
    """Ask as a browser does."""
    headers = {} if origin is None else {"origin": origin}
    if preflight:
        headers["access-control-request-method"] = "POST"
    app = CORSMiddleware(Echo(), frozenset({"/oauth2/token"}), ("/.well-known/",), is_allowed, events)
    return await ask(app, method, path, headers)


async def test_the_origin_of_a_client() -> None:
    """A client's page may read what it asked for; no answer ever lets cookies come along."""
    events = Events()
    answer = await call("POST", "/oauth2/token", ORIGIN, events)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    preflight = await call("OPTIONS", "/oauth2/token", ORIGIN, events, preflight=True)
    assert (preflight.status, preflight.body) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert events == []


@pytest.mark.parametrize("origin", [OTHER, "null", "https://app.example:8443", "http://app.example"])
@pytest.mark.parametrize("preflight", [True, False])
async def test_any_other_origin(origin: str, preflight: bool) -> None:
    """Another page learns nothing, and that is an event."""
    events = Events()
    answer = await call("OPTIONS" if preflight else "POST", "/oauth2/token", origin, events, preflight=preflight)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.headers["vary"] == "origin"
    assert events == [("cors_rejected", "low")]


async def test_an_origin_that_nobody_can_judge() -> None:
    """While the database is away, a request goes on and its page learns nothing; that is no event."""

    async def away(_: str) -> bool:
        raise DatabaseUnavailableError

    events = Events()
    app = CORSMiddleware(Echo(), frozenset({"/oauth2/token"}), (), away, events)
    answer = await ask(app, "POST", "/oauth2/token", {"origin": ORIGIN})
    assert (answer.status, answer.body) == (200, b"done")
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert events == []


async def test_public_documents() -> None:
    """What is the same for everybody may be read by everybody."""
    answer = await call("GET", "/.well-known/openid-configuration", OTHER, Events())
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_pages() -> None:
    """Pages for people may be read by no other origin, and asking for that is answered like anything else."""
    answer = await call("GET", "/login", ORIGIN, Events())
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_no_origin() -> None:
    """A program that is no browser sees nothing of it, but caches must tell both apart."""
    answer = await call("POST", "/oauth2/token", None, Events())
    assert answer.headers == {"vary": "origin"}
