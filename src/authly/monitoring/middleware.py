"""Counts and times requests, as plain ASGI.

Knows the transport alone: methods, route templates, statuses. What becomes of a fact is up to the ``HTTPMetrics`` it
is given.
"""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from authly.monitoring.labels import UNMATCHED
from authly.monitoring.traceparent import trace_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# What nginx logs for a request whose client went away before there was a status.
CLIENT_CLOSED_REQUEST = 499


class HTTPMetrics(Protocol):
    """What the middleware tells; each call happens once for each request, in this order."""

    def request_started(self, method: str) -> None:
        """Note that a request came in."""

    def response_started(self, method: str, endpoint: str, status: int) -> None:
        """Note that the status is known; nothing of the response has been sent yet."""

    def request_ended(self, method: str, endpoint: str, seconds: float, trace_id: str = "") -> None:
        """Note that the request is over, to the last byte of its response; of which trace it was, if of any."""


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

        metrics = self._metrics
        method = scope["method"]
        endpoint = ""

        def respond(status: int) -> None:
            nonlocal endpoint
            endpoint = route_template(scope)
            metrics.response_started(method, endpoint, status)

        async def send_and_note(message: Message) -> None:
            if not endpoint and message["type"] == "http.response.start":
                respond(message["status"])
            await send(message)

        started = self._clock()
        metrics.request_started(method)
        try:
            await self._app(scope, receive, send_and_note)
        except CancelledError:
            if not endpoint:
                respond(CLIENT_CLOSED_REQUEST)
            raise
        finally:
            # An error on its way to the handler of last resort, or no response at all: the server answers 500.
            if not endpoint:
                respond(500)
            metrics.request_ended(method, endpoint, self._clock() - started, trace_id(scope.get("headers", ())))


def route_template(scope: Scope) -> str:
    """Return the template of the route that a request took, such as ``/users/{id}``, or ``unmatched``.

    Read from what the routers left in the scope, so nothing is matched twice. FastAPI keeps included routers as a
    tree and names the whole template in its own part of the scope; a mounted application names only its own.
    """
    route = scope.get("route")
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is not None and (route is None or context.original_route is route):
        path = context.path
    elif route is not None:
        path = route.path
    else:
        path = _path_of_endpoint(scope)
    mounted = _mount_template(scope, path)
    return (mounted + path) or UNMATCHED


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
    """Return the template of the mounts that a request went through, or nothing.

    The scope holds their concrete path; values that clients choose in it are put back to the names of their
    parameters.
    """
    root = scope.get("app_root_path")
    if root is None:
        return ""
    mounted: str = scope["root_path"][len(root) :]
    parameters = {
        str(value): name
        for name, value in scope.get("path_params", {}).items()
        if f"{{{name}}}" not in path and f"{{{name}:" not in path
    }
    if not parameters:
        return mounted
    return "/".join(f"{{{parameters[part]}}}" if part in parameters else part for part in mounted.split("/"))
