"""Registering clients."""

import re
import secrets
from collections.abc import Iterable

from authly.audit.models import AuditEvent, Party
from authly.audit.service import AuditLog
from authly.keys.models import ALGORITHMS
from authly.oauth import client_keys, redirect_uris
from authly.oauth.client_keys import ClientKeysError
from authly.oauth.client_repository import ClientRepository
from authly.oauth.models import SECRET_METHODS, AuthMethod, Client, ClientSettings, ClientType, GrantType, SubjectType
from authly.oauth.redirect_uris import RedirectUriError
from authly.oauth.resources import is_resource
from authly.oauth.scope_repository import ScopeRepository
from authly.oauth.subjects import SectorError, sector_of
from authly.tokens.models import RevocationReason
from authly.tokens.secrets import hash_of, new_secret
from authly.tokens.service import TokenService

_HOST = re.compile(r"[a-z0-9.-]{1,253}")
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]_-]{1,260}")
_LONGEST_NAME = 100
_MOST = 50


class ClientError(ValueError):
    """A client cannot be registered as it is wanted; the message says why."""


class ClientService:
    """Registers, changes and deletes clients.

    Args:
        clients: where they are kept.
        scopes: what they may be allowed to ask for.
        tokens: revokes what they hold.
        audit: where it is recorded.
    """

    def __init__(
        self, clients: ClientRepository, scopes: ScopeRepository, tokens: TokenService, audit: AuditLog
    ) -> None:
        self._clients = clients
        self._scopes = scopes
        self._tokens = tokens
        self._audit = audit

    async def find(self, client_id: str) -> Client | None:
        """Return a client."""
        return await self._clients.find(client_id)

    async def list(self, limit: int = 50, offset: int = 0, search: str | None = None) -> list[Client]:
        """Return clients by name; with a search, those whose name or id contains it."""
        return await self._clients.list(limit, offset, search)

    async def has_origin(self, origin: str) -> bool:
        """Tell whether a page of an origin is a client's: one that users come back to (Fetch standard, ``Origin``)."""
        return _ORIGIN.fullmatch(origin) is not None and await self._clients.has_origin(origin)

    async def count(self) -> int:
        """Return how many clients are enabled."""
        return await self._clients.count()

    async def create(
        self,
        settings: ClientSettings,
        type_: ClientType,
        actor: Party,
        auth_method: AuthMethod | None = None,
    ) -> tuple[Client, str | None]:
        """Register a client; return it and its secret, which nobody will see again.

        Args:
            settings: what it may do.
            type_: whether it can keep a secret.
            actor: who registers it.
            auth_method: how it authenticates; unless told otherwise, confidential clients by a secret.

        Raises:
            ClientError: the settings contradict each other, or themselves.
        """
        default = AuthMethod.NONE if type_ is ClientType.PUBLIC else AuthMethod.CLIENT_SECRET_BASIC
        method = auth_method or default
        if (type_ is ClientType.PUBLIC) != (method is AuthMethod.NONE):
            raise ClientError("public clients authenticate with none, and confidential ones with anything else")
        await self._check(settings, type_, method)
        client_id = secrets.token_hex(16)
        secret = new_secret() if method in SECRET_METHODS else None
        await self._clients.add(client_id, type_, method, hash_of(secret) if secret else None, settings)
        await self._audit.record(AuditEvent.CLIENT_CREATED, actor, Party.client(client_id), {"name": settings.name})
        await self._record_pkce(client_id, True, settings.require_pkce, actor)
        client = await self._clients.find(client_id)
        if client is None:
            raise ClientError("the client was deleted at the same moment")
        return client, secret

    async def update(self, client_id: str, settings: ClientSettings, actor: Party) -> Client | None:
        """Change a client and return it, or None if there is none. One that is disabled loses what it holds.

        Raises:
            ClientError: the settings contradict each other, or themselves.
        """
        client = await self._clients.find(client_id)
        if client is None:
            return None
        await self._check(settings, client.type, client.token_endpoint_auth_method)
        await self._clients.update(client_id, settings)
        if client.settings.enabled and not settings.enabled:
            await self._tokens.revoke_of_client(client_id, RevocationReason.ADMIN)
        await self._audit.record(AuditEvent.CLIENT_UPDATED, actor, Party.client(client_id))
        await self._record_pkce(client_id, client.settings.require_pkce, settings.require_pkce, actor)
        return await self._clients.find(client_id)

    async def rotate_secret(self, client_id: str, actor: Party) -> str | None:
        """Return a new secret for a client, whose old one is void; None if there is no client that has one."""
        secret = new_secret()
        if not await self._clients.set_secret(client_id, hash_of(secret)):
            return None
        await self._audit.record(AuditEvent.CLIENT_SECRET_ROTATED, actor, Party.client(client_id))
        return secret

    async def delete(self, client_id: str, actor: Party) -> bool:
        """Delete a client and everything that was issued to it; tell whether there was one."""
        deleted = await self._clients.delete(client_id)
        if deleted:
            await self._audit.record(AuditEvent.CLIENT_DELETED, actor, Party.client(client_id))
        return deleted

    async def delete_expired_assertions(self, limit: int) -> int:
        """Delete at most so many assertions that cannot be used again anyway; return how many it were."""
        return await self._clients.delete_expired_assertions(limit)

    async def _record_pkce(self, client_id: str, before: bool, after: bool, actor: Party) -> None:
        # An event of its own: of what an operator can decide, this alone makes a client less safe.
        if before != after:
            event = AuditEvent.CLIENT_PKCE_REQUIRED if after else AuditEvent.CLIENT_PKCE_EXEMPTED
            await self._audit.record(event, actor, Party.client(client_id))

    async def _check(self, settings: ClientSettings, type_: ClientType, method: AuthMethod) -> None:
        name = settings.name
        if not 0 < len(name.strip()) <= _LONGEST_NAME or not name.isprintable():
            raise ClientError("a client's name has 1 to 100 printable characters")
        lists: tuple[Iterable[str], ...] = (
            settings.redirect_uris,
            settings.post_logout_redirect_uris,
            settings.scopes,
            settings.resources,
        )
        if any(len(set(values)) > _MOST for values in lists):
            raise ClientError("a client has at most 50 URIs of each kind, 50 scopes and 50 resources")
        _check_grants(settings, type_)
        for uri in (*settings.redirect_uris, *settings.post_logout_redirect_uris):
            try:
                redirect_uris.check(uri, native=type_ is ClientType.PUBLIC)
            except RedirectUriError as error:
                raise ClientError(f"{uri} cannot be a redirect URI: {error}") from error
        for resource in settings.resources:
            if not is_resource(resource):
                raise ClientError(f"{resource} cannot be a resource: it is no absolute URI without a fragment")
        if (settings.jwks is not None) != (method is AuthMethod.PRIVATE_KEY_JWT):
            raise ClientError("clients that authenticate with private_key_jwt have a JWK Set, and no others do")
        if settings.jwks is not None:
            try:
                client_keys.read(settings.jwks)
            except ClientKeysError as error:
                raise ClientError(f"the JWK Set cannot be the client's: {error}") from error
        _check_openid_connect(settings, type_)
        known = {scope.name for scope in await self._scopes.find(settings.scopes)}
        if unknown := set(settings.scopes) - known:
            raise ClientError(f"there is no scope {min(unknown)}; create it first")


def _check_openid_connect(settings: ClientSettings, type_: ClientType) -> None:
    if not settings.require_pkce and type_ is ClientType.PUBLIC:
        raise ClientError("public clients cannot be exempt from PKCE: they have no other proof that a code is theirs")
    algorithms = (settings.id_token_signed_response_alg, settings.userinfo_signed_response_alg)
    if any(algorithm is not None and algorithm not in ALGORITHMS for algorithm in algorithms):
        raise ClientError(f"tokens are signed with {', '.join(ALGORITHMS)}")
    if settings.sector_identifier is not None and not _HOST.fullmatch(settings.sector_identifier):
        raise ClientError("a sector_identifier is a host name in lower case")
    if settings.subject_type is SubjectType.PAIRWISE:
        try:
            sector_of(settings)
        except SectorError as error:
            raise ClientError(f"the client cannot have pairwise subjects: {error}") from error
    if settings.backchannel_logout_uri is not None:
        try:
            redirect_uris.check(settings.backchannel_logout_uri, native=False)
        except RedirectUriError as error:
            uri = settings.backchannel_logout_uri
            raise ClientError(f"{uri} cannot be told of the ends of sessions: {error}") from error


def _check_grants(settings: ClientSettings, type_: ClientType) -> None:
    grants = settings.grant_types
    if not grants:
        raise ClientError("a client needs a grant type")
    if GrantType.CLIENT_CREDENTIALS in grants and type_ is ClientType.PUBLIC:
        raise ClientError("public clients cannot use client_credentials: they have none (RFC 6749, section 4.4)")
    if GrantType.REFRESH_TOKEN in grants and GrantType.AUTHORIZATION_CODE not in grants:
        raise ClientError("refresh_token needs authorization_code, which is where refresh tokens come from")
    if GrantType.AUTHORIZATION_CODE in grants and not settings.redirect_uris:
        raise ClientError("a client that uses authorization_code needs a redirect URI")
    ttl = settings.access_token_ttl
    if ttl is not None and not 1 <= ttl.total_seconds() <= 86400:
        raise ClientError("access tokens are valid for 1 to 86400 seconds")
