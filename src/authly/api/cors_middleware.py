"""Which pages of other origins may read what Authly answers (the Fetch standard's CORS protocol)."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authly.core.repository import DatabaseUnavailableError
from authly.core.security_log import SecurityLog
from authly.monitoring.labels import SecurityEvent
from authly.monitoring.recorders import SecurityRecorder

_METHODS: Final = b"GET, POST"
_REQUEST_HEADERS: Final = b"authorization, content-type, dpop"
_EXPOSED: Final = "retry-after, www-authenticate, x-request-id, ratelimit, ratelimit-policy"
_MAX_AGE: Final = b"600"


class CORSMiddleware:
    """Lets the origins of clients call what clients call, and everybody read what is public.

    Cookies are never part of it: no answer carries ``Access-Control-Allow-Credentials``.

    Args:
        app: the application.
        client_paths: what applications in browsers call, such as the token endpoint.
        public_paths: beginnings of paths that are the same for everybody, such as the discovery documents.
        is_allowed: whether an origin, as the header ``Origin`` has it, is one of a client.
        metrics: whom to tell of refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        client_paths: frozenset[str],
        public_paths: tuple[str, ...],
        is_allowed: Callable[[str], Awaitable[bool]],
        metrics: SecurityRecorder,
    ) -> None:
        self._app = app
        self._client_paths = client_paths
        self._public_paths = public_paths
        self._is_allowed = is_allowed
        self._security = SecurityLog(metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it where a browser only asks whether it may ask."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_client_path = scope["path"] in self._client_paths
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        is_public = not is_client_path and scope["path"].startswith(self._public_paths)
        if origin is None or not (is_client_path or is_public):
            await self._app(scope, receive, _with(send, None, vary=is_client_path))
            return
        allowed = b"*" if is_public else await self._judge(origin)
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _answer_preflight(send, allowed, vary=is_client_path)
        else:
            # A request that needed no preflight goes on whoever sent it; without the header its page learns nothing.
            await self._app(scope, receive, _with(send, allowed, vary=is_client_path))

    async def _judge(self, origin: bytes) -> bytes | None:
        try:
            if await self._is_allowed(origin.decode("latin-1")):
                return origin
        except DatabaseUnavailableError:
            # Nobody can tell whose origin it is. The request goes on, and its page learns nothing.
            return None
        self._security.note(SecurityEvent.CORS_REJECTED, origin=origin[:255].decode("latin-1"))
        return None


def _with(send: Send, allowed: bytes | None, *, vary: bool) -> Send:
    if allowed is None and not vary:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if vary:
                headers.add_vary_header("origin")
            if allowed is not None:
                headers["access-control-allow-origin"] = allowed.decode("latin-1")
                headers["access-control-expose-headers"] = _EXPOSED
        await send(message)

    return send_with_headers


async def _answer_preflight(send: Send, allowed: bytes | None, *, vary: bool) -> None:
    headers = [(b"vary", b"origin")] if vary else []
    if allowed is not None:
        headers += [
            (b"access-control-allow-origin", allowed),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", _MAX_AGE),
        ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
