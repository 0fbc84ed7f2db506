"""What every store of rate limits has to do, and what those that are shared have to do between processes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest

from authly.core.database import connect, create_pool
from authly.core.migrations import migrate
from authly.core.rate_limits import Limit, MemoryStore, PostgresStore, RedisStore, Store
from authly.core.repository import Database
from authly.core.valkey import create_client
from tests.valkey import Valkey

pytestmark = pytest.mark.anyio

HOURLY = Limit(20, 3600)


@asynccontextmanager
async def open_store(name: str, address: str) -> AsyncIterator[Store]:
    """Connect to a store."""
    async with AsyncExitStack() as stack:
        if name == "postgresql":
            pool = create_pool(address, 4)
            await pool.open(wait=True)
            stack.push_async_callback(pool.close)
            yield PostgresStore(Database(pool))
        elif name == "redis":
            client = create_client(address, 10)
            stack.push_async_callback(client.aclose)
            yield RedisStore(client)
        else:
            yield MemoryStore()


async def prepare(url: str) -> None:
    """Create the tables of a database."""
    connection = await connect(url)
    await migrate(connection)
    await connection.close()


@pytest.fixture(params=["postgresql", "redis"])
def shared(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name and the address of a store that processes share, ready for use."""
    if request.param == "redis":
        server: Valkey = request.getfixturevalue("valkey")
        return "redis", server.url
    url: str = request.getfixturevalue("database_url")
    asyncio.run(prepare(url))
    return "postgresql", url


@pytest.fixture(params=["memory", "postgresql", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each store in turn."""
    name, address = request.param, ""
    if name == "redis":
        address = request.getfixturevalue("valkey").url
    elif name == "postgresql":
        address = request.getfixturevalue("database_url")
        await prepare(address)
    async with open_store(name, address) as opened:
        yield opened


def new_key() -> str:
    """Return a key that no other test uses."""
    return os.urandom(8).hex()


async def test_exactly_the_limit_is_allowed(store: Store) -> None:
    """As many requests as the limit says go on at once, the next is told when it may come."""
    key = new_key()
    verdicts = [await store.hit(key, HOURLY) for _ in range(25)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 20 + [False] * 5
    assert [verdict.remaining for verdict in verdicts] == [*range(19, -1, -1), *[0] * 5]
    assert all(verdict.wait == 0 for verdict in verdicts[:20])
    assert all(150 < verdict.wait <= 180 for verdict in verdicts[20:])
    assert 150 < verdicts[0].reset <= 180
    assert 3500 < verdicts[-1].reset <= 3600


async def test_keys_do_not_disturb_each_other(store: Store) -> None:
    """What one key used up, another one has."""
    limit = Limit(1, 3600)
    first, second = new_key(), new_key()
    assert (await store.hit(first, limit)).allowed
    assert not (await store.hit(first, limit)).allowed
    assert (await store.hit(second, limit)).allowed


async def test_after_the_wait_one_more_is_allowed(store: Store) -> None:
    """Whoever waits as long as he was told may go on; being refused costs nothing."""
    limit, key = Limit(2, 1), new_key()
    while (verdict := await store.hit(key, limit)).allowed:
        pass
    assert 0 < verdict.wait <= 0.5
    await asyncio.sleep(verdict.wait)
    assert (await store.hit(key, limit)).allowed


@pytest.mark.parametrize("limit", [Limit(7, 60), Limit(3, 86400), Limit(999, 7000)])
async def test_limits_that_do_not_divide(store: Store, limit: Limit) -> None:
    """A period that is no multiple of its count loses no request to rounding."""
    key = new_key()
    first = await store.hit(key, limit)
    assert first.remaining == limit.count - 1
    assert limit.window >= limit.period * 1_000_000


async def test_concurrent_requests(store: Store) -> None:
    """Of many requests at once, exactly as many go on as may."""
    key = new_key()
    verdicts = await asyncio.gather(*(store.hit(key, HOURLY) for _ in range(60)))
    assert sum(verdict.allowed for verdict in verdicts) == 20


HAMMER = """
import asyncio, sys, time
from authly.core.database import create_pool
from authly.core.rate_limits import Limit, PostgresStore, RedisStore
from authly.core.repository import Database
from authly.core.valkey import create_client

async def main(name, address, key):
    if name == "postgresql":
        pool = create_pool(address, 4)
        await pool.open(wait=True)
        store, close = PostgresStore(Database(pool)), pool.close
    else:
        client = create_client(address, 10)
        store, close = RedisStore(client), client.aclose
    print("ready", flush=True)
    await asyncio.sleep(float(sys.stdin.readline()) - time.time())
    allowed = 0
    for _ in range(10):
        verdicts = await asyncio.gather(*(store.hit(key, Limit(100, 3600)) for _ in range(10)))
        allowed += sum(verdict.allowed for verdict in verdicts)
    print(allowed, flush=True)
    await close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_processes_at_once(shared: tuple[str, str]) -> None:
    """Of 400 requests from four processes at once, exactly the hundred that may go on do."""
    arguments = [sys.executable, "-c", HAMMER, *shared, new_key()]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        # All begin at one moment.
        begin = f"{time.time() + 0.3}\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(begin)
        found = [int(process.stdout.readline()) for process in processes if process.stdout]
    assert sum(found) == 100


async def test_rows_that_count_nothing_are_deleted(database_url: str) -> None:
    """PostgreSQL's rows go in batches once they have used up nothing, and not before."""
    await prepare(database_url)
    connection = await connect(database_url)
    async with open_store("postgresql", database_url) as opened:
        assert isinstance(opened, PostgresStore)
        for number in range(5):
            await opened.hit(f"short:{number}", Limit(1000, 1))
        await opened.hit("long", HOURLY)
        gone = 0
        while gone < 5:
            deleted = await opened.forget(2)
            assert deleted <= 2
            gone += deleted
        assert await opened.forget(100) == 0
        rows = await (await connection.execute("SELECT key FROM rate_limits")).fetchall()
        assert rows == [("long",)]
    await connection.close()
