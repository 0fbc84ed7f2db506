"""How many requests a key may make, counted in one place for all workers and all instances.

Owns the algorithm and the stores: Valkey (or Redis), PostgreSQL, and the memory of this process for when neither
answers. Knows nothing of HTTP, nor of what a key stands for: that is :mod:`authly.api.rate_limiter`.

The algorithm is the generic cell rate algorithm. For each key a store keeps one moment: the one at which the key has
used up nothing any more. A request moves it by one interval, and is refused when that would put it further ahead than
all requests of the limit together. One number is all there is to read and write, so each store can do it in one atomic
step, by its own clock; clocks of workers do not matter.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from authly.core.repository import Repository

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests at once, and so many for each period in the long run.

    Args:
        count: how many.
        period: of how many seconds.
    """

    count: int
    period: int

    @property
    def interval(self) -> int:
        """Microseconds after which one more request may be made; rounded up, so that the rate is never exceeded."""
        return -(-self.period * _SECOND // self.count)

    @property
    def window(self) -> int:
        """Microseconds that all requests of the limit use up together."""
        return self.interval * self.count

    def verdict(self, allowed: bool, backlog: int) -> "Verdict":
        """Put a store's answer into words.

        Args:
            allowed: whether the request may go on.
            backlog: microseconds until the key has used up nothing any more.
        """
        backlog = min(max(backlog, 0), self.window)
        wait = 0.0 if allowed else max(backlog + self.interval - self.window, 1) / _SECOND
        return Verdict(allowed, (self.window - backlog) // self.interval, wait, backlog / _SECOND)


class Verdict(NamedTuple):
    """What a request was told.

    Args:
        allowed: whether it may go on.
        remaining: how many more requests may follow at once.
        wait: seconds after which the next one may be made; 0 if this one may go on.
        reset: seconds after which everything is available again.
    """

    allowed: bool
    remaining: int
    wait: float
    reset: float


class Store(Protocol):
    """Where requests are counted.

    ``hit`` MUST be atomic among all processes that share the store. It MAY raise anything when the store is away.
    """

    name: str

    async def hit(self, key: str, limit: Limit) -> Verdict:
        """Count a request of a key, unless it goes beyond the limit."""


class MemoryStore:
    """Counts in this process alone, for one key in the place of each that was silent longest.

    Args:
        size: keys at most.
        clock: a monotonic clock, in seconds.
    """

    name = "memory"

    def __init__(self, size: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._clear_at: dict[str, int] = {}

    async def hit(self, key: str, limit: Limit) -> Verdict:
        """Count a request of a key, unless it goes beyond the limit."""
        now = int(self._clock() * _SECOND)
        # Taken out and put back in, so that the first in the dictionary is who has been silent longest.
        backlog = max(self._clear_at.pop(key, 0) - now, 0)
        allowed = backlog + limit.interval <= limit.window
        if allowed:
            backlog += limit.interval
        self._clear_at[key] = now + backlog
        if len(self._clear_at) > self._size:
            del self._clear_at[next(iter(self._clear_at))]
        return limit.verdict(allowed, backlog)


class PostgresStore(Repository):
    """Counts in the table ``rate_limits``."""

    name = "postgresql"

    # A row that is there is locked before it is looked at, and the clock is read after that. `allowed` is stored only
    # because RETURNING sees no more than the new row.
    _HIT = """
        INSERT INTO rate_limits AS r (key, clear_at, allowed)
        VALUES (%(key)s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + %(interval)s, true)
        ON CONFLICT (key) DO UPDATE SET (clear_at, allowed) = (
            SELECT CASE WHEN fits THEN start + %(interval)s ELSE start END, fits
            FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) AS clock,
                 LATERAL (SELECT greatest(r.clear_at, now) AS start) AS begun,
                 LATERAL (SELECT start + %(interval)s <= now + %(window)s AS fits) AS judged
        )
        RETURNING allowed, clear_at - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS backlog
    """
    _FORGET = """
        DELETE FROM rate_limits WHERE key IN (
            SELECT key FROM rate_limits
            WHERE clear_at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
            LIMIT %s FOR UPDATE SKIP LOCKED
        )
    """

    async def hit(self, key: str, limit: Limit) -> Verdict:
        """Count a request of a key, unless it goes beyond the limit."""
        parameters = {"key": key, "interval": limit.interval, "window": limit.window}
        verdict = await self._one("rate_limits.hit", limit.verdict, self._HIT, parameters)
        assert verdict is not None
        return verdict

    async def forget(self, limit: int) -> int:
        """Delete rows of keys that have used up nothing, so many at most; return how many."""
        return await self._execute("rate_limits.forget", self._FORGET, (limit,))


class RedisStore:
    """Counts in Valkey or Redis, which forgets by itself.

    Args:
        client: a connected client.
    """

    name = "redis"

    _HIT = """
        local clock = redis.call('TIME')
        local now = clock[1] * 1000000 + clock[2]
        local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
        local backlog = math.max((tonumber(redis.call('GET', KEYS[1]) or 0)) - now, 0)
        if backlog + interval > window then
            return {0, backlog}
        end
        backlog = backlog + interval
        redis.call('SET', KEYS[1], string.format('%.0f', now + backlog), 'PX', math.ceil(backlog / 1000))
        return {1, backlog}
    """

    def __init__(self, client: "Redis") -> None:
        self._hit = client.register_script(self._HIT)

    async def hit(self, key: str, limit: Limit) -> Verdict:
        """Count a request of a key, unless it goes beyond the limit."""
        allowed, backlog = await self._hit(keys=[f"authly:rate:{key}"], args=[limit.interval, limit.window])
        return limit.verdict(bool(allowed), int(backlog))
