"""What workers remember of clients, scopes and keys, and how they forget it.

Values are kept in the memory of each worker, as the objects they are: a look-up costs no connection, and private keys
are stored nowhere else. Whoever changes something invalidates it, which every worker is told of. A worker that cannot
hear remembers nothing; one that does not know that it cannot hear forgets in time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import structlog

from authly.core.cancellation import cancel
from authly.core.invalidation import Channel

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0

# No key is empty.
_EVERYTHING = ""

_log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


class CacheMetrics(Protocol):
    """What caches tell."""

    def track_cache_operation(self, cache: str, operation: str, status: str, /) -> None:
        """Note a look-up (``get``: ``hit``, ``miss``) or a message sent (``invalidate``: ``success``, ``error``)."""


class NullCacheMetrics:
    """Is told in vain."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Do nothing."""


class Cache(Generic[T]):
    """Remembers what was loaded, for a while, in this process.

    Made by :meth:`Caches.create`.

    Args:
        name: of what; a closed set, for it becomes a label value.
        caches: whom it belongs to.
        ttl: seconds that a value is remembered at most.
        size: values at most; who was not asked for longest goes first.
    """

    def __init__(self, name: str, caches: "Caches", ttl: float, size: int) -> None:
        self.name = name
        self._caches = caches
        self._ttl = ttl
        self._size = size
        self._values: dict[str, tuple[float, T]] = {}
        # Raised by everything that is forgotten: what was being loaded meanwhile may be from before.
        self._generation = 0

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, key: str, load: Callable[[], Awaitable[T | None]]) -> T | None:
        """Return a value, loading it if it is not remembered. That there is none is not remembered.

        Args:
            key: of which.
            load: finds it; what it raises is passed on.
        """
        clock = self._caches.clock
        found = self._values.pop(key, None)
        if found is not None and found[0] > clock():
            # Taken out and put back in, so that the first in the dictionary is who was not asked for longest.
            self._values[key] = found
            self._caches.metrics.track_cache_operation(self.name, "get", "hit")
            return found[1]
        self._caches.metrics.track_cache_operation(self.name, "get", "miss")
        generation = self._generation
        expires_at = clock() + self._ttl
        value = await load()
        if value is not None and self._caches.is_hearing and generation == self._generation:
            self._values[key] = expires_at, value
            if len(self._values) > self._size:
                del self._values[next(iter(self._values))]
        return value

    async def invalidate(self, key: str) -> None:
        """Forget a value, here at once and elsewhere within moments. Call it when the change is committed.

        Never fails: if nobody can be told, the others forget in time.
        """
        self.forget(key)
        await self._caches.tell(self, key)

    async def invalidate_all(self) -> None:
        """Forget all values, here at once and elsewhere within moments."""
        self.forget_all()
        await self._caches.tell(self, _EVERYTHING)

    def forget(self, key: str) -> None:
        """Forget a value in this process."""
        self._generation += 1
        self._values.pop(key, None)

    def forget_all(self) -> None:
        """Forget everything in this process."""
        self._generation += 1
        self._values.clear()


class Caches:
    """The caches of a worker, and its ear for what changed elsewhere.

    Args:
        channel: how workers tell each other.
        ttl: seconds that anything is remembered at most; 0 remembers nothing.
        metrics: whom to tell.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, channel: Channel, ttl: float, metrics: CacheMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = metrics
        self.clock = clock
        self.is_hearing = False
        self._channel = channel
        self._ttl = ttl
        self._caches: dict[str, Cache[object]] = {}
        self._listener: asyncio.Task[None] | None = None

    def create(self, name: str, size: int = 1024) -> "Cache[T]":
        """Make a cache.

        Args:
            name: of what.
            size: values at most.
        """
        if name in self._caches:
            raise ValueError(f"there already is a cache of {name}")
        cache: Cache[T] = Cache(name, self, self._ttl, size)
        self._caches[name] = cache  # type: ignore[assignment]
        return cache

    async def start(self) -> None:
        """Begin to listen, in the background."""
        if self._listener is None and self._ttl > 0:
            self._listener = asyncio.create_task(self._listen(), name="authly-invalidation")

    async def stop(self) -> None:
        """Stop listening, and forget everything."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await cancel([listener])
        self._lost()

    async def tell(self, cache: "Cache[T]", key: str) -> None:
        """Tell every worker to forget a value."""
        status = "success"
        try:
            await self._channel.publish(f"{cache.name}:{key}")
        except Exception as error:  # noqa: BLE001 - the change was made, and others learn of it in time
            status = "error"
            _log.warning("invalidation_not_sent", cache=cache.name, seconds=self._ttl, reason=str(error))
        self.metrics.track_cache_operation(cache.name, "invalidate", status)

    async def _listen(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                await self._channel.listen(self._heard_again, self._heard)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed
                if self.is_hearing:
                    delay = _FIRST_DELAY
                    _log.warning("invalidation_lost", reason=str(error))
                self._lost()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    def _heard_again(self) -> None:
        # Nobody knows what was said meanwhile.
        self._forget_everything()
        self.is_hearing = True

    def _heard(self, message: str) -> None:
        name, _, key = message.partition(":")
        cache = self._caches.get(name)
        if cache is None:
            return
        if key == _EVERYTHING:
            cache.forget_all()
        else:
            cache.forget(key)

    def _lost(self) -> None:
        self.is_hearing = False
        self._forget_everything()

    def _forget_everything(self) -> None:
        for cache in self._caches.values():
            cache.forget_all()
