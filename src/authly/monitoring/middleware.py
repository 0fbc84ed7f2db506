"""Counts and times requests, as plain ASGI.

Knows the transport alone: methods, route templates, statuses. What becomes of a fact is up to the ``HTTPMetrics`` it
is given.
"""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from authly.monitoring.labels import UNMATCHED
from authly.monitoring.traceparent import CURRENT_TRACE, TRACEPARENT, trace_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# What nginx logs for a request whose client went away before there was a status.
CLIENT_CLOSED_REQUEST = 499


class HTTPMetrics(Protocol):
    """Whom the middleware tells."""

    def request_started(self, method: str, /) -> None:
        """Take note of a request that came in."""

    def response_started(self, method: str, endpoint: str, status: int, /) -> None:
        """Take note of a status that is known; nothing of the response has been sent yet."""

    def request_ended(self, method: str, endpoint: str, seconds: float, /) -> None:
        """Take note of a request that is over, to the last byte of its response.

        The trace that it was part of is still the current one.
        """


class MetricsMiddleware:
    """Tells an ``HTTPMetrics`` of each request.

    A request counts when its status is known and before any of the response is sent: what a client has seen answered
    has been counted, even if the worker is killed at the next instruction.

    Args:
        app: the application.
        metrics: whom to tell.
        clock: what to time with, in seconds.
    """

    def __init__(self, app: ASGIApp, metrics: HTTPMetrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; anything but HTTP goes straight through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        method = scope["method"]
        metrics = self._metrics
        clock = self._clock
        endpoint: str | None = None

        # No coroutine of its own: what it returns is the server's.
        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal endpoint
            if endpoint is None and message["type"] == "http.response.start":
                endpoint = route_template(scope)
                metrics.response_started(method, endpoint, message["status"])
            return send(message)

        # An error on its way to the handler of last resort, or no response at all: the server answers 500.
        status = 500
        started = clock()
        metrics.request_started(method)
        before = None
        for name, _ in scope["headers"]:
            if name == TRACEPARENT:
                # Set back below: a server may answer several requests in one task.
                before = CURRENT_TRACE.set(trace_id(scope["headers"]))
                break
        try:
            await self._app(scope, receive, send_and_note)
        except CancelledError:
            status = CLIENT_CLOSED_REQUEST
            raise
        finally:
            seconds = clock() - started
            if endpoint is None:
                endpoint = route_template(scope)
                metrics.response_started(method, endpoint, status)
            metrics.request_ended(method, endpoint, seconds)
            if before is not None:
                CURRENT_TRACE.reset(before)


def route_template(scope: Scope) -> str:
    """Return the template of the route that a request took, such as ``/users/{id}``, or ``unmatched``.

    Read from what the routers left in the scope, so nothing is matched twice. FastAPI keeps included routers as a
    tree and names the whole template in its own part of the scope; a mounted application names only its own.
    """
    route = scope.get("route")
    fastapi = scope.get("fastapi")
    context = fastapi.get("effective_route_context") if fastapi else None
    if context is not None and (route is None or context.original_route is route):
        path = context.path
    elif route is not None:
        path = route.path
    else:
        path = _path_of_endpoint(scope)
    if "app_root_path" in scope:
        path = _mount_template(scope, path) + path
    return path or UNMATCHED


def _path_of_endpoint(scope: Scope) -> str:
    """Return the path of a plain route, of which FastAPI's router leaves only the endpoint in the scope."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return ""
    for route in getattr(scope.get("router"), "routes", ()):
        if getattr(route, "endpoint", None) is endpoint:
            return str(route.path)
    return ""


def _mount_template(scope: Scope, path: str) -> str:
    """Return the template of the mounts that a request went through.

    The scope holds their concrete path; values that clients choose in it are put back to the names of their
    parameters.
    """
    mounted: str = scope["root_path"][len(scope["app_root_path"]) :]
    parameters = {
        str(value): name
        for name, value in scope.get("path_params", {}).items()
        if f"{{{name}}}" not in path and f"{{{name}:" not in path
    }
    if not parameters:
        return mounted
    return "/".join(f"{{{parameters[part]}}}" if part in parameters else part for part in mounted.split("/"))
