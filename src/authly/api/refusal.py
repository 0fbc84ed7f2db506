"""Answers of the middleware, which refuses requests before any route sees them."""

import html
import json
from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import Scope, Send

Headers = Iterable[tuple[bytes, bytes]]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body><main><h1>{title}</h1><p>{description}</p></main></body>
</html>
"""


async def refuse(
    scope: Scope, send: Send, status: int, error: str, description: str, headers: Headers = (), *, close: bool = False
) -> None:
    """Answer a request in the form its client understands.

    The administration interface gets problem details (RFC 9457), a browser a page, everybody else an error in the form
    of RFC 6749, section 5.2.

    Args:
        scope: of the request.
        send: where the answer goes.
        status: the HTTP status.
        error: one word for programs.
        description: a sentence or two for people.
        headers: to send besides.
        close: whether the connection ends, for there is more of the request than anybody will read.
    """
    title = HTTPStatus(status).phrase
    if scope["path"].startswith("/admin/"):
        kind = b"application/problem+json"
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": description}).encode()
    elif _is_browser(scope):
        kind = b"text/html; charset=utf-8"
        body = _PAGE.format(title=html.escape(title), description=html.escape(description)).encode()
    else:
        kind = b"application/json"
        body = json.dumps({"error": error, "error_description": description}).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                *([(b"connection", b"close")] if close else []),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _is_browser(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
