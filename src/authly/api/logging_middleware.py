"""A correlation id and a log line for each request, and an answer when all else fails."""

import os
import re
import time
from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADER = b"x-request-id"
# What a person or a program would make up; anything else could be an attempt to forge log lines.
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_SERVER_ERROR = b'{"error":"server_error","error_description":"Authly failed to answer; its log says why."}'

_log = structlog.stdlib.get_logger("authly.request")


class LoggingMiddleware:
    """Binds a correlation id to everything that is logged during a request, and returns it in ``X-Request-ID``.

    Args:
        app: the application.
        clock: what to time with, in seconds.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; anything but HTTP goes straight through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request_id = _request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        # Not taken back at the end: a server's own line about this request, after us, shall have the id too.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        started = self._clock()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            _log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # the response is under way; the server closes the connection
            await _answer_server_error(send_with_id)
        finally:
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((self._clock() - started) * 1000, 3),
                client=(scope.get("client") or ("",))[0],
            )


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == _HEADER and _SANE_ID.fullmatch(value):
            return bytes(value)
    return os.urandom(16).hex().encode()


async def _answer_server_error(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_SERVER_ERROR)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": _SERVER_ERROR})
