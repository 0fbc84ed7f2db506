"""What all metrics together cost a request: the whole application with them and without, asked in turn.

``python -m benchmarks.overhead`` is the agent: it has both applications in one process, on the database and with the
settings of its environment, and calls them as a server would. Two processes differ by more than what is looked for.
"""

import asyncio
import gc
import itertools
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, MutableMapping
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import FastAPI

from benchmarks.agent import Agent, serve
from benchmarks.instance import Instance, administer, authly
from benchmarks.scrape import metrics_directory
from benchmarks.timing import USUAL, Progress, Row, alone, compare

if TYPE_CHECKING:
    from authly.monitoring.metrics import Metrics

ON, OFF = "with all metrics", "without metrics"
LIVE, TOKEN = "GET /health/live", "POST /oauth2/token"
CALLS = "all that a token request records, in a loop"
# As long as a token request takes, and nothing but counting: what is slow then is what others have done to the caches.
APART = "all that a token request records, 4 ms after the last time"
_APART_SECONDS = 0.004
_BODIES = {LIVE: b"", TOKEN: b"grant_type=client_credentials"}
# Limits that count each request, and refuse none.
_SETTINGS = {"AUTHLY_RATE_LIMIT_TOKEN": "1000/second", "AUTHLY_LOG_LEVEL": "warning"}


class Cost(NamedTuple):
    """What a request of one side took, in microseconds: the median of some.

    Args:
        duration: to the last byte of its answer.
        processor: of the thread that answers.
    """

    duration: float
    processor: float


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    rounds, requests = (2, 50) if quick else (21, 300)
    progress("overhead: the whole application with metrics and without, on one PostgreSQL")
    rows = []
    with authly(**_SETTINGS) as instance, metrics_directory() as directory:
        environment = {
            **instance.environment,
            "AUTHLY_DATABASE_URL": _database_url(instance),
            "PROMETHEUS_MULTIPROC_DIR": str(directory),
        }
        with closing(Agent("overhead", _credentials(instance), environment=environment)) as agent:
            for request in (LIVE, TOKEN):
                # The first round is for connections, caches and keys.
                answers = [agent.ask(f"{requests} {request}") for _ in range(rounds + 1)][1:]
                costs = {name: [Cost(*answer[name]) for answer in answers] for name in (ON, OFF)}
                rows += _rows(f"{request}, time", [[cost.duration for cost in costs[name]] for name in (ON, OFF)])
                rows += _rows(f"{request}, processor", [[cost.processor for cost in costs[name]] for name in (ON, OFF)])
            for calls, times in ((CALLS, requests * 10), (APART, requests // 5)):
                answers = [agent.ask(f"{times} {calls}") for _ in range(rounds)]
                recorded, ignored = ([answer[name] for answer in answers] for name in (ON, OFF))
                rows.append(compare("overhead", calls, USUAL, "µs", (OFF, ignored), (ON, recorded)))
    return rows


def _rows(case: str, numbers: list[list[float]]) -> list[Row]:
    on, off = numbers
    added = [one - other for one, other in zip(on, off, strict=True)]
    return [
        compare("overhead", case, USUAL, "µs", (ON, on), (OFF, off)),
        alone("overhead", f"{case} added", USUAL, "µs", (ON, added)),
    ]


def _database_url(instance: Instance) -> str:
    command = [sys.executable, "-m", "authly.cli", "db", "url"]
    return subprocess.check_output(command, env=instance.environment, text=True).strip()


def _credentials(instance: Instance) -> str:
    """Register a client that acts for itself; return its header of HTTP Basic."""
    administer(instance, "scopes", "create", "read", "Read")
    named = ("--name", "Service", "--type", "confidential", "--scope", "read")
    client = administer(instance, "clients", "create", *named)
    credentials = f"{client['client_id']}:{client['client_secret']}"
    return f"Basic {b64encode(credentials.encode()).decode()}"


def main(arguments: list[str]) -> None:
    """Answer a number of requests, and which, with what one of them took on each side."""
    (credentials,) = arguments

    def prepare() -> Callable[[str], Any]:
        from prometheus_client import CollectorRegistry

        from authly.app import create_app
        from authly.monitoring.instruments import Instruments
        from authly.monitoring.metrics import compose, no_metrics
        from authly.settings import Settings

        stack, runner = AsyncExitStack(), asyncio.Runner()
        sides = {ON: create_app(Settings()), OFF: create_app(Settings(metrics_enabled=False))}

        async def start() -> None:
            for app in sides.values():
                await stack.enter_async_context(app.router.lifespan_context(app))

        runner.run(start())

        recorders = {ON: compose(instruments=Instruments("authly", CollectorRegistry())), OFF: no_metrics()}

        def answer(words: str) -> dict[str, Cost] | dict[str, float]:
            number, _, request = words.partition(" ")
            if request in (CALLS, APART):
                apart = _APART_SECONDS if request == APART else 0.0
                return {name: _record(metrics, int(number), apart) for name, metrics in recorders.items()}
            return runner.run(_measure(sides, request, credentials, int(number)))

        return answer

    serve(prepare)


def _record(metrics: "Metrics", times: int, apart: float) -> float:
    """Return the microseconds that it takes to record a token request, of so many: all calls but the middleware's.

    Args:
        metrics: records.
        times: how many requests.
        apart: seconds between them.
    """
    from authly.monitoring.labels import ClientEndpoint

    oauth, database = metrics.oauth, metrics.database
    used = 0.0
    for _ in range(times):
        due = time.perf_counter() + apart
        while time.perf_counter() < due:
            pass
        started = time.thread_time()
        metrics.rate_limit.track_rate_limit_check("postgresql", 0.001)
        metrics.cache.track_cache_operation("clients", "get", "hit")
        oauth.client_authentication_ended("client_secret_basic", "success", ClientEndpoint.TOKEN, "client")
        oauth.token_generated("access_token", 0.001)
        database.query_ended("rate_limits.hit", "success", 0.001)
        database.query_ended("tokens.add_access_token", "success", 0.001)
        oauth.token_issued("access_token", "client_credentials")
        oauth.token_request_ended("client_credentials", "success", "client")
        used += time.thread_time() - started
    return used / times * 1e6


async def _measure(sides: dict[str, FastAPI], request: str, credentials: str, requests: int) -> dict[str, Cost]:
    """Ask both sides so many times, by turns, of which each begins every second one."""
    taken: dict[str, list[Cost]] = {name: [] for name in sides}
    gc.collect()
    for _, order in zip(range(requests), itertools.cycle([(ON, OFF), (OFF, ON)]), strict=False):
        for name in order:
            taken[name].append(await _ask(sides[name], request, credentials))
    return {
        name: Cost(*(statistics.median(numbers) for numbers in zip(*costs, strict=True)))
        for name, costs in taken.items()
    }


async def _ask(app: FastAPI, request: str, credentials: str) -> Cost:
    method, _, path = request.partition(" ")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"authorization", credentials.encode()),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-length", str(len(_BODIES[request])).encode()),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    statuses = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": _BODIES[request], "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    started, used = time.perf_counter(), time.thread_time()
    await app(scope, receive, send)
    cost = Cost((time.perf_counter() - started) * 1e6, (time.thread_time() - used) * 1e6)
    if statuses != [200]:
        raise ValueError(f"{request} was answered {statuses}")
    return cost


if __name__ == "__main__":
    main(sys.argv[1:])
