"""Sessions."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from authly.admin.service import AdministrationService
from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, paging
from authly.api.admin.problems import documented, not_found
from authly.api.admin.resources import resource_router
from authly.sessions.models import Session
from authly.sessions.service import SessionService


class SessionBody(BaseModel):
    """A browser in which a user has logged in."""

    session_id: UUID
    user_id: UUID
    authenticated_at: datetime
    amr: list[str]
    client_address: str | None
    user_agent: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ended_at: datetime | None


def sessions_router(sessions: SessionService, administration: AdministrationService, access: AdminAccess) -> APIRouter:
    """Return the routes of sessions.

    Args:
        sessions: knows them.
        administration: ends them.
        access: knows who may.
    """
    router = resource_router("sessions")
    Reader = Annotated[Administrator, Depends(access.read)]  # noqa: N806
    Writer = Annotated[Administrator, Depends(access.write)]  # noqa: N806

    @router.get("", summary="List sessions in force, the latest first", responses=documented(400))
    async def list_sessions(
        _: Reader, part: Annotated[Paging, Depends(paging)], user_id: UUID | None = None
    ) -> Page[SessionBody]:
        return part.page(await sessions.list(user_id, part.limit + 1, part.offset), _show)

    @router.get("/{session_id}", summary="Show a session", responses=documented(404))
    async def show_session(session_id: UUID, _: Reader) -> SessionBody:
        session = await sessions.get(session_id)
        if session is None:
            raise not_found("session")
        return _show(session)

    @router.delete(
        "/{session_id}",
        status_code=204,
        summary="End a session, and revoke what was allowed in it",
        responses=documented(404),
    )
    async def end_session(session_id: UUID, admin: Writer) -> None:
        if not await administration.end_session(session_id, admin.party, admin.address):
            raise not_found("session in force")

    return router


def _show(session: Session) -> SessionBody:
    return SessionBody(
        session_id=session.session_id,
        user_id=session.user_id,
        authenticated_at=session.authenticated_at,
        amr=list(session.amr),
        client_address=session.client_address,
        user_agent=session.user_agent,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at,
        expires_at=session.expires_at,
        ended_at=session.ended_at,
    )
