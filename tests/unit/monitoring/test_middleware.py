"""The middleware tells of each request once: method, route template, status, duration."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import METHODS
from authly.monitoring.middleware import MetricsMiddleware
from authly.monitoring.request_metrics import RequestMetrics
from authly.monitoring.traceparent import CURRENT_TRACE
from tests.vocabulary import observe, series_of

pytestmark = pytest.mark.anyio


class Recorder:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.responses: list[tuple[str, str, int]] = []
        self.ended: list[tuple[str, str, float]] = []
        self.traces: list[str] = []

    def request_started(self, method: str) -> None:
        """Write it down."""
        self.started.append(method)

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Write it down."""
        self.responses.append((method, endpoint, status))

    def request_ended(self, method: str, endpoint: str, seconds: float) -> None:
        """Write it down."""
        self.ended.append((method, endpoint, seconds))
        self.traces.append(CURRENT_TRACE.get())


def application(folder: Path) -> FastAPI:
    """Return an application with routes of every kind."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False})

    inner = APIRouter(prefix="/inner/{a}")

    @inner.get("/leaf/{b}")
    async def leaf(a: str, b: str) -> str:
        return a + b

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner, prefix="/deep")
    app.include_router(outer, prefix="/api")

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    @app.get("/files/{path:path}")
    async def files(path: str) -> str:
        return path

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    @app.get("/streamed")
    async def streamed() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"data: x\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.get("/broken-stream")
    async def broken_stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun"
            raise RuntimeError("broken")

        return StreamingResponse(chunks())

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.websocket("/socket")
    async def websocket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    async def hello(_: Request) -> Response:
        return PlainTextResponse("hello")

    nested = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False})
    nested.include_router(inner, prefix="/v2")
    app.mount("/fast", nested)
    app.mount("/star", Starlette(routes=[Route("/hello/{n}", hello), Mount("/more", routes=[Route("/x", hello)])]))
    app.mount("/tenants/{tenant}", Starlette(routes=[Route("/users/{user}", hello)]))
    app.mount("/static", StaticFiles(directory=folder))
    return app


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def recorder() -> Recorder:
    """Return what the middleware tells."""
    return Recorder()


@pytest.fixture
def client(recorder: Recorder, tmp_path: Path) -> httpx.AsyncClient:
    """Return a client of the application behind the middleware."""
    (tmp_path / "file.txt").write_text("x")
    app = application(tmp_path)
    app.add_middleware(MetricsMiddleware, metrics=recorder)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("GET", "/plain", "/plain", 200),
        ("GET", "/plain?secret=1", "/plain", 200),
        ("GET", "/api/outer/deep/inner/1/leaf/2", "/api/outer/deep/inner/{a}/leaf/{b}", 200),
        ("POST", "/api/outer/deep/inner/1/leaf/2", "/api/outer/deep/inner/{a}/leaf/{b}", 405),
        ("HEAD", "/plain", "/plain", 405),
        ("GET", "/files/a/b/c", "/files/{path:path}", 200),
        ("GET", "/nowhere/at/all", "unmatched", 404),
        ("BREW", "/plain", "/plain", 405),
        ("GET", "/plain/", "unmatched", 307),
        ("GET", "/broken", "/broken", 500),
        ("GET", "/streamed", "/streamed", 200),
        ("GET", "/broken-stream", "/broken-stream", 200),
        ("GET", "/openapi.json", "/openapi.json", 200),
        ("HEAD", "/openapi.json", "/openapi.json", 200),
        ("GET", "/fast/v2/inner/1/leaf/2", "/fast/v2/inner/{a}/leaf/{b}", 200),
        ("GET", "/star/hello/3", "/star/hello/{n}", 200),
        ("POST", "/star/hello/3", "/star/hello/{n}", 405),
        ("GET", "/star/more/x", "/star/more/x", 200),
        ("GET", "/star/nowhere", "/star", 404),
        ("GET", "/tenants/acme/users/7", "/tenants/{tenant}/users/{user}", 200),
        ("GET", "/tenants/acme/nowhere", "/tenants/{tenant}", 404),
        ("GET", "/static/file.txt", "/static", 200),
        ("GET", "/static/nothing.txt", "/static", 404),
    ],
)
async def test_a_request_is_told_by_its_route_template(
    client: httpx.AsyncClient, recorder: Recorder, method: str, path: str, endpoint: str, status: int
) -> None:
    """Each kind of route, and each way of missing one, has a template that holds nothing a client chose."""
    await client.request(method, path)
    assert recorder.started == [method]
    assert recorder.responses == [(method, endpoint, status)]
    assert [(method_, endpoint_) for method_, endpoint_, _ in recorder.ended] == [(method, endpoint)]


async def test_the_proxy_prefix_is_not_part_of_the_template(recorder: Recorder, tmp_path: Path) -> None:
    """An application behind a proxy that strips a prefix has the same templates as one without."""
    app = application(tmp_path)
    app.add_middleware(MetricsMiddleware, metrics=recorder)
    transport = httpx.ASGITransport(app, root_path="/behind/proxy")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get("/behind/proxy/plain")
        await client.get("/behind/proxy/star/hello/3")
    assert [endpoint for _, endpoint, _ in recorder.responses] == ["/plain", "/star/hello/{n}"]


async def call(app: Any, **scope: Any) -> list[Any]:
    """Call an ASGI application and return what it sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send)
    return sent


@pytest.mark.produces(
    "authly_http_requests_in_progress",
    method=("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "other"),
)
@pytest.mark.produces("authly_http_requests_total", method=("CONNECT",))
@pytest.mark.produces("authly_http_request_duration_seconds", method=("CONNECT",))
async def test_each_method_has_its_requests(registry: CollectorRegistry) -> None:
    """A request is in progress under its method while the application answers, and counted under it then."""
    answering: list[float | None] = []

    async def app(scope: Any, _: Any, send: Any) -> None:
        labels = {"method": scope["method"] if scope["method"] in METHODS else "other"}
        answering.append(registry.get_sample_value("authly_http_requests_in_progress", labels))
        observe(series_of(registry.collect()))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = MetricsMiddleware(app, RequestMetrics(Instruments("authly", registry)))
    for method in (*sorted(METHODS), "BREW"):
        await call(middleware, method=method)
    assert answering == [1.0] * (len(METHODS) + 1)
    progress = [
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "authly_http_requests_in_progress"
    ]
    assert progress == [0.0] * (len(METHODS) + 1)


async def test_a_cancelled_request_counts_as_closed_by_the_client(recorder: Recorder, tmp_path: Path) -> None:
    """A request that is cancelled before there was a status counts once, as 499, and is over."""
    middleware = MetricsMiddleware(application(tmp_path), recorder)
    task = asyncio.create_task(call(middleware, path="/slow", query_string=b"", root_path="", http_version="1.1"))
    while not recorder.started:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.responses == [("GET", "/slow", 499)]
    assert len(recorder.ended) == 1


async def test_a_request_counts_before_its_response_is_sent(recorder: Recorder) -> None:
    """When the first byte of a response leaves, its request has been counted."""
    counted: list[int] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(_: Any) -> None:
        counted.append(len(recorder.responses))

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    await MetricsMiddleware(app, recorder)({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    assert counted == [1, 1]


async def test_no_response_at_all_counts_as_a_failure(recorder: Recorder) -> None:
    """An application that returns without a response leaves the server to answer 500, and 500 is counted."""

    async def app(_: Any, __: Any, ___: Any) -> None:
        return

    await call(MetricsMiddleware(app, recorder))
    assert recorder.responses == [("GET", "unmatched", 500)]


async def test_the_duration_ends_with_the_last_byte(recorder: Recorder) -> None:
    """The time of a streamed response is that of all of it."""
    now = [0.0]

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _chunk in range(3):
            now[0] += 1.0
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    await call(MetricsMiddleware(app, recorder, clock=lambda: now[0]))
    assert recorder.ended == [("GET", "unmatched", 3.0)]


async def test_the_trace_of_a_request_is_told(recorder: Recorder) -> None:
    """A request with a valid traceparent has its trace id while it runs and when it ends, any other has none."""
    current: list[str] = []
    trace = "0af7651916cd43dd8448eb211c80319c"

    async def app(_: Any, __: Any, send: Any) -> None:
        current.append(CURRENT_TRACE.get())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = MetricsMiddleware(app, recorder)
    await call(middleware, headers=[(b"host", b"x"), (b"traceparent", f"00-{trace}-b7ad6b7169203331-01".encode())])
    await call(middleware, headers=[(b"traceparent", b"00-of-no-use")])
    await call(middleware)
    assert recorder.traces == [trace, "", ""]
    # All in one task, as some servers answer the requests of a connection.
    assert current == [trace, "", ""]
    assert CURRENT_TRACE.get() == ""


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_protocols_go_straight_through(recorder: Recorder, kind: str) -> None:
    """WebSockets and the lifespan are neither counted nor touched: the application gets the very same objects."""
    got: list[Any] = []

    async def app(*arguments: Any) -> None:
        got.extend(arguments)

    async def receive() -> dict[str, Any]:
        return {}

    async def send(_: Any) -> None:
        return

    scope = {"type": kind}
    await MetricsMiddleware(app, recorder)(scope, receive, send)
    assert got == [scope, receive, send]
    assert not any((recorder.started, recorder.responses, recorder.ended))
