"""Clients."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, paging
from authly.api.admin.problems import documented, not_found
from authly.api.admin.resources import resource_router
from authly.keys.models import Algorithm
from authly.oauth.client_service import ClientService
from authly.oauth.models import AuthMethod, Client, ClientSettings, ClientType, GrantType, SubjectType


class ClientFields(BaseModel):
    """What an operator decides about a client."""

    model_config = ConfigDict(extra="forbid")

    name: str
    redirect_uris: list[str] = []
    grant_types: list[GrantType] = [GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN]
    scopes: list[str] = []
    resources: list[str] = Field(default=[], description="Audiences that it may ask for besides Authly (RFC 8707).")
    require_consent: bool = True
    require_pushed_authorization_requests: bool = False
    access_token_ttl: int | None = Field(
        default=None, ge=1, le=86400, description="Seconds; null is what the settings say."
    )
    jwks: dict[str, Any] | None = Field(default=None, description="Public keys for private_key_jwt (RFC 7517).")
    enabled: bool = True
    require_pkce: bool = Field(default=True, description="False exempts a confidential client; the audit log says so.")
    subject_type: SubjectType = SubjectType.PUBLIC
    sector_identifier: str | None = Field(default=None, description="A host; null is that of the redirect URIs.")
    id_token_signed_response_alg: Algorithm = "RS256"
    userinfo_signed_response_alg: Algorithm | None = Field(default=None, description="Null is plain JSON.")
    post_logout_redirect_uris: list[str] = []
    backchannel_logout_uri: str | None = Field(default=None, description="Where it is told of the ends of sessions.")


class NewClient(ClientFields):
    """A client to register."""

    type: ClientType
    token_endpoint_auth_method: AuthMethod | None = Field(
        default=None, description="How it authenticates; by default a secret for confidential clients."
    )


class ClientChanges(BaseModel):
    """What to change about a client; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    redirect_uris: list[str] | None = None
    grant_types: list[GrantType] | None = None
    scopes: list[str] | None = None
    resources: list[str] | None = None
    require_consent: bool | None = None
    require_pushed_authorization_requests: bool | None = None
    access_token_ttl: int | None = Field(default=None, ge=1, le=86400)
    jwks: dict[str, Any] | None = None
    enabled: bool | None = None
    require_pkce: bool | None = None
    subject_type: SubjectType | None = None
    sector_identifier: str | None = None
    id_token_signed_response_alg: Algorithm | None = None
    userinfo_signed_response_alg: Algorithm | None = None
    post_logout_redirect_uris: list[str] | None = None
    backchannel_logout_uri: str | None = None


class ClientBody(ClientFields):
    """A registered client."""

    client_id: str
    type: ClientType
    token_endpoint_auth_method: AuthMethod
    created_at: datetime
    updated_at: datetime


class CreatedClient(ClientBody):
    """A client that was registered just now."""

    client_secret: str | None = Field(description="Shown this once. Null where the client has none.")


class ClientSecret(BaseModel):
    """A new secret."""

    client_id: str
    client_secret: str = Field(description="Shown this once.")


# Null means something for these; for all others it means that they stay as they are.
_NULLABLE = {
    "access_token_ttl",
    "jwks",
    "sector_identifier",
    "userinfo_signed_response_alg",
    "backchannel_logout_uri",
}


def clients_router(clients: ClientService, access: AdminAccess) -> APIRouter:
    """Return the routes of clients.

    Args:
        clients: registers them.
        access: knows who may.
    """
    router = resource_router("clients")
    Reader = Annotated[Administrator, Depends(access.read)]  # noqa: N806
    Writer = Annotated[Administrator, Depends(access.write)]  # noqa: N806

    @router.get("", summary="List clients by name", responses=documented(400))
    async def list_clients(
        _: Reader,
        part: Annotated[Paging, Depends(paging)],
        search: Annotated[str | None, Query(max_length=200, description="Part of the name or the id.")] = None,
    ) -> Page[ClientBody]:
        return part.page(await clients.list(part.limit + 1, part.offset, search), _show)

    @router.post("", status_code=201, summary="Register a client", responses=documented())
    async def create_client(new: NewClient, admin: Writer, response: Response) -> CreatedClient:
        fields = new.model_dump(exclude={"type", "token_endpoint_auth_method"})
        client, secret = await clients.create(_settings(fields), new.type, admin.party, new.token_endpoint_auth_method)
        response.headers["location"] = f"/admin/v1/clients/{client.client_id}"
        return CreatedClient(**_fields(client), client_secret=secret)

    @router.get("/{client_id}", summary="Show a client", responses=documented(404))
    async def show_client(client_id: str, _: Reader) -> ClientBody:
        client = await clients.find(client_id)
        if client is None:
            raise not_found("client")
        return _show(client)

    @router.patch("/{client_id}", summary="Change a client", responses=documented(404))
    async def change_client(client_id: str, changes: ClientChanges, admin: Writer) -> ClientBody:
        client = await clients.find(client_id)
        if client is None:
            raise not_found("client")
        given = changes.model_dump(include=changes.model_fields_set)
        wanted = {name: value for name, value in given.items() if value is not None or name in _NULLABLE}
        updated = await clients.update(client_id, _changed(client.settings, wanted), admin.party)
        if updated is None:
            raise not_found("client")
        return _show(updated)

    @router.post("/{client_id}/secret", summary="Replace a client's secret", responses=documented(404))
    async def rotate_secret(client_id: str, admin: Writer) -> ClientSecret:
        secret = await clients.rotate_secret(client_id, admin.party)
        if secret is None:
            raise not_found("client that has a secret")
        return ClientSecret(client_id=client_id, client_secret=secret)

    @router.delete(
        "/{client_id}",
        status_code=204,
        summary="Delete a client and everything that was issued to it",
        responses=documented(404),
    )
    async def delete_client(client_id: str, admin: Writer) -> None:
        if not await clients.delete(client_id, admin.party):
            raise not_found("client")

    return router


def _settings(fields: dict[str, Any]) -> ClientSettings:
    return _changed(ClientSettings(name=""), fields)


def _changed(settings: ClientSettings, fields: dict[str, Any]) -> ClientSettings:
    values: dict[str, Any] = {
        name: tuple(dict.fromkeys(value)) if isinstance(value, list) else value for name, value in fields.items()
    }
    if values.get("access_token_ttl") is not None:
        values["access_token_ttl"] = timedelta(seconds=values["access_token_ttl"])
    return replace(settings, **values)


def _fields(client: Client) -> dict[str, Any]:
    settings = asdict(client.settings)
    ttl = client.settings.access_token_ttl
    return {
        **settings,
        "access_token_ttl": None if ttl is None else int(ttl.total_seconds()),
        "client_id": client.client_id,
        "type": client.type,
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
        "created_at": client.created_at,
        "updated_at": client.updated_at,
    }


def _show(client: Client) -> ClientBody:
    return ClientBody(**_fields(client))
