"""What a token costs that a service gets for itself, and what it costs to ask whether a token is good."""

import http.client
import itertools
import json
import statistics
import time
from base64 import b64encode
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from benchmarks.agent import AgentError
from benchmarks.instance import Instance, administer, authly
from benchmarks.timing import USUAL, Progress, Row, compare

_TOKEN, _INTROSPECT = "/oauth2/token", "/oauth2/introspect"
# Limits that count each request, and refuse none.
_SETTINGS = {"AUTHLY_RATE_LIMIT_TOKEN": "1000/second", "AUTHLY_RATE_LIMIT_INTROSPECT": "1000/second"}
_PATIENCE = 10.0


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    rounds, requests = (2, 100) if quick else (7, 500)
    progress("tokens: Gunicorn with 2 workers, and PostgreSQL")
    served: dict[str, list[float]] = {_TOKEN: [], _INTROSPECT: []}
    seen: dict[str, list[float]] = {_TOKEN: [], _INTROSPECT: []}
    with authly(**_SETTINGS) as instance, _Service(instance) as service:
        bodies = {_TOKEN: {"grant_type": "client_credentials"}}
        bodies[_INTROSPECT] = {"token": service.ask(_TOKEN, bodies[_TOKEN])["access_token"]}
        for number in range(rounds + 1):
            for path, body in bodies.items():
                took = service.ask_often(path, body, requests)
                # The first round is for connections, caches and keys.
                if number:
                    seen[path].append(statistics.median(took) * 1e3)
                    served[path].append(statistics.median(_durations(instance.log, path)[-requests:]))
    return [
        compare("tokens", case, USUAL, "ms", ("time in the server", served[path]), ("time for the client", seen[path]))
        for case, path in [("client_credentials", _TOKEN), ("introspect", _INTROSPECT)]
    ]


class _Service:
    """A client that acts for itself, and asks one thing after the other over two connections in turn.

    Args:
        instance: whom it asks.
    """

    def __init__(self, instance: Instance) -> None:
        self._connections: list[http.client.HTTPConnection] = []
        self._instance = instance
        self._stack = ExitStack()
        administer(instance, "scopes", "create", "read", "Read")
        named = ("--name", "Service", "--type", "confidential", "--scope", "read")
        registered = administer(instance, "clients", "create", *named)
        credentials = f"{registered['client_id']}:{registered['client_secret']}"
        self._headers = {
            "authorization": f"Basic {b64encode(credentials.encode()).decode()}",
            "content-type": "application/x-www-form-urlencoded",
        }

    def __enter__(self) -> Self:
        host, _, port = self._instance.address.rpartition(":")
        self._connections = [
            self._stack.enter_context(closing(http.client.HTTPConnection(host, int(port), timeout=_PATIENCE)))
            for _ in range(2)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, path: str, body: dict[str, str], connection: int = 0) -> Any:
        """Send a form, and return the answer."""
        self._connections[connection].request("POST", path, urlencode(body), self._headers)
        response = self._connections[connection].getresponse()
        answer = json.loads(response.read())
        if response.status != 200 or answer.get("active") is False:
            raise AgentError(f"{path} answered {response.status}: {answer}")
        return answer

    def ask_often(self, path: str, body: dict[str, str], times: int) -> list[float]:
        """Send a form so many times; return what each took, in seconds."""
        taken = []
        for _, connection in zip(range(times), itertools.cycle((0, 1)), strict=False):
            started = time.perf_counter()
            self.ask(path, body, connection)
            taken.append(time.perf_counter() - started)
        return taken


def _durations(log: Path, path: str) -> list[float]:
    """Return how long each request of a path took in the server, in milliseconds, as its own log says."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if f'"path": "{path}"' in line)
    return [float(line["duration_ms"]) for line in lines if line["event"] == "request"]
