"""What an operator should know of: signs that somebody has, or wants to have, what is not theirs."""

import structlog

from authly.audit.models import AuditEvent, Party, PartyKind
from authly.audit.service import AuditLog
from authly.core.repository import DatabaseUnavailableError
from authly.core.security_log import SecurityLog
from authly.monitoring.labels import SecurityEvent
from authly.tokens.models import Family

_LONGEST_URI = 255

_log = structlog.stdlib.get_logger(__name__)


class SecurityEvents:
    """Records what clients present that they should not have.

    Codes and refresh tokens that were presented more than once are in the audit log, too: they have consequences.

    Args:
        audit: where it is kept.
        security: where it is noted.
    """

    def __init__(self, audit: AuditLog, security: SecurityLog) -> None:
        self._audit = audit
        self._security = security

    async def code_reused(self, client_id: str, family: Family) -> None:
        """Note that a code was presented again, and what it was redeemed for revoked."""
        await self._record(SecurityEvent.CODE_REUSE, AuditEvent.CODE_REUSED, client_id, family)

    async def refresh_token_reused(self, client_id: str, family: Family) -> None:
        """Note that a rotated refresh token was presented again, and its family revoked."""
        await self._record(SecurityEvent.REFRESH_REUSE, AuditEvent.REFRESH_TOKEN_REUSED, client_id, family)

    def pkce_failed(self, client_id: str, family: Family) -> None:
        """Note that a code was presented by somebody who does not know its verifier."""
        self._security.note(SecurityEvent.PKCE_MISMATCH, client_id=client_id, family_id=str(family.family_id))

    def redirect_uri_differed(self, client_id: str, redirect_uri: str) -> None:
        """Note that a redirect URI is none of the client's, or not that of the authorization request."""
        self._security.note(
            SecurityEvent.REDIRECT_URI_MISMATCH, client_id=client_id, redirect_uri=redirect_uri[:_LONGEST_URI]
        )

    def assertion_algorithm_refused(self, client_id: str) -> None:
        """Note that a client's assertion names an algorithm with which none of its keys signs."""
        self._security.note(SecurityEvent.BAD_TOKEN_ALGORITHM, client_id=client_id, token_type="client_assertion")

    async def _record(self, noted: SecurityEvent, event: AuditEvent, client_id: str, family: Family) -> None:
        user_id = str(family.authorization.user_id)
        self._security.note(noted, client_id=client_id, user_id=user_id, family_id=str(family.family_id))
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
