"""Clients and scopes as a worker remembers them, for what is asked at nearly every request.

Whoever registers and changes things asks the database itself: what another worker changed a moment ago must not be
undone by one that has not heard of it. Whatever changes a row tells all workers once it is committed; each of these
repositories therefore commits by itself, and is not used inside a transaction.
"""

from typing import Self

from authly.core.cache import Cache, Caches
from authly.core.repository import Executor, Transaction
from authly.oauth.client_repository import ClientRepository
from authly.oauth.models import Client, ClientSettings
from authly.oauth.scope_repository import Names, ScopeRepository

# Scopes are few, and their names are asked for together.
_ALL = "all"


class CachedClientRepository(ClientRepository):
    """Keeps clients, and remembers those that were looked up.

    Args:
        executor: runs the SQL.
        cache: remembers them.
    """

    def __init__(self, executor: Executor, cache: Cache[Client]) -> None:
        super().__init__(executor)
        self._cache = cache

    def within(self, transaction: Transaction) -> Self:
        """Refuse: what is changed in a transaction may not be told before its end."""
        raise TypeError("clients that are remembered are not changed inside a transaction")

    async def look_up(self, client_id: str) -> Client | None:
        """Return a client, as it was a moment ago at the latest."""
        return await self._cache.get(client_id, lambda: self.find(client_id))

    async def update(self, client_id: str, settings: ClientSettings) -> bool:
        """Change what an operator may change; tell whether there is such a client."""
        changed = await super().update(client_id, settings)
        await self._cache.invalidate(client_id)
        return changed

    async def set_secret(self, client_id: str, secret_hash: bytes) -> bool:
        """Replace a client's secret; tell whether there is such a client, and it has one."""
        changed = await super().set_secret(client_id, secret_hash)
        await self._cache.invalidate(client_id)
        return changed

    async def delete(self, client_id: str) -> bool:
        """Delete a client and everything that was issued to it; tell whether there was one."""
        deleted = await super().delete(client_id)
        await self._cache.invalidate(client_id)
        return deleted


class CachedScopeRepository(ScopeRepository):
    """Keeps scopes, and remembers their names.

    Args:
        executor: runs the SQL.
        cache: remembers them.
        clients: remembers who may ask for them.
    """

    def __init__(self, executor: Executor, cache: Cache[Names], clients: Cache[Client]) -> None:
        super().__init__(executor)
        self._cache = cache
        self._clients = clients

    def within(self, transaction: Transaction) -> Self:
        """Refuse: what is changed in a transaction may not be told before its end."""
        raise TypeError("scopes that are remembered are not changed inside a transaction")

    async def names(self) -> Names:
        """Return the names of all scopes, as they were a moment ago at the latest."""
        return [*(await self._cache.get(_ALL, super().names) or ())]

    async def add(self, name: str, description: str) -> bool:
        """Add a scope; tell whether there was none of its name."""
        added = await super().add(name, description)
        await self._cache.invalidate(_ALL)
        return added

    async def delete(self, name: str) -> bool:
        """Delete a scope, and take it from all clients and consents; tell whether there was one."""
        deleted = await super().delete(name)
        await self._cache.invalidate(_ALL)
        await self._clients.invalidate_all()
        return deleted


def remembering(executor: Executor, caches: Caches) -> tuple[CachedClientRepository, CachedScopeRepository]:
    """Return repositories of clients and scopes that remember.

    Args:
        executor: runs the SQL.
        caches: those of the worker.
    """
    clients: Cache[Client] = caches.create("clients")
    names: Cache[Names] = caches.create("scopes", size=1)
    return CachedClientRepository(executor, clients), CachedScopeRepository(executor, names, clients)
