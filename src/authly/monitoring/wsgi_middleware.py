"""Counts and times requests, as plain WSGI (PEP 3333): what ``middleware`` is for ASGI.

Knows the transport, and where Flask and others on Werkzeug leave the template of a route.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from authly.monitoring.labels import UNMATCHED
from authly.monitoring.middleware import HTTPMetrics
from authly.monitoring.traceparent import CURRENT_TRACE, TRACEPARENT, trace_id

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class WSGIMetricsMiddleware:
    """Tells an ``HTTPMetrics`` of each request.

    A request counts when its status is settled and before any of the response is sent; it is over when the server
    closes the response. A file that the server itself sends (``wsgi.file_wrapper``) is passed on as it is, and is over
    when that begins.

    Args:
        app: the application.
        metrics: whom to tell.
        clock: what to time with, in seconds.
    """

    def __init__(self, app: WSGIApp, metrics: HTTPMetrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on."""
        request = _Request(environ, self._metrics, self._clock)
        try:
            body = self._app(environ, request.starting(start_response))
        except BaseException:
            request.end(failed=True)
            raise
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
            request.end()
            return body
        return _Body(body, request)


class _Request:
    """One request, from its arrival to its end."""

    def __init__(self, environ: Environ, metrics: HTTPMetrics, clock: Callable[[], float]) -> None:
        self._environ = environ
        self._metrics = metrics
        self._clock = clock
        self._method = str(environ.get("REQUEST_METHOD", ""))
        self._status = 0
        self._endpoint = UNMATCHED
        self._has_responded = self._has_ended = False
        self._started = clock()
        metrics.request_started(self._method)

    def starting(self, start_response: StartResponse) -> StartResponse:
        """Return what the application calls with its status; with another one, should it fail after all."""

        def start(status: str, *arguments: Any, **keywords: Any) -> Callable[[bytes], object]:
            self._status = int(status[:3])
            # Now: when the body is sent, Flask has let go of its request.
            self._endpoint = route_template(self._environ)
            write = start_response(status, *arguments, **keywords)

            def write_and_note(data: bytes) -> object:
                self.respond()
                return write(data)

            return write_and_note

        return start

    def respond(self, *, failed: bool = False) -> None:
        """Tell, once, with which status the response begins."""
        if not self._has_responded:
            self._has_responded = True
            # An error on its way to the server, or no status at all: the server answers 500.
            status = 500 if failed or not self._status else self._status
            self._metrics.response_started(self._method, self._endpoint, status)

    def end(self, *, failed: bool = False) -> None:
        """Tell, once, that the request is over."""
        if self._has_ended:
            return
        self._has_ended = True
        self.respond(failed=failed)
        seconds = self._clock() - self._started
        parent = self._environ.get("HTTP_TRACEPARENT")
        if not parent:
            self._metrics.request_ended(self._method, self._endpoint, seconds)
            return
        before = CURRENT_TRACE.set(trace_id([(TRACEPARENT, str(parent).encode("latin-1", "replace"))]))
        try:
            self._metrics.request_ended(self._method, self._endpoint, seconds)
        finally:
            CURRENT_TRACE.reset(before)


class _Body:
    """The body of a response, which the server iterates over and then closes."""

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts of the body."""
        try:
            for part in self._body:
                # An empty part sends nothing, not even the status, which may still change.
                if part:
                    self._request.respond()
                yield part
            # Without a body the status goes out alone, once the server has seen that there is no more.
            self._request.respond()
        except GeneratorExit:
            raise
        except BaseException:
            self._request.end(failed=True)
            raise

    def close(self) -> None:
        """Close the body; the request is over."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.end()


def route_template(environ: Environ) -> str:
    """Return the template of the route that a request took, such as ``/users/<int:id>``, or ``unmatched``.

    Werkzeug leaves its request in the environment, and Flask the rule in that. A prefix under which the application
    is mounted is part of no rule; it is configuration, and no client chooses it.
    """
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return str(rule.rule) if rule is not None else UNMATCHED
