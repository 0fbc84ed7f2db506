"""From settings to what all workers of all instances have in common, besides the database itself."""

from functools import partial

from authly.core.cache import CacheMetrics, Caches, NullCacheMetrics
from authly.core.database import Pool, connect
from authly.core.invalidation import Channel, PostgresChannel, RedisChannel, WatchedChannel
from authly.core.rate_limits import PostgresStore, RedisStore, Store
from authly.core.repository import Database
from authly.core.resource_manager import NullResourceMetrics, ResourceMetrics
from authly.core.valkey import create_client
from authly.monitoring.labels import Dependency, StartupPhase
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
        dependencies: is told whether Valkey can be used.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        pool: Pool,
        database_url: str,
        metrics: CacheMetrics | None = None,
        dependencies: ResourceMetrics | None = None,
    ) -> None:
        self._dependencies = dependencies or NullResourceMetrics()
        self._valkey = create_client(settings.redis_url) if settings.redis_url else None
        self.rate_limit_rows = PostgresStore(database)
        self.rate_limits: Store = RedisStore(self._valkey) if self._valkey else self.rate_limit_rows
        channel: Channel = PostgresChannel(pool, partial(connect, database_url))
        if self._valkey:
            channel = WatchedChannel(RedisChannel(self._valkey), self._valkey_answers, self._valkey_is_away)
        self.caches = Caches(channel, settings.cache_ttl, metrics or NullCacheMetrics())
        self._has_started = False

    async def start(self) -> None:
        """Begin to listen for what other workers change."""
        await self.caches.start()

    async def stop(self) -> None:
        """Close what was opened."""
        await self.caches.stop()
        if self._valkey is not None:
            await self._valkey.aclose()

    async def memory(self) -> int:
        """Return how much memory Valkey uses, in bytes; 0 without one."""
        if self._valkey is None:
            return 0
        return int((await self._valkey.info("memory"))["used_memory"])

    def _valkey_answers(self, seconds: float) -> None:
        self._dependencies.update_dependency_connect_duration(Dependency.CACHE, seconds)
        self._dependencies.update_dependency(Dependency.CACHE, up=True)
        if not self._has_started:
            self._has_started = True
            self._dependencies.update_startup_duration(StartupPhase.CACHE, seconds)

    def _valkey_is_away(self) -> None:
        self._dependencies.update_dependency(Dependency.CACHE, up=False)
