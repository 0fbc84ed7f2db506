"""What follows from the end of a session, however it came about."""

from collections.abc import Sequence
from functools import partial
from typing import Self
from uuid import UUID

from authly.core.repository import Executor, Repository, Transaction
from authly.monitoring.recorders import NullOAuthMetrics, OAuthRecorder
from authly.tokens.models import RevocationReason


class EndedSessions(Repository):
    """Sees to the clients of sessions that are over.

    Args:
        executor: runs the SQL.
        metrics: is told what is revoked.
    """

    def __init__(self, executor: Executor, metrics: OAuthRecorder | None = None) -> None:
        super().__init__(executor)
        self._metrics = metrics or NullOAuthMetrics()

    def within(self, transaction: Transaction) -> Self:
        """Return the same, inside a transaction."""
        return type(self)(transaction, self._metrics)

    async def sessions_ended(self, session_ids: Sequence[UUID]) -> None:
        """Revoke what was allowed in sessions but for offline access, and note whom to tell of their end.

        One statement: whatever ends a session in a transaction has this in it as well.
        """
        revoked = await self._one(
            "sessions.ended",
            _number,
            """
            WITH revoked AS (
                UPDATE token_families SET revoked_at = now(), revocation_reason = 'logout'
                WHERE session_id = ANY(%(ids)s) AND revoked_at IS NULL AND expires_at > now()
                  AND NOT 'offline_access' = ANY(scopes)
                RETURNING family_id
            ), told AS (
                INSERT INTO backchannel_logouts (client_id, session_id, subject)
                SELECT client_id, session_id, subject FROM session_clients JOIN clients USING (client_id)
                WHERE session_id = ANY(%(ids)s) AND backchannel_logout_uri IS NOT NULL AND enabled
                ON CONFLICT DO NOTHING
            )
            SELECT count(*) AS number FROM revoked
            """,
            {"ids": list(session_ids)},
        )
        self._executor.afterwards(
            partial(self._metrics.tokens_revoked, "family", RevocationReason.LOGOUT, revoked or 0)
        )


def _number(*, number: int) -> int:
    return number
