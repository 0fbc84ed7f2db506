"""The scopes there are."""

import re
from collections.abc import Collection

from authly.audit.models import AuditEvent, Party, PartyKind
from authly.audit.service import AuditLog
from authly.oauth.models import Scope
from authly.oauth.scope_repository import Names, ScopeRepository
from authly.oauth.scope_values import USER_SCOPES

_NAME = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,128}")
_LONGEST_DESCRIPTION = 200


class ScopeError(ValueError):
    """A scope cannot be as it is wanted; the message says why."""


class ScopeService:
    """Adds, describes and deletes scopes.

    Args:
        scopes: where they are kept.
        audit: where it is recorded.
    """

    def __init__(self, scopes: ScopeRepository, audit: AuditLog) -> None:
        self._scopes = scopes
        self._audit = audit

    async def find(self, names: Collection[str]) -> list[Scope]:
        """Return those scopes of some names that there are, by name."""
        return await self._scopes.find(names)

    async def create(self, name: str, description: str, actor: Party) -> None:
        """Add a scope.

        Args:
            name: what clients ask for.
            description: what users are told that it allows.
            actor: who adds it.

        Raises:
            ScopeError: the name is taken or malformed, or the description empty or long.
        """
        if not _NAME.fullmatch(name):
            raise ScopeError(
                "a scope's name has 1 to 128 printable ASCII characters without spaces, quotes, backslashes"
            )
        if not await self._scopes.add(name, _checked(description)):
            raise ScopeError(f"there is a scope {name} already")
        await self._audit.record(AuditEvent.SCOPE_CREATED, actor, Party(PartyKind.SCOPE, name))

    async def describe(self, name: str, description: str, actor: Party) -> bool:
        """Change what users are told that a scope allows; tell whether there is one.

        Raises:
            ScopeError: the description is empty or long.
        """
        changed = await self._scopes.describe(name, _checked(description))
        if changed:
            await self._audit.record(AuditEvent.SCOPE_UPDATED, actor, Party(PartyKind.SCOPE, name))
        return changed

    async def delete(self, name: str, actor: Party) -> bool:
        """Delete a scope and take it from all clients and consents; tell whether there was one.

        Raises:
            ScopeError: it is one that OpenID Connect defines.
        """
        if name in USER_SCOPES:
            raise ScopeError(f"{name} is a scope of OpenID Connect and cannot be deleted")
        deleted = await self._scopes.delete(name)
        if deleted:
            await self._audit.record(AuditEvent.SCOPE_DELETED, actor, Party(PartyKind.SCOPE, name))
        return deleted

    async def names(self) -> Names:
        """Return the names of all scopes, for what may be a moment behind."""
        return await self._scopes.names()

    async def list(self) -> list[Scope]:
        """Return all scopes by name."""
        return await self._scopes.list()


def _checked(description: str) -> str:
    if not 0 < len(description.strip()) <= _LONGEST_DESCRIPTION or not description.isprintable():
        raise ScopeError("a scope's description has 1 to 200 printable characters")
    return description.strip()
