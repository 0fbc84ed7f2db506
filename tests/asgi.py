"""Requests to an ASGI application, without a server between."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authly.api.forwarding import ForwardingMiddleware, Network

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What an application answered."""

    status: int
    headers: Headers
    body: bytes


async def ask(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    headers: Headers | Iterable[tuple[str, str]] = (),
    body: Iterable[bytes] = (),
    client: str | None = "192.0.2.1",
    scheme: str = "http",
) -> Answer:
    """Ask an application.

    Args:
        app: whom.
        method: of the request.
        path: of the request.
        headers: of the request.
        body: in pieces as they arrive.
        client: the address of the peer; None on a Unix socket.
        scheme: http or https.
    """
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": (client, 1234) if client is not None else None,
        "scheme": scheme,
    }
    pieces = list(body)
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, sent
    assert sent[0] is starts[0]
    return Answer(
        starts[0]["status"],
        {name.decode(): value.decode("latin-1") for name, value in starts[0]["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


class Echo:
    """An application that reads the body and says what it saw.

    Args:
        headers: of its answers.
    """

    def __init__(self, headers: Headers | None = None) -> None:
        self.headers = headers or {}
        self.scopes: list[Scope] = []
        self.read = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        self.scopes.append(scope)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has gone")
            self.read += len(message["body"])
            more = message["more_body"]
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})


async def seen_from(peer: str | None, headers: Iterable[tuple[str, str]], proxies: Sequence[Network] = ()) -> Scope:
    """Return a request as it is behind the middleware that finds out who asks."""
    app = Echo()
    await ask(ForwardingMiddleware(app, proxies), headers=headers, client=peer)
    return app.scopes[0]
