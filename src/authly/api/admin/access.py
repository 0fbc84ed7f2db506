"""Who may call the administration interface: whoever has an access token with its scopes."""

from typing import Annotated, NamedTuple
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from authly.api.admin.problems import Problem
from authly.audit.models import AuditEvent, Party
from authly.audit.service import AuditLog
from authly.core.security_log import SecurityLog
from authly.errors import InvalidTokenError
from authly.monitoring.labels import SecurityEvent
from authly.monitoring.recorders import SecurityRecorder
from authly.tokens.models import AccessTokenClaims
from authly.tokens.service import TokenService
from authly.users.service import UserService

_LONGEST_PATH = 255
READ, WRITE = "admin:read", "admin:write"

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="administrator",
    description="An access token of Authly for Authly, with the scope admin:read, or admin:write to change anything.",
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class Administrator(NamedTuple):
    """Who asks, and from where: what the audit log will say."""

    party: Party
    address: str | None


class AdminAccess:
    """Finds out who asks, and whether they may.

    A token that a client has for itself is enough: an operator gave the client these scopes. One that a client has in
    the name of a user is good for as long as the user is an administrator.

    Args:
        tokens: verifies tokens.
        users: knows who is an administrator.
        audience: for whom tokens have to be: Authly itself.
        audit: where it is recorded who may not. Strangers, who could fill it, are in the log alone.
        metrics: is told of whoever may not.
    """

    def __init__(
        self, tokens: TokenService, users: UserService, audience: str, audit: AuditLog, metrics: SecurityRecorder
    ) -> None:
        self._tokens = tokens
        self._users = users
        self._audience = audience
        self._audit = audit
        self._security = SecurityLog(metrics)

    async def read(self, request: Request, credentials: _Credentials) -> Administrator:
        """Return who asks to see something."""
        return await self._admit(request, credentials, READ)

    async def write(self, request: Request, credentials: _Credentials) -> Administrator:
        """Return who asks to change something."""
        return await self._admit(request, credentials, WRITE)

    async def _admit(
        self, request: Request, credentials: HTTPAuthorizationCredentials | None, scope: str
    ) -> Administrator:
        if credentials is None:
            # Nothing was tried, so nothing is said of an error (RFC 6750, section 3.1).
            raise Problem(401, "An access token is needed.", {"www-authenticate": f'Bearer scope="{scope}"'})
        try:
            claims = await self._tokens.verify(credentials.credentials, self._audience)
        except InvalidTokenError as error:
            await self._deny(request, "invalid_token", None)
            challenge = f'Bearer error="{error.code}", scope="{scope}"'
            raise Problem(401, error.description, {"www-authenticate": challenge}) from error
        if scope not in claims.scopes:
            await self._deny(request, "insufficient_scope", claims)
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            raise Problem(403, f"The access token does not have the scope {scope}.", {"www-authenticate": challenge})
        party = await self._party_of(claims)
        if party is None:
            await self._deny(request, "no_administrator", claims)
            raise Problem(403, "The user in whose name the access token was issued is no administrator.")
        return Administrator(party, _address(request))

    async def _party_of(self, claims: AccessTokenClaims) -> Party | None:
        user_id = await self._tokens.user_of(claims)
        if user_id is None:
            return Party.client(claims.client_id)
        user = await self._users.get(user_id)
        if user is None or not user.is_admin or user.disabled_at is not None:
            return None
        return Party.user(user.user_id)

    async def _deny(self, request: Request, reason: str, claims: AccessTokenClaims | None) -> None:
        facts = {"reason": reason, "method": request.method, "path": request.url.path}
        self._security.note(SecurityEvent.ADMIN_DENIED, **facts)
        if claims is not None:
            client, user_id = Party.client(claims.client_id), await self._tokens.user_of(claims)
            actor = client if user_id is None else Party.user(user_id)
            # Quoted: what no text of PostgreSQL holds can be in a path.
            path = quote(request.url.path, safe="/:@")[:_LONGEST_PATH]
            detail = {"reason": reason, "method": request.method, "path": path}
            await self._audit.record(AuditEvent.ADMIN_DENIED, actor, client, detail, client_address=_address(request))


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None
