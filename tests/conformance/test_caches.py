"""What caches of several workers do together, whichever channel they tell each other through."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import psycopg
import pytest

from authly.core.cache import Cache, Caches
from authly.core.database import connect, create_pool
from authly.core.invalidation import Channel, PostgresChannel, RedisChannel
from authly.core.valkey import create_client
from tests.valkey import Valkey

pytestmark = pytest.mark.anyio


class Counts(dict[tuple[str, str, str], int]):
    """Counts what caches tell."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Count it."""
        self[cache, operation, status] = self.get((cache, operation, status), 0) + 1


class Source:
    """What caches load from: numbers that grow with every change."""

    def __init__(self) -> None:
        self.value = 1
        self.loads = 0

    async def load(self) -> int | None:
        """Return the number as it is."""
        self.loads += 1
        return self.value


class Worker:
    """The caches of one worker."""

    def __init__(self, channel: Channel, ttl: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = Counts()
        self.caches = Caches(channel, ttl, self.counts, clock)
        self.clients: Cache[int] = self.caches.create("clients", size=3)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 15.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


@pytest.fixture(params=["postgresql", "redis"])
async def new_channel(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Awaitable[Channel]]]:
    """What makes a channel as a worker has it."""
    async with AsyncExitStack() as stack:

        async def make() -> Channel:
            if request.param == "redis":
                client = create_client(address, 10)
                stack.push_async_callback(client.aclose)
                return RedisChannel(client)
            pool = create_pool(address, 2)
            await pool.open(wait=True)
            stack.push_async_callback(pool.close)
            return PostgresChannel(pool, partial(connect, address))

        if request.param == "redis":
            address: str = request.getfixturevalue("valkey").url
        else:
            address = request.getfixturevalue("database_url")
        yield make


@pytest.fixture
async def workers(new_channel: Callable[[], Awaitable[Channel]]) -> AsyncIterator[list[Worker]]:
    """Three workers that hear each other."""
    made = [Worker(await new_channel()) for _ in range(3)]
    for worker in made:
        await worker.caches.start()
    await eventually(lambda: all(worker.caches.is_hearing for worker in made))
    yield made
    for worker in made:
        await worker.caches.stop()


async def test_what_was_loaded_is_remembered(workers: list[Worker]) -> None:
    """The second look-up asks nobody."""
    source, (worker, *_) = Source(), workers
    assert [await worker.clients.get("a", source.load) for _ in range(3)] == [1, 1, 1]
    assert source.loads == 1
    assert worker.counts == {("clients", "get", "miss"): 1, ("clients", "get", "hit"): 2}


async def test_a_change_reaches_every_worker(workers: list[Worker]) -> None:
    """After a change each worker soon has the new value, the one that made it at once, and other values stay."""
    source, other = Source(), Source()
    for worker in workers:
        await worker.clients.get("a", source.load)
        await worker.clients.get("b", other.load)
    source.value = 2
    await workers[0].clients.invalidate("a")
    assert await workers[0].clients.get("a", source.load) == 2
    for worker in workers[1:]:

        async def is_new(worker: Worker = worker) -> bool:
            return await worker.clients.get("a", source.load) == 2

        await eventually(is_new)
    assert [await worker.clients.get("b", other.load) for worker in workers] == [1, 1, 1]
    assert other.loads == 3
    assert workers[0].counts["clients", "invalidate", "success"] == 1


async def test_keys_of_any_form(workers: list[Worker]) -> None:
    """A key may hold whatever a client id may."""
    key, source = "a:b/ü 'x\" https://example.com/", Source()
    for worker in workers:
        await worker.clients.get(key, source.load)
    await workers[0].clients.invalidate(key)
    await eventually(lambda: not any(len(worker.clients) for worker in workers))


async def test_an_old_value_that_arrives_late_is_not_remembered(workers: list[Worker]) -> None:
    """A value that was read before a change, and arrives after it, is returned to who asked and then forgotten."""
    first, second = workers[:2]
    may_go_on = asyncio.Event()

    async def load_slowly() -> int | None:
        await may_go_on.wait()
        return 1

    loading = asyncio.create_task(second.clients.get("a", load_slowly))
    await asyncio.sleep(0)
    before = second.clients._generation
    await first.clients.invalidate("a")
    await eventually(lambda: second.clients._generation > before)
    may_go_on.set()
    assert await loading == 1
    assert len(second.clients) == 0


async def test_that_there_is_none_is_not_remembered(workers: list[Worker]) -> None:
    """Keys that somebody makes up take no room."""

    async def none() -> int | None:
        return None

    assert await workers[0].clients.get("made up", none) is None
    assert len(workers[0].clients) == 0


async def test_what_was_not_asked_for_longest_goes_first(workers: list[Worker]) -> None:
    """A cache has a size."""
    source, (worker, *_) = Source(), workers
    for key in ["a", "b", "c", "a", "d"]:
        await worker.clients.get(key, source.load)
    assert len(worker.clients) == 3
    loads = source.loads
    for key in ["a", "c", "d"]:
        await worker.clients.get(key, source.load)
    assert source.loads == loads


async def test_values_expire(new_channel: Callable[[], Awaitable[Channel]]) -> None:
    """Nothing is remembered longer than the setting says, whether anybody is heard or not."""
    now = 0.0
    worker = Worker(await new_channel(), ttl=30.0, clock=lambda: now)
    await worker.caches.start()
    await eventually(lambda: worker.caches.is_hearing)
    source = Source()
    await worker.clients.get("a", source.load)
    source.value, now = 2, 29.9
    assert await worker.clients.get("a", source.load) == 1
    now = 30.0
    assert await worker.clients.get("a", source.load) == 2
    await worker.caches.stop()


async def test_nothing_is_remembered_before_anything_is_heard(new_channel: Callable[[], Awaitable[Channel]]) -> None:
    """A worker that cannot hear of changes asks each time; nor does one whose caching is switched off remember."""
    for ttl in (60.0, 0.0):
        worker, source = Worker(await new_channel(), ttl), Source()
        if ttl == 0:
            await worker.caches.start()
        for _ in range(2):
            await worker.clients.get("a", source.load)
        assert source.loads == 2
        await worker.caches.stop()


async def test_a_connection_that_is_lost(database_url: str) -> None:
    """A worker whose connection is cut forgets everything, asks each time, and remembers again once it hears again."""
    pool = create_pool(database_url, 2)
    await pool.open(wait=True)
    worker = Worker(PostgresChannel(pool, partial(connect, database_url)))
    await worker.caches.start()
    await eventually(lambda: worker.caches.is_hearing)
    source = Source()
    await worker.clients.get("a", source.load)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
    await eventually(lambda: len(worker.clients) == 0)
    source.value = 2
    assert await worker.clients.get("a", source.load) == 2
    await eventually(lambda: worker.caches.is_hearing)
    loads = source.loads
    await worker.clients.get("a", source.load)
    await worker.clients.get("a", source.load)
    assert source.loads <= loads + 1
    await worker.caches.stop()
    await pool.close()


async def test_a_valkey_that_is_killed(own_valkey: Valkey) -> None:
    """While it is away nothing is remembered and invalidating fails nobody; afterwards all is as before."""
    client = create_client(own_valkey.url)
    worker = Worker(RedisChannel(client))
    await worker.caches.start()
    await eventually(lambda: worker.caches.is_hearing)
    source = Source()
    await worker.clients.get("a", source.load)
    own_valkey.kill()
    await eventually(lambda: not worker.caches.is_hearing)
    await worker.clients.invalidate("a")
    assert worker.counts["clients", "invalidate", "error"] == 1
    assert [await worker.clients.get("a", source.load) for _ in range(2)] == [1, 1]
    assert source.loads == 3
    own_valkey.start()
    await eventually(lambda: worker.caches.is_hearing)
    assert [await worker.clients.get("a", source.load) for _ in range(2)] == [1, 1]
    assert source.loads == 4
    await worker.caches.stop()
    await client.aclose()
