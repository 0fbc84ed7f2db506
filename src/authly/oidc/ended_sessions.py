"""What follows from the end of a session, however it came about."""

from collections.abc import Sequence
from uuid import UUID

from authly.core.repository import Repository


class EndedSessions(Repository):
    """Sees to the clients of sessions that are over."""

    async def sessions_ended(self, session_ids: Sequence[UUID]) -> None:
        """Revoke what was allowed in sessions but for offline access, and note whom to tell of their end.

        One statement: whatever ends a session in a transaction has this in it as well.
        """
        await self._execute(
            "sessions.ended",
            """
            WITH revoked AS (
                UPDATE token_families SET revoked_at = now(), revocation_reason = 'logout'
                WHERE session_id = ANY(%(ids)s) AND revoked_at IS NULL AND expires_at > now()
                  AND NOT 'offline_access' = ANY(scopes)
            )
            INSERT INTO backchannel_logouts (client_id, session_id, subject)
            SELECT client_id, session_id, subject FROM session_clients JOIN clients USING (client_id)
            WHERE session_id = ANY(%(ids)s) AND backchannel_logout_uri IS NOT NULL AND enabled
            ON CONFLICT DO NOTHING
            """,
            {"ids": list(session_ids)},
        )
