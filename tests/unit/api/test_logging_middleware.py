"""The correlation id, the log line, and the answer when all else fails."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from authly.api.logging_middleware import LoggingMiddleware

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Return what is logged, with the correlation id that was bound."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()


async def ask(app: Any, *headers: tuple[bytes, bytes]) -> list[Any]:
    """Ask an application behind the middleware; return what it sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": list(headers), "client": ("192.0.2.1", 1)}
    await LoggingMiddleware(app)(scope, receive, send)
    return sent


async def answer(_: Any, __: Any, send: Any) -> None:
    """Answer 200."""
    structlog.get_logger().info("working")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"ok"})


def request_id(sent: list[Any]) -> str:
    """Return the id that the client got."""
    return str(dict(sent[0]["headers"])[b"x-request-id"].decode())


async def test_a_sane_id_is_kept(lines: list[Any]) -> None:
    """The client's id comes back, and is on every line of the request."""
    sent = await ask(answer, (b"x-request-id", b"Trace-1.2_3"))
    assert request_id(sent) == "Trace-1.2_3"
    assert [line["request_id"] for line in lines] == ["Trace-1.2_3"] * 2
    assert lines[-1]["event"] == "request"
    assert lines[-1]["status"] == 200
    assert lines[-1]["client"] == "192.0.2.1"


@pytest.mark.parametrize("insane", [b"", b"a b", b'a"b', b"a\nb", b"x" * 129, "ä".encode(), b"{}"])
async def test_an_insane_id_is_replaced(lines: list[Any], insane: bytes) -> None:
    """What could forge a log line, or fill one, is not taken over."""
    sent = await ask(answer, (b"x-request-id", insane))
    assert re.fullmatch("[0-9a-f]{32}", request_id(sent))
    assert lines[0]["request_id"] == request_id(sent)


async def test_a_failure_is_answered_and_logged(lines: list[Any]) -> None:
    """An exception becomes a 500 with the id, and a line with the traceback."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    sent = await ask(broken)
    assert sent[0]["status"] == 500
    assert b"server_error" in sent[1]["body"]
    failed, done = lines
    assert failed["event"] == "request failed"
    assert failed["exc_info"]
    assert done["status"] == 500
    assert failed["request_id"] == request_id(sent)


async def test_a_failure_within_a_response_reaches_the_server(lines: list[Any]) -> None:
    """Once a response is under way only the server can end it, by closing the connection."""

    async def broken(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await ask(broken)
    assert [line["event"] for line in lines] == ["request failed", "request"]
