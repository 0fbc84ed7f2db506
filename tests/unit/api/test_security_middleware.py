"""Hosts, sizes and headers."""

import json

import pytest
from starlette.types import Receive, Scope, Send

from authly.api.security_middleware import CONTENT_SECURITY_POLICY, SecurityMiddleware
from authly.monitoring.labels import SecurityEvent, Severity
from tests.asgi import Echo, ask

pytestmark = pytest.mark.anyio

LIMIT = 1000


class Events(list[tuple[SecurityEvent, Severity]]):
    """Notes security events."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Note one."""
        self.append((event, severity))


async def test_headers() -> None:
    """Each answer has what keeps browsers safe; HSTS only where there is TLS."""
    app = SecurityMiddleware(Echo(), (), LIMIT, Events())
    answer = await ask(app)
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "script" not in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert "strict-transport-security" not in answer.headers
    secure = await ask(app, scheme="https")
    assert secure.headers["strict-transport-security"].startswith("max-age=31536000")


async def test_own_headers_stay() -> None:
    """A route that has a header of its own keeps it, and the answer has it once."""
    app = SecurityMiddleware(Echo({"Cache-Control": "public, max-age=60"}), (), LIMIT, Events())
    answer = await ask(app)
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("login.example.com", 200),
        ("LOGIN.example.com:8443", 200),
        ("a.example.org", 200),
        ("a.b.example.org:80", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("example.org", 400),
        ("evilexample.org", 400),
        ("login.example.com.evil.test", 400),
        ("", 400),
        ("login.example.com:80:80", 400),
        ("login.example.com ", 400),
    ],
)
async def test_hosts(host: str, status: int) -> None:
    """Requests for hosts that are not Authly's are refused, and that is an event."""
    events = Events()
    app = SecurityMiddleware(Echo(), ["login.example.com", "*.example.org", "[::1]"], LIMIT, events)
    answer = await ask(app, headers={"host": host})
    assert answer.status == status
    assert events == ([] if status == 200 else [("host_rejected", "low")])
    if status == 400:
        assert json.loads(answer.body)["error"] == "invalid_request"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_health_answers_under_any_host() -> None:
    """Probes call by address."""
    app = SecurityMiddleware(Echo(), ["login.example.com"], LIMIT, Events())
    assert (await ask(app, path="/health/live", headers={"host": "10.0.0.7:8000"})).status == 200


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(("pieces", "status"), [([b"x" * 500] * 2, 200), ([b"x" * 500] * 3, 413), ([b"x" * 9999], 413)])
async def test_body(pieces: list[bytes], status: int, announced: bool) -> None:
    """A body that is too long is refused, whether or not the request says how long it is."""
    inner = Echo()
    app = SecurityMiddleware(inner, (), LIMIT, Events())
    headers = {"content-length": str(sum(map(len, pieces)))} if announced else {}
    answer = await ask(app, "POST", headers=headers, body=pieces)
    assert answer.status == status
    assert inner.read <= LIMIT
    if status == 413:
        assert b"1000 bytes" in answer.body
        assert answer.headers["connection"] == "close"
        assert inner.read == 0 or not announced


async def test_a_body_longer_than_announced() -> None:
    """What is announced is not believed."""
    app = SecurityMiddleware(Echo(), (), LIMIT, Events())
    answer = await ask(app, "POST", headers={"content-length": "10"}, body=[b"x" * 800, b"x" * 800])
    assert answer.status == 413


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999999", "ten"])
async def test_odd_lengths(length: str) -> None:
    """A length that is none is not an error of ours."""
    app = SecurityMiddleware(Echo(), (), LIMIT, Events())
    answer = await ask(app, "POST", headers={"content-length": length})
    assert answer.status == (413 if length.startswith("9") else 200)


async def test_an_application_that_answers_before_it_reads() -> None:
    """An answer under way is not followed by another."""

    async def eager(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.body", "body": b"done"})

    app = SecurityMiddleware(eager, (), LIMIT, Events())
    assert (await ask(app, "POST", body=[b"x" * 900] * 3)).status == 200


async def test_errors_of_the_application_are_its_own() -> None:
    """What goes wrong for another reason is passed on."""

    async def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        await ask(SecurityMiddleware(fail, (), LIMIT, Events()))


async def test_a_browser_gets_a_page() -> None:
    """Refusals are pages for people, and JSON for programs."""
    app = SecurityMiddleware(Echo(), ["a.example"], LIMIT, Events())
    page = await ask(app, headers={"host": "<b>", "accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert b"<b>" not in page.body
    problem = await ask(app, path="/admin/v1/clients", headers={"host": "x"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert json.loads(problem.body)["status"] == 400
