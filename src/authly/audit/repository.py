"""The SQL of the audit log."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from authly.audit.models import AuditEntry, AuditEvent, AuditFilter, Party, PartyKind
from authly.core.repository import Repository


class AuditRepository(Repository):
    """Keeps the entries of the audit log."""

    async def add(
        self,
        event: AuditEvent,
        occurred_at: datetime,
        actor: Party,
        subject: Party | None,
        client_address: str | None,
        request_id: str | None,
        detail: Mapping[str, Any],
    ) -> None:
        """Append an entry."""
        await self._execute(
            "audit.add",
            """
            INSERT INTO audit_log (
                event, occurred_at, actor_kind, actor_id, subject_kind, subject_id, client_address, request_id, detail
            )
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                event.value,
                occurred_at,
                actor.kind.value,
                actor.id,
                subject and subject.kind.value,
                subject and subject.id,
                client_address,
                request_id,
                Jsonb(dict(detail)),
            ),
        )

    async def list(self, wanted: AuditFilter, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Return entries, the latest first.

        Args:
            wanted: which.
            limit: how many at most.
            before: only those with a smaller ``audit_id``: the last one of the page before.
        """
        return await self._all(
            "audit.list",
            _entry,
            """
            SELECT audit_id, occurred_at, event, actor_kind, actor_id, subject_kind, subject_id, client_address,
                   request_id, detail
            FROM audit_log
            WHERE (%(event)s::text IS NULL OR event = %(event)s)
              AND (%(actor_kind)s::text IS NULL OR actor_kind = %(actor_kind)s)
              AND (%(actor_id)s::text IS NULL OR actor_id = %(actor_id)s)
              AND (%(subject_kind)s::text IS NULL OR subject_kind = %(subject_kind)s)
              AND (%(subject_id)s::text IS NULL OR subject_id = %(subject_id)s)
              AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
              AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s)
              AND (%(before)s::bigint IS NULL OR audit_id < %(before)s)
            ORDER BY audit_id DESC
            LIMIT %(limit)s
            """,
            {
                "event": wanted.event and wanted.event.value,
                "actor_kind": wanted.actor and wanted.actor.kind.value,
                "actor_id": wanted.actor and wanted.actor.id,
                "subject_kind": wanted.subject and wanted.subject.kind.value,
                "subject_id": wanted.subject and wanted.subject.id,
                "since": wanted.since,
                "until": wanted.until,
                "before": before,
                "limit": limit,
            },
        )

    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Delete the oldest entries that are older than a moment, and return how many it were.

        Args:
            moment: what is to be kept.
            limit: how many to delete at most.
        """
        return await self._execute(
            "audit.delete_before",
            """
            DELETE FROM audit_log
            WHERE audit_id IN (
                SELECT audit_id FROM audit_log WHERE occurred_at < %s ORDER BY occurred_at LIMIT %s
            )
            """,
            (moment, limit),
        )


def _entry(
    *, actor_kind: str, actor_id: str | None, subject_kind: str | None, subject_id: str | None, **columns: Any
) -> AuditEntry:
    return AuditEntry(
        actor=Party(PartyKind(actor_kind), actor_id),
        subject=Party(PartyKind(subject_kind), subject_id) if subject_kind else None,
        **columns,
    )
