"""Scopes."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, paging
from authly.api.admin.problems import documented, not_found
from authly.api.admin.resources import resource_router
from authly.oauth.models import Scope
from authly.oauth.scope_service import ScopeService


class Description(BaseModel):
    """What users are told."""

    model_config = ConfigDict(extra="forbid")

    description: str


class NewScope(Description):
    """A scope to add."""

    name: str


class ScopeBody(BaseModel):
    """What clients can be allowed."""

    name: str
    description: str
    created_at: datetime


def scopes_router(scopes: ScopeService, access: AdminAccess) -> APIRouter:
    """Return the routes of scopes.

    Args:
        scopes: knows them.
        access: knows who may.
    """
    router = resource_router("scopes")
    Reader = Annotated[Administrator, Depends(access.read)]  # noqa: N806
    Writer = Annotated[Administrator, Depends(access.write)]  # noqa: N806

    async def find(name: str) -> ScopeBody:
        found = await scopes.find([name])
        if not found:
            raise not_found("scope")
        return _show(found[0])

    @router.get("", summary="List scopes by name", responses=documented(400))
    async def list_scopes(_: Reader, part: Annotated[Paging, Depends(paging)]) -> Page[ScopeBody]:
        return part.page((await scopes.list())[part.offset :][: part.limit + 1], _show)

    @router.post("", status_code=201, summary="Add a scope", responses=documented())
    async def create_scope(new: NewScope, admin: Writer) -> ScopeBody:
        await scopes.create(new.name, new.description, admin.party)
        return await find(new.name)

    @router.get("/{name}", summary="Show a scope", responses=documented(404))
    async def show_scope(name: str, _: Reader) -> ScopeBody:
        return await find(name)

    @router.patch("/{name}", summary="Change what users are told that a scope allows", responses=documented(404))
    async def describe_scope(name: str, changes: Description, admin: Writer) -> ScopeBody:
        if not await scopes.describe(name, changes.description, admin.party):
            raise not_found("scope")
        return await find(name)

    @router.delete(
        "/{name}", status_code=204, summary="Delete a scope, and take it from all clients", responses=documented(404)
    )
    async def delete_scope(name: str, admin: Writer) -> None:
        if not await scopes.delete(name, admin.party):
            raise not_found("scope")

    return router


def _show(scope: Scope) -> ScopeBody:
    return ScopeBody(name=scope.name, description=scope.description, created_at=scope.created_at)
