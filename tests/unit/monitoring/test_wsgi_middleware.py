"""The WSGI middleware: what counts, when, and by which template; against the standard library's checker too."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from flask import Flask, Response, abort, stream_with_context

from authly.monitoring.traceparent import CURRENT_TRACE
from authly.monitoring.wsgi_middleware import WSGIMetricsMiddleware

Call = tuple[Any, ...]


class Recorder:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.traces: list[str] = []

    def request_started(self, method: str) -> None:
        """Note it."""
        self.calls.append(("started", method))

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Note it."""
        self.calls.append(("response", method, endpoint, status))

    def request_ended(self, _method: str, _endpoint: str, seconds: float) -> None:
        """Note it."""
        self.calls.append(("ended", seconds))
        self.traces.append(CURRENT_TRACE.get())


class Server:
    """Serves one application, as far as WSGI asks for it, and notes what it sends."""

    def __init__(self, app: Any) -> None:
        self.metrics = Recorder()
        self.sent = self.metrics.calls
        self.traces = self.metrics.traces
        self._ticks = iter(range(100))
        self._app = WSGIMetricsMiddleware(app, self.metrics, lambda: float(next(self._ticks)))

    def ask(self, path: str = "/", method: str = "GET", *, parts: int = 100, **environ: Any) -> bytes:
        """Answer a request; the client goes away after so many parts."""
        request: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method, **environ}
        setup_testing_defaults(request)
        head: list[Any] = []

        def send(data: bytes) -> None:
            if head:
                self.sent.append(("sent", *head.pop()))
            body.append(data)

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            head[:] = [(status,)]
            return send

        body: list[bytes] = []
        response = self._app(request, start_response)
        try:
            for _, part in zip(range(parts), response, strict=False):
                if part:
                    send(part)
            if head:
                send(b"")
        finally:
            if hasattr(response, "close"):
                response.close()
        return b"".join(body)


def flask() -> Flask:
    """Return an application with routes of several kinds."""
    app = Flask(__name__)

    @app.route("/users/<int:number>", methods=["GET", "POST"])
    def user(number: int) -> str:
        return str(number)

    @app.get("/empty")
    def empty() -> tuple[str, int]:
        return "", 204

    @app.get("/forbidden")
    def forbidden() -> str:
        abort(403)

    @app.get("/stream")
    def stream() -> Response:
        return Response(stream_with_context(str(number) for number in range(3)))

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("on purpose")

    return app


@pytest.mark.parametrize(
    ("path", "method", "endpoint", "status"),
    [
        ("/users/7", "GET", "/users/<int:number>", "200 OK"),
        ("/users/7", "POST", "/users/<int:number>", "200 OK"),
        ("/users/7", "HEAD", "/users/<int:number>", "200 OK"),
        ("/users/7", "OPTIONS", "/users/<int:number>", "200 OK"),
        ("/users/x", "GET", "unmatched", "404 NOT FOUND"),
        ("/users/7", "DELETE", "unmatched", "405 METHOD NOT ALLOWED"),
        ("/empty", "GET", "/empty", "204 NO CONTENT"),
        ("/forbidden", "GET", "/forbidden", "403 FORBIDDEN"),
        ("/stream", "GET", "/stream", "200 OK"),
        ("/broken", "GET", "/broken", "500 INTERNAL SERVER ERROR"),
    ],
)
def test_flask_s_requests_count_by_their_rule_before_they_are_answered(
    path: str, method: str, endpoint: str, status: str
) -> None:
    """A request counts once, by the rule that it matched, before any of the response is sent."""
    server = Server(flask())
    server.ask(path, method)
    assert server.sent == [
        ("started", method),
        ("response", method, endpoint, int(status[:3])),
        ("sent", status),
        ("ended", 1.0),
    ]


def plain(*, fails: str = "") -> Any:
    """Return an application that knows no rules, and fails where it is told."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        if fails == "at once":
            raise RuntimeError("on purpose")
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if fails == "after writing":
            write(b"begun")
            raise RuntimeError("on purpose")
        return parts()

    def parts() -> Iterator[bytes]:
        yield b""
        if fails == "before a part":
            raise RuntimeError("on purpose")
        yield b"one"
        if fails == "after a part":
            raise RuntimeError("on purpose")
        yield b"two"

    return app


@pytest.mark.parametrize(
    ("fails", "status"),
    [("at once", 500), ("after writing", 200), ("before a part", 500), ("after a part", 200)],
)
def test_an_error_is_a_500_unless_the_response_has_begun(fails: str, status: int) -> None:
    """An application's exception passes through; the request counts once, by what the client gets to see."""
    server = Server(plain(fails=fails))
    with pytest.raises(RuntimeError, match="on purpose"):
        server.ask()
    assert [call for call in server.sent if call[0] == "response"] == [("response", "GET", "unmatched", status)]
    assert [call[0] for call in server.sent].count("ended") == 1


def test_a_client_that_goes_away_ends_its_request() -> None:
    """A response that is not read to its end is over when the server closes it."""
    server = Server(plain())
    assert server.ask(parts=2) == b"one"
    assert [call[0] for call in server.sent] == ["started", "response", "sent", "ended"]


def test_a_status_that_is_replaced_does_not_count() -> None:
    """An application may change its mind until something is sent (PEP 3333, exc_info)."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        start_response("503 Service Unavailable", [], (RuntimeError, RuntimeError(), None))
        return [b"sorry"]

    server = Server(app)
    server.ask()
    assert ("response", "GET", "unmatched", 503) in server.sent
    assert len(server.sent) == 4


def test_a_file_that_the_server_sends_is_passed_on_as_it_is(tmp_path: Any) -> None:
    """The server recognises its own file wrapper, and may send the file without reading it."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](path.open("rb"))
        return body

    metrics = Recorder()
    request: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(request)
    body = WSGIMetricsMiddleware(app, metrics)(request, lambda *_: lambda _: None)
    assert isinstance(body, FileWrapper)
    body.close()
    assert [call[0] for call in metrics.calls] == ["started", "response", "ended"]


def test_a_trace_is_handed_on() -> None:
    """The trace id of a valid `traceparent` comes with the duration; two of them, joined by the server, are none."""
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    server = Server(plain())
    server.ask(HTTP_TRACEPARENT=header)
    server.ask(HTTP_TRACEPARENT=f"{header},{header}")
    server.ask()
    assert server.traces == ["0af7651916cd43dd8448eb211c80319c", "", ""]


def test_wsgi_is_kept_on_both_sides() -> None:
    """The checker of the standard library, in front of the middleware and behind it, has nothing to say."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"one", b"two"]

    checked = validator(WSGIMetricsMiddleware(validator(app), Recorder()))
    request: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(request)
    body = checked(request, lambda *_: lambda _: None)
    try:
        assert list(body) == [b"one", b"two"]
    finally:
        body.close()  # type: ignore[attr-defined]
