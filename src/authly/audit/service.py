"""Recording what happened."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from authly.audit.models import AuditEntry, AuditEvent, AuditFilter, Party
from authly.audit.repository import AuditRepository
from authly.core.clock import Clock, utc_now
from authly.core.repository import Transaction


class AuditLog:
    """Records every security event and every act of an administrator.

    Args:
        entries: where they are kept.
        clock: tells the time.
    """

    def __init__(self, entries: AuditRepository, clock: Clock = utc_now) -> None:
        self._entries = entries
        self._clock = clock

    async def record(
        self,
        event: AuditEvent,
        actor: Party,
        subject: Party | None = None,
        detail: Mapping[str, Any] | None = None,
        *,
        client_address: str | None = None,
        transaction: Transaction | None = None,
    ) -> None:
        """Record that something happened.

        Args:
            event: what.
            actor: who did it.
            subject: to whom or what.
            detail: what else is worth knowing; never a password, a token, or a hash of one.
            client_address: from where.
            transaction: the one that makes it happen, so that neither stands without the other.

        Raises:
            DatabaseUnavailableError: it could not be recorded.
        """
        entries = self._entries.within(transaction) if transaction else self._entries
        # By which the lines that the request wrote to the log are found.
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        await entries.add(event, self._clock(), actor, subject, client_address, request_id, detail or {})

    async def list(self, wanted: AuditFilter, limit: int = 50, before: int | None = None) -> list[AuditEntry]:
        """Return entries, the latest first.

        Args:
            wanted: which.
            limit: how many at most.
            before: only those with a smaller ``audit_id``: the last one of the page before.
        """
        return await self._entries.list(wanted, limit, before)

    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Delete at most so many entries that are older than a moment; return how many it were."""
        return await self._entries.delete_before(moment, limit)
