"""Clients and scopes as a worker remembers them.

The same repositories, but for what is asked at nearly every request. Whatever changes a row tells all workers once it
is committed; each of these repositories therefore commits by itself, and is not used inside a transaction.
"""

from collections.abc import Collection
from typing import Self

from authly.core.cache import Cache, Caches
from authly.core.repository import Executor, Transaction
from authly.oauth.client_repository import ClientRepository
from authly.oauth.models import Client, ClientSettings, Scope
from authly.oauth.scope_repository import ScopeRepository

# A name that the methods called list do not hide.
Scopes = list[Scope]
# Scopes are few, and asked for together.
_ALL = "all"


class CachedClientRepository(ClientRepository):
    """Keeps clients, and remembers those that were asked for.

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

    async def find(self, client_id: str) -> Client | None:
        """Return a client."""
        return await self._cache.get(client_id, lambda: super(CachedClientRepository, self).find(client_id))

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
    """Keeps scopes, and remembers them.

    Args:
        executor: runs the SQL.
        cache: remembers them.
        clients: remembers who may ask for them.
    """

    def __init__(self, executor: Executor, cache: Cache[Scopes], clients: Cache[Client]) -> None:
        super().__init__(executor)
        self._cache = cache
        self._clients = clients

    def within(self, transaction: Transaction) -> Self:
        """Refuse: what is changed in a transaction may not be told before its end."""
        raise TypeError("scopes that are remembered are not changed inside a transaction")

    async def list(self) -> Scopes:
        """Return all scopes by name."""
        return [*(await self._cache.get(_ALL, super().list) or ())]

    async def find(self, names: Collection[str]) -> Scopes:
        """Return those scopes of some names that there are."""
        return [scope for scope in await self.list() if scope.name in names]

    async def add(self, name: str, description: str) -> bool:
        """Add a scope; tell whether there was none of its name."""
        added = await super().add(name, description)
        await self._cache.invalidate(_ALL)
        return added

    async def describe(self, name: str, description: str) -> bool:
        """Change the description of a scope; tell whether there is one."""
        changed = await super().describe(name, description)
        await self._cache.invalidate(_ALL)
        return changed

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
    scopes: Cache[Scopes] = caches.create("scopes", size=1)
    return CachedClientRepository(executor, clients), CachedScopeRepository(executor, scopes, clients)
