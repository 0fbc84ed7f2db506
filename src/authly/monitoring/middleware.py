"""Counts and times requests, as plain ASGI.

Knows the transport alone: methods, route templates, statuses. What becomes of a fact is up to the ``HTTPMetrics`` it
is given.
"""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
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


class Exchange(Protocol):
    """What is told of requests of one method that one endpoint answered with one status."""

    @property
    def response_started(self) -> Callable[[], None]:
        """What to call when the status is known; nothing of the response has been sent yet."""

    @property
    def request_ended(self) -> Callable[[float], None]:
        """What to call with a request's seconds when it is over, to the last byte of its response.

        The trace that the request was part of is still the current one.
        """


class HTTPMetrics(Protocol):
    """What the middleware tells: what it finds here, it calls.

    Mappings, because a call that only looks something up would cost a request as much as what it finds. They have
    something for every key.
    """

    @property
    def arrivals(self) -> Mapping[str, Callable[[], None]]:
        """For each method what to call when a request comes in."""

    @property
    def exchanges(self) -> Mapping[tuple[str, str, int], Exchange]:
        """For each method, endpoint and status what takes note of the rest."""


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
        self._arrivals = metrics.arrivals
        self._exchanges = metrics.exchanges
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; anything but HTTP goes straight through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        method = scope["method"]
        exchanges = self._exchanges
        clock = self._clock
        exchange: Exchange | None = None

        # No coroutine of its own: what it returns is the server's.
        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal exchange
            if exchange is None and message["type"] == "http.response.start":
                exchange = exchanges[method, route_template(scope), message["status"]]
                exchange.response_started()
            return send(message)

        # An error on its way to the handler of last resort, or no response at all: the server answers 500.
        status = 500
        started = clock()
        self._arrivals[method]()
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
            if exchange is None:
                exchange = exchanges[method, route_template(scope), status]
                exchange.response_started()
            exchange.request_ended(seconds)
            if before is not None:
                CURRENT_TRACE.reset(before)


def route_template(scope: Scope) -> str:
    """Return the template of the route that a request took, such as ``/users/{id}``, or ``unmatched``.

    Read from what the routers left in the scope, so nothing is matched twice. FastAPI keeps included routers as a
    tree and names the whole template in its own part of the scope; a mounted application names only its own.
    """
    # What most applications leave, and nothing else to look at.
    if "route" in scope and "fastapi" not in scope and "app_root_path" not in scope:
        path = scope["route"].path
    else:
        path = _template_from_tree(scope)
    return path or UNMATCHED


def _template_from_tree(scope: Scope) -> str:
    """Return the template of a route of an included router, of a mounted application, or of no router's."""
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
    return str(path)


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
