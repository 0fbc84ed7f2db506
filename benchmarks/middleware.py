"""What measuring a request costs the request: Authly's middleware and its peers' around the same application.

``python -m benchmarks.middleware VARIANT DIRECTORY`` is the agent for one of them. It calls the application as a
server would, without a server, so that nothing else is in the figures.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from benchmarks.agent import Agent, NotInstalledError, serve
from benchmarks.application import bare, measured
from benchmarks.scrape import metrics_directory
from benchmarks.timing import NOT_INSTALLED, USUAL, Progress, Row, Spread, alone, compare
from benchmarks.workers import AUTHLY, use

BARE = "bare application"
EMPTY = "BaseHTTPMiddleware that does nothing"
INSTRUMENTATOR = "prometheus-fastapi-instrumentator"
STARLETTE_EXPORTER = "starlette_exporter"
OPENTELEMETRY = "OpenTelemetry (metrics)"


def _add_nothing(app: FastAPI, directory: Path) -> None:
    """Measure nothing."""


def _add_authly(app: FastAPI, directory: Path) -> None:
    use(AUTHLY, directory)
    measured(app)


def _add_empty(app: FastAPI, directory: Path) -> None:
    from starlette.middleware.base import BaseHTTPMiddleware

    class Empty(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    app.add_middleware(Empty)


def _add_instrumentator(app: FastAPI, directory: Path) -> None:
    from prometheus_fastapi_instrumentator import Instrumentator

    Instrumentator().instrument(app)


def _add_starlette_exporter(app: FastAPI, directory: Path) -> None:
    from starlette_exporter import PrometheusMiddleware

    app.add_middleware(PrometheusMiddleware)


def _add_opentelemetry(app: FastAPI, directory: Path) -> None:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider

    FastAPIInstrumentor.instrument_app(app, meter_provider=MeterProvider([PrometheusMetricReader()]))


VARIANTS: dict[str, Callable[[FastAPI, Path], None]] = {
    BARE: _add_nothing,
    AUTHLY: _add_authly,
    EMPTY: _add_empty,
    INSTRUMENTATOR: _add_instrumentator,
    STARLETTE_EXPORTER: _add_starlette_exporter,
    OPENTELEMETRY: _add_opentelemetry,
}
# Those that can keep their metrics where all workers' metrics are added up, and are measured doing so.
_MULTIPROCESS = {INSTRUMENTATOR, STARLETTE_EXPORTER}


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    progress("middleware: Authly and its peers")
    rounds, requests = (5, 100) if quick else (51, 600)
    with ExitStack() as stack:
        agents: dict[str, Agent] = {}
        for name in VARIANTS:
            directory = str(stack.enter_context(metrics_directory()))
            environment = {"PROMETHEUS_MULTIPROC_DIR": directory} if name in _MULTIPROCESS else {}
            try:
                agent = Agent("middleware", name, directory, environment=environment)
            except NotInstalledError:
                continue
            agents[name] = stack.enter_context(closing(agent))
            agent.ask("200")
        times: dict[str, list[float]] = {name: [] for name in agents}
        for _ in range(rounds):
            for name, agent in agents.items():
                times[name].append(agent.ask(str(requests)))
    bare_times = times.pop(BARE)
    above = {
        name: [number - base for number, base in zip(numbers, bare_times, strict=True)]
        for name, numbers in times.items()
    }
    rows = [alone("middleware", "time of a request", USUAL, "µs", (BARE, bare_times))]
    for name in VARIANTS:
        if name in above and name != AUTHLY:
            rows.append(
                compare(
                    "middleware",
                    "time above the bare application",
                    USUAL,
                    "µs",
                    (AUTHLY, above[AUTHLY]),
                    (name, above[name]),
                )
            )
        elif name not in above and name != BARE:
            rows.append(
                Row(
                    "middleware",
                    "time above the bare application",
                    USUAL,
                    "µs",
                    AUTHLY,
                    Spread.of(above[AUTHLY]),
                    name,
                    missing=NOT_INSTALLED,
                )
            )
    return rows


def main(arguments: list[str]) -> None:
    """Answer a number of requests with the microseconds that one of them took."""
    variant, directory = arguments

    def prepare() -> Callable[[str], Any]:
        app = bare()
        VARIANTS[variant](app, Path(directory))
        runner = asyncio.Runner()
        gc.collect()

        def answer(words: str) -> float:
            return runner.run(_time(app, int(words)))

        return answer

    serve(prepare)


async def _time(app: FastAPI, requests: int) -> float:
    statuses = set()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    started = time.process_time()
    for number in range(requests):
        await app(_scope(number), receive, send)
    seconds = time.process_time() - started
    if statuses != {200}:
        raise ValueError(f"the application answered {statuses}")
    return seconds / requests * 1e6


def _scope(number: int) -> dict[str, Any]:
    path = f"/items/{number}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
