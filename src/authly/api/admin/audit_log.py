"""The audit log."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field

from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, bad_cursor, paging
from authly.api.admin.problems import Problem, documented
from authly.api.admin.resources import resource_router
from authly.audit.models import AuditEntry, AuditEvent, AuditFilter, Party, PartyKind
from authly.audit.service import AuditLog

_LARGEST_ID = 2**63 - 1


class PartyBody(BaseModel):
    """Somebody who acts, or something that is acted upon."""

    kind: PartyKind
    id: str | None


class AuditEntryBody(BaseModel):
    """One line of the log."""

    audit_id: int
    occurred_at: datetime
    event: str
    actor: PartyBody
    subject: PartyBody | None
    client_address: str | None
    request_id: str | None = Field(description="By which the lines that the request wrote to the log are found.")
    detail: dict[str, Any]


def audit_log_router(audit: AuditLog, access: AdminAccess) -> APIRouter:
    """Return the route of the audit log.

    Args:
        audit: has it.
        access: knows who may.
    """
    router = resource_router("audit-log")

    @router.get("", summary="List what happened, the latest first", responses=documented(400))
    async def list_entries(
        _: Annotated[Administrator, Depends(access.read)],
        part: Annotated[Paging, Depends(paging)],
        event: AuditEvent | None = None,
        actor_kind: PartyKind | None = None,
        actor_id: Annotated[str | None, Query(max_length=300)] = None,
        subject_kind: PartyKind | None = None,
        subject_id: Annotated[str | None, Query(max_length=300)] = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
    ) -> Page[AuditEntryBody]:
        wanted = AuditFilter(
            event, _party("actor", actor_kind, actor_id), _party("subject", subject_kind, subject_id), since, until
        )
        before = part.cursor
        if before is not None and (not isinstance(before, int) or not 0 <= before <= _LARGEST_ID):
            raise bad_cursor()
        return part.page(await audit.list(wanted, part.limit + 1, before), _show, lambda entry: entry.audit_id)

    return router


def _party(role: str, kind: PartyKind | None, party_id: str | None) -> Party | None:
    if kind is None:
        if party_id is not None:
            raise Problem(422, f"{role}_id needs {role}_kind, for ids of different kinds may be the same.")
        return None
    return Party(kind, party_id)


def _show(entry: AuditEntry) -> AuditEntryBody:
    return AuditEntryBody(
        audit_id=entry.audit_id,
        occurred_at=entry.occurred_at,
        event=entry.event,
        actor=PartyBody(kind=entry.actor.kind, id=entry.actor.id),
        subject=PartyBody(kind=entry.subject.kind, id=entry.subject.id) if entry.subject else None,
        client_address=entry.client_address,
        request_id=entry.request_id,
        detail=dict(entry.detail),
    )
