"""Consents."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, paging
from authly.api.admin.problems import documented, not_found
from authly.api.admin.resources import resource_router
from authly.oauth.consent_service import ConsentService
from authly.oauth.models import Consent


class ConsentBody(BaseModel):
    """What a user allowed a client."""

    user_id: UUID
    client_id: str
    scopes: list[str]
    resources: list[str]
    created_at: datetime
    updated_at: datetime


def consents_router(consents: ConsentService, access: AdminAccess) -> APIRouter:
    """Return the routes of consents.

    Args:
        consents: knows them.
        access: knows who may.
    """
    router = resource_router("consents")
    Reader = Annotated[Administrator, Depends(access.read)]  # noqa: N806
    Writer = Annotated[Administrator, Depends(access.write)]  # noqa: N806

    @router.get("", summary="List consents, the latest first", responses=documented(400))
    async def list_consents(
        _: Reader,
        part: Annotated[Paging, Depends(paging)],
        user_id: UUID | None = None,
        client_id: str | None = None,
    ) -> Page[ConsentBody]:
        found = await consents.list(user_id=user_id, client_id=client_id, limit=part.limit + 1, offset=part.offset)
        return part.page(found, _show)

    @router.delete(
        "/{user_id}/{client_id}",
        status_code=204,
        summary="Take back what a user allowed a client, and revoke what it led to",
        responses=documented(404),
    )
    async def revoke_consent(user_id: UUID, client_id: str, admin: Writer) -> None:
        if not await consents.revoke(user_id, client_id, admin.party):
            raise not_found("consent")

    return router


def _show(consent: Consent) -> ConsentBody:
    return ConsentBody(
        user_id=consent.user_id,
        client_id=consent.client_id,
        scopes=list(consent.scopes),
        resources=list(consent.resources),
        created_at=consent.created_at,
        updated_at=consent.updated_at,
    )
