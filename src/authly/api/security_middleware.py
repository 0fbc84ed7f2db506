"""What holds for every request and every answer: hosts, sizes, and the headers that keep browsers safe."""

from collections.abc import Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authly.api.refusal import refuse
from authly.core.security_log import SecurityLog
from authly.monitoring.labels import SecurityEvent
from authly.monitoring.recorders import SecurityRecorder

_BASIC_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
# No script at all.
CONTENT_SECURITY_POLICY = f"{_BASIC_POLICY}; form-action 'self'"
# For pages that send a form whose answer may lead anywhere (a login, on to the client): browsers apply form-action to
# where the answer redirects, too.
POLICY_OF_FORMS_THAT_LEAD_ON = _BASIC_POLICY
# Each is left alone where an answer has one of its own.
_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # Not no-referrer: with that, browsers send `Origin: null` with forms, which then look like another site's.
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    # RFC 6749, section 5.1, for tokens; pages of somebody who is logged in are nobody else's either.
    (b"cache-control", b"no-store"),
]
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

_log = structlog.stdlib.get_logger(__name__)


class SecurityMiddleware:
    """Refuses requests for hosts that are not Authly's and bodies that are too long, and adds headers to answers.

    Args:
        app: the application.
        hosts: names that Authly answers to, ``*.example.com`` for all below a domain; none for any.
        max_body_bytes: of a request.
        metrics: whom to tell of refusals.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], max_body_bytes: int, metrics: SecurityRecorder) -> None:
        self._app = app
        names = [host.lower() for host in hosts]
        self._hosts = frozenset(name for name in names if not name.startswith("*."))
        self._domains = tuple(name[1:] for name in names if name.startswith("*."))
        self._max_body_bytes = max_body_bytes
        self._security = SecurityLog(metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; anything but HTTP goes straight through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _Headers(send, scope["scheme"] == "https")
        host, length = _host_and_length(scope)
        if not self._is_own(host) and not scope["path"].startswith("/health/"):
            self._security.note(SecurityEvent.HOST_REJECTED, host=host[:255])
            await refuse(scope, send, 400, "invalid_request", "Authly does not answer to this host name.")
        elif length > self._max_body_bytes:
            await self._refuse_body(scope, send)
        else:
            await self._pass_on(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        return not (self._hosts or self._domains) or host in self._hosts or host.endswith(self._domains or ("\0",))

    async def _pass_on(self, scope: Scope, receive: Receive, send: "_Headers") -> None:
        """Count the body as it is read, for a client may send more than it announced, or announce nothing."""
        read, refused = 0, False

        async def receive_and_count() -> Message:
            nonlocal read, refused
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_body_bytes:
                    if not refused and not send.started:
                        await self._refuse_body(scope, send)
                    refused = True
            # To the application it looks as if the client had gone, which is where it stops to read.
            return {"type": "http.disconnect"} if refused else message

        async def send_unless_refused(message: Message) -> None:
            if not refused:
                await send(message)

        try:
            await self._app(scope, receive_and_count, send_unless_refused)
        except Exception:
            if not refused:
                raise

    async def _refuse_body(self, scope: Scope, send: Send) -> None:
        _log.info("body_too_long", limit_bytes=self._max_body_bytes)
        description = f"The request is too long: its body may have {self._max_body_bytes} bytes at most."
        await refuse(scope, send, 413, "invalid_request", description, close=True)


class _Headers:
    """A ``send`` that adds headers to the answer."""

    def __init__(self, send: Send, is_secure: bool) -> None:
        self._send = send
        self._is_secure = is_secure
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [header for header in _HEADERS if header[0] not in present]
            if self._is_secure:
                headers.append(_HSTS)
            message = {**message, "headers": headers}
        await self._send(message)


def _host_and_length(scope: Scope) -> tuple[str, int]:
    """Return the host name in lower case without a port, and the announced length of the body."""
    host, length = "", 0
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1").lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value[:20])
    if not host.endswith("]"):
        name, colon, port = host.rpartition(":")
        if colon and port.isdigit():
            host = name
    return host, length
