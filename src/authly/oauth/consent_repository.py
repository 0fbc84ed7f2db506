"""The SQL of consents."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from authly.core.repository import Repository
from authly.oauth.models import Consent

_COLUMNS = "user_id, client_id, scopes, resources, created_at, updated_at"


class ConsentRepository(Repository):
    """Keeps consents."""

    async def find(self, user_id: UUID, client_id: str) -> Consent | None:
        """Return what a user allowed a client."""
        return await self._one(
            "consents.find",
            _consent,
            f"SELECT {_COLUMNS} FROM consents WHERE user_id = %s AND client_id = %s",
            (user_id, client_id),
        )

    async def list(self, *, user_id: UUID | None, client_id: str | None, limit: int, offset: int) -> list[Consent]:
        """Return consents, of one user or client or of all, the latest first."""
        return await self._all(
            "consents.list",
            _consent,
            f"""
            SELECT {_COLUMNS} FROM consents
            WHERE (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
              AND (%(client_id)s::text IS NULL OR client_id = %(client_id)s)
            ORDER BY updated_at DESC, user_id, client_id LIMIT %(limit)s OFFSET %(offset)s
            """,
            {"user_id": user_id, "client_id": client_id, "limit": limit, "offset": offset},
        )

    async def add(self, user_id: UUID, client_id: str, scopes: Sequence[str], resources: Sequence[str]) -> None:
        """Add to what a user allowed a client."""
        await self._execute(
            "consents.add",
            """
            INSERT INTO consents (user_id, client_id, scopes, resources)
            VALUES (%(user_id)s, %(client_id)s, %(scopes)s, %(resources)s)
            ON CONFLICT (user_id, client_id) DO UPDATE SET
                scopes = ARRAY(SELECT DISTINCT unnest(consents.scopes || excluded.scopes) ORDER BY 1),
                resources = ARRAY(SELECT DISTINCT unnest(consents.resources || excluded.resources) ORDER BY 1),
                updated_at = now()
            """,
            {
                "user_id": user_id,
                "client_id": client_id,
                "scopes": sorted(scopes),
                "resources": sorted(resources),
            },
        )

    async def delete(self, user_id: UUID, client_id: str) -> bool:
        """Forget what a user allowed a client; tell whether there was anything."""
        return (
            await self._execute(
                "consents.delete", "DELETE FROM consents WHERE user_id = %s AND client_id = %s", (user_id, client_id)
            )
            == 1
        )


def _consent(*, scopes: Sequence[str], resources: Sequence[str], **columns: Any) -> Consent:
    return Consent(scopes=tuple(scopes), resources=tuple(resources), **columns)
