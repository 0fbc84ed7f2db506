"""Requests of somebody who tries to fill an instance's metrics, or to be remembered in them.

Run as a program, it puts an application together as a worker does, with its environment's settings, and asks it without
a server between.
"""

import asyncio
import json
import random
import re
import sys
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI

from tests.instance import REPOSITORY

CANARY = "canary"
# How many series workers have at most, whatever is asked of them: what docs/exporter.md says.
BOUND = 25_000
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
FORM = "application/x-www-form-urlencoded"
PARAMETERS = (
    "grant_type", "client_id", "client_secret", "code", "code_verifier", "refresh_token", "redirect_uri", "scope",
    "resource", "token", "username", "password", "response_type", "state", "nonce", "prompt", "claims", "id_token_hint",
    "client_assertion", "client_assertion_type", "request_uri", "response_mode", "csrf_token", "access_token",
)  # fmt: skip
GRANTS = ("authorization_code", "refresh_token", "client_credentials")


class Attacker:
    """Makes requests up, the same ones each time.

    Args:
        strangers: the share of requests for hosts that are not the instance's, which get no further than that.
    """

    def __init__(self, strangers: float = 0.9) -> None:
        self._random = random.Random(7)
        self._strangers = strangers
        self._paths = paths()
        self._number = 0

    def word(self) -> str:
        """Return a text that nobody has seen before."""
        self._number += 1
        return f"{CANARY}{self._number:x}{self._random.choice(('', '-x', '%22%0a', '{}', 'é'))}"

    def form(self) -> dict[str, str]:
        """Return some parameters, some of which may be right."""
        chosen = self._random.sample(PARAMETERS, self._random.randint(1, 8))
        form = {name: self.word() for name in chosen}
        if self._random.random() < 0.5:
            form["grant_type"] = self._random.choice(GRANTS)
        return form

    def path(self) -> str:
        """Return a path that is there, or one that is not."""
        if self._random.random() < 0.5:
            return f"/{self.word()}/{self.word()}"
        parts = self._random.choice(self._paths).split("/")
        return "/".join(self.word() if part.startswith("{") else part for part in parts)

    def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Return method, path with query, headers and body."""
        method = self._random.choice(METHODS) if self._random.random() < 0.9 else f"{CANARY.upper()}{self._number:X}"
        path = self.path()
        headers = {
            "user-agent": self.word(),
            "x-request-id": self.word(),
            "cookie": f"__Host-authly_csrf={self.word()}",
        }
        extra = self._random.random()
        if extra < 0.1:
            headers["authorization"] = f"Bearer {self.word()}"
        elif extra < 0.2:
            headers["origin"] = f"https://{self.word()}.example"
        elif extra < 0.4:
            headers["traceparent"] = f"00-{self.word()}-{self.word()}-01"
        elif extra < 0.5:
            headers["x-forwarded-for"] = self.word()
        if self._random.random() < self._strangers:
            headers["host"] = f"{self.word()}.example"
        body = b""
        if method == "POST":
            headers["content-type"] = FORM if self._random.random() < 0.9 else self.word()
            body = urlencode(self.form()).encode()
        elif self._random.random() < 0.3:
            path += "?" + urlencode(self.form())
        return method, path, headers, body


def scope_of(method: str, path: str, headers: dict[str, str], own_host: str) -> dict[str, Any]:
    """Return a request as a server hands it to an application."""
    plain, _, query = path.partition("?")
    headers = {"host": own_host, **headers}
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": method, "path": plain, "raw_path": plain.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1234), "server": ("127.0.0.1", 80),
    }  # fmt: skip


async def ask(app: FastAPI, scope: dict[str, Any], body: bytes) -> int:
    """Ask an application, and return the status."""
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    return status


def paths() -> list[str]:
    """Return what there is to ask for: the documentation has all of it."""
    page = (REPOSITORY / "docs/endpoints.md").read_text()
    return sorted(set(re.findall(r"`?(?:GET|POST|PUT|PATCH|DELETE) (/[^`?\s|]*)", page)))


async def attack(number: int) -> None:
    """Put an application together and ask it so often; print how often it answered with which status."""
    from authly.app import create_app

    app = create_app()
    attacker = Attacker()
    statuses: dict[int, int] = {}
    async with app.router.lifespan_context(app):
        # Each method at each route: the most series that requests can make.
        asked: list[tuple[str, str, dict[str, str], bytes]] = [
            (method, path, {}, b"") for path in paths() for method in (*METHODS, CANARY.upper())
        ]
        for index in range(number):
            method, path, headers, body = asked[index] if index < len(asked) else attacker.request()
            status = await ask(app, scope_of(method, path, headers, "127.0.0.1"), body)
            statuses[status] = statuses.get(status, 0) + 1
    print(json.dumps(statuses))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(attack(int(sys.argv[1])))
