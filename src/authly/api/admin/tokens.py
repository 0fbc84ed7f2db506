"""Access tokens, and the authorizations that they come from."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from authly.admin.service import AdministrationService
from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, paging
from authly.api.admin.problems import documented, not_found
from authly.api.admin.resources import resource_router
from authly.tokens.models import Family, RevocationReason, StoredAccessToken
from authly.tokens.service import TokenService


class AccessTokenBody(BaseModel):
    """An access token; not the token itself, which Authly does not keep."""

    token_id: UUID = Field(description="Its `jti`.")
    client_id: str
    family_id: UUID | None = Field(description="The authorization that it comes from; null for a client's own.")
    user_id: UUID | None
    scopes: list[str]
    audience: list[str]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None


class FamilyBody(BaseModel):
    """An authorization, and with it all tokens that came from it."""

    family_id: UUID
    client_id: str
    user_id: UUID
    session_id: UUID
    scopes: list[str]
    resources: list[str]
    auth_time: datetime
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None


def tokens_router(tokens: TokenService, administration: AdministrationService, access: AdminAccess) -> APIRouter:
    """Return the routes of tokens.

    Args:
        tokens: knows them.
        administration: revokes them.
        access: knows who may.
    """
    router = resource_router("tokens")
    Reader = Annotated[Administrator, Depends(access.read)]  # noqa: N806
    Writer = Annotated[Administrator, Depends(access.write)]  # noqa: N806
    Part = Annotated[Paging, Depends(paging)]  # noqa: N806

    @router.get("", summary="List access tokens that have not expired, the latest first", responses=documented(400))
    async def list_tokens(
        _: Reader, part: Part, user_id: UUID | None = None, client_id: str | None = None
    ) -> Page[AccessTokenBody]:
        found = await tokens.list_access_tokens(
            user_id=user_id, client_id=client_id, limit=part.limit + 1, offset=part.offset
        )
        return part.page(found, _show_token)

    @router.get("/families", summary="List authorizations that have not expired", responses=documented(400))
    async def list_families(
        _: Reader, part: Part, user_id: UUID | None = None, client_id: str | None = None
    ) -> Page[FamilyBody]:
        found = await tokens.list_families(
            user_id=user_id, client_id=client_id, limit=part.limit + 1, offset=part.offset
        )
        return part.page(found, _show_family)

    @router.delete(
        "/families/{family_id}",
        status_code=204,
        summary="Revoke everything that an authorization led to",
        responses=documented(404),
    )
    async def revoke_family(family_id: UUID, admin: Writer) -> None:
        if not await administration.revoke_family(family_id, admin.party, admin.address):
            raise not_found("authorization in force")

    @router.delete("/{token_id}", status_code=204, summary="Revoke an access token", responses=documented(404))
    async def revoke_token(token_id: UUID, admin: Writer) -> None:
        if not await administration.revoke_access_token(token_id, admin.party, admin.address):
            raise not_found("access token in force")

    return router


def _show_token(token: StoredAccessToken) -> AccessTokenBody:
    return AccessTokenBody(
        token_id=token.token_id,
        client_id=token.client_id,
        family_id=token.family_id,
        user_id=token.user_id,
        scopes=list(token.scopes),
        audience=list(token.audience),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        revocation_reason=token.revocation_reason,
    )


def _show_family(family: Family) -> FamilyBody:
    authorization = family.authorization
    return FamilyBody(
        family_id=family.family_id,
        client_id=authorization.client_id,
        user_id=authorization.user_id,
        session_id=authorization.session_id,
        scopes=list(authorization.scopes),
        resources=list(authorization.resources),
        auth_time=authorization.auth_time,
        created_at=family.created_at,
        expires_at=family.expires_at,
        revoked_at=family.revoked_at,
        revocation_reason=family.revocation_reason,
    )
