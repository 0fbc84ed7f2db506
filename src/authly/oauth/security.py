"""What an operator should know of: signs that somebody has what is not theirs."""

import structlog

from authly.audit.models import AuditEvent, Party, PartyKind
from authly.audit.service import AuditLog
from authly.core.repository import DatabaseUnavailableError
from authly.tokens.models import Family

_log = structlog.stdlib.get_logger(__name__)


class SecurityEvents:
    """Records codes and refresh tokens that were presented more than once.

    Args:
        audit: where it is kept.
    """

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def code_reused(self, client_id: str, family: Family) -> None:
        """Note that a code was presented again, and what it was redeemed for revoked."""
        await self._record(AuditEvent.CODE_REUSED, client_id, family)

    async def refresh_token_reused(self, client_id: str, family: Family) -> None:
        """Note that a rotated refresh token was presented again, and its family revoked."""
        await self._record(AuditEvent.REFRESH_TOKEN_REUSED, client_id, family)

    async def _record(self, event: AuditEvent, client_id: str, family: Family) -> None:
        user_id = str(family.authorization.user_id)
        _log.warning(event.value, client_id=client_id, user_id=user_id, family_id=str(family.family_id))
        try:
            await self._audit.record(
                event,
                Party.client(client_id),
                Party(PartyKind.TOKEN, str(family.family_id)),
                {"user_id": user_id},
            )
        except DatabaseUnavailableError:
            # The tokens are revoked, and the answer is the same; the log has the line.
            _log.error("audit_log_unavailable", event_not_recorded=event.value)
