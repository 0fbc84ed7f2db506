"""Where administrators may come from, and a record of what they asked for."""

from collections.abc import Sequence
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authly.api.forwarding import Network, UnknownClientError, client_address, within
from authly.api.refusal import refuse
from authly.core.security_log import SecurityLog
from authly.monitoring.labels import SecurityEvent
from authly.monitoring.recorders import SecurityRecorder

PREFIX = "/admin/"
RESOURCES = frozenset(
    {"clients", "scopes", "users", "sessions", "tokens", "consents", "keys", "audit-log", "statistics"}
)
_ACTIONS = {"GET": "read", "HEAD": "read", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}

_log = structlog.stdlib.get_logger(__name__)


class AdminMetrics(Protocol):
    """What the middleware tells."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Note that a request to the administration interface was answered."""


class AdminMiddleware:
    """Guards everything below ``/admin/``; who may do what there is up to the routes.

    Args:
        app: the application.
        networks: where administrators may come from.
        metrics: is told of each request.
        events: is told of each refusal.
    """

    def __init__(
        self, app: ASGIApp, networks: Sequence[Network], metrics: AdminMetrics, events: SecurityRecorder
    ) -> None:
        self._app = app
        self._networks = tuple(networks)
        self._metrics = metrics
        self._security = SecurityLog(events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; those that are not for administrators go straight through."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        client = (scope.get("client") or ("unix",))[0]
        resource, action = _resource(scope["path"]), _ACTIONS.get(scope["method"], "other")
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            reason = self._objection(scope)
            if not reason:
                await self._app(scope, receive, send_and_note)
            else:
                facts = {"client": client, "resource": resource, "action": action, "reason": reason}
                self._security.note(SecurityEvent.ADMIN_DENIED, **facts)
                description = f"This request to the administration interface is denied: {reason}."
                await refuse(scope, send_and_note, 403, "access_denied", description)
        finally:
            self._metrics.track_admin_request(resource, action, status)
            _log.info("admin_request", client=client, resource=resource, action=action, status=status)

    def _objection(self, scope: Scope) -> str:
        """Return why a request may not go on; empty if it may."""
        try:
            address = client_address(scope)
        except UnknownClientError as error:
            return str(error)
        return "" if within(address, self._networks) else "it comes from outside of AUTHLY_ADMIN_NETWORKS"


def _resource(path: str) -> str:
    """Return what a path is about: what stands behind the version, if it is something that there is."""
    parts = path.split("/")
    return parts[3] if len(parts) > 3 and parts[3] in RESOURCES else "other"
