"""The SQL of scopes."""

from collections.abc import Collection

from authly.core.repository import Repository
from authly.oauth.models import Scope

Names = list[str]


class ScopeRepository(Repository):
    """Keeps scopes."""

    async def find(self, names: Collection[str]) -> list[Scope]:
        """Return those scopes of some names that there are."""
        return await self._all(
            "scopes.find",
            Scope,
            "SELECT name, description, created_at FROM scopes WHERE name = ANY(%s) ORDER BY name",
            (list(names),),
        )

    async def add(self, name: str, description: str) -> bool:
        """Add a scope; tell whether there was none of its name."""
        return (
            await self._execute(
                "scopes.add",
                "INSERT INTO scopes (name, description) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (name, description),
            )
            == 1
        )

    async def describe(self, name: str, description: str) -> bool:
        """Change the description of a scope; tell whether there is one."""
        return (
            await self._execute(
                "scopes.describe", "UPDATE scopes SET description = %s WHERE name = %s", (description, name)
            )
            == 1
        )

    async def delete(self, name: str) -> bool:
        """Delete a scope, and take it from all clients and consents; tell whether there was one."""
        return (
            await self._execute(
                "scopes.delete",
                """
            WITH of_clients AS (
                UPDATE clients SET scopes = array_remove(scopes, %(name)s), updated_at = now()
                WHERE %(name)s = ANY(scopes)
            ), of_consents AS (
                UPDATE consents SET scopes = array_remove(scopes, %(name)s), updated_at = now()
                WHERE %(name)s = ANY(scopes)
            )
            DELETE FROM scopes WHERE name = %(name)s
            """,
                {"name": name},
            )
            == 1
        )

    async def names(self) -> Names:
        """Return the names of all scopes."""
        return [scope.name for scope in await self.list()]

    async def list(self) -> list[Scope]:
        """Return all scopes by name."""
        return await self._all("scopes.list", Scope, "SELECT name, description, created_at FROM scopes ORDER BY name")
