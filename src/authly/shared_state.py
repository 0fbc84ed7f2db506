"""From settings to what all workers of all instances have in common, besides the database itself."""

from functools import partial

from authly.core.cache import CacheMetrics, Caches, NullCacheMetrics
from authly.core.database import Pool, connect
from authly.core.invalidation import PostgresChannel, RedisChannel
from authly.core.rate_limits import PostgresStore, RedisStore, Store
from authly.core.repository import Database
from authly.core.valkey import create_client
from authly.settings import Settings


class SharedState:
    """Counts of rate limits, and the channel by which workers tell each other what changed.

    Both are in Valkey where there is one, and in PostgreSQL elsewhere.

    Args:
        settings: what an operator chose.
        database: where limits are counted if there is no Valkey.
        pool: of its connections.
        database_url: where it is.
        metrics: is told what caches do.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        pool: Pool,
        database_url: str,
        metrics: CacheMetrics | None = None,
    ) -> None:
        self._valkey = create_client(settings.redis_url, settings.redis_timeout) if settings.redis_url else None
        self.rate_limit_rows = PostgresStore(database)
        self.rate_limits: Store = RedisStore(self._valkey) if self._valkey else self.rate_limit_rows
        channel = RedisChannel(self._valkey) if self._valkey else PostgresChannel(pool, partial(connect, database_url))
        self.caches = Caches(channel, settings.cache_ttl, metrics or NullCacheMetrics())

    async def start(self) -> None:
        """Begin to listen for what other workers change."""
        await self.caches.start()

    async def stop(self) -> None:
        """Close what was opened."""
        await self.caches.stop()
        if self._valkey is not None:
            await self._valkey.aclose()
