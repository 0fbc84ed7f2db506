"""Named queries: what is reported of them, transactions, and a database that is away."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from authly.core.database import create_pool
from authly.core.repository import Database, DatabaseUnavailableError, Repository, Status

pytestmark = pytest.mark.anyio


class Numbers(Repository):
    """Keeps numbers, in a table of its own."""

    async def create(self) -> None:
        """Create the table."""
        await self._execute("numbers.create", "CREATE TABLE numbers (number integer PRIMARY KEY)")

    async def add(self, number: int) -> int:
        """Add a number; return how many rows that were."""
        return await self._execute("numbers.add", "INSERT INTO numbers VALUES (%s)", (number,))

    async def all(self) -> list[int]:
        """Return all numbers."""
        return await self._all("numbers.all", lambda *, number: int(number), "SELECT number FROM numbers ORDER BY 1")

    async def first(self, above: int) -> int | None:
        """Return the first number above another."""
        query = "SELECT number FROM numbers WHERE number > %(above)s ORDER BY 1"
        return await self._one("numbers.first", lambda *, number: int(number), query, {"above": above})

    async def wait(self) -> None:
        """Take longer than allowed."""
        await self._execute("numbers.wait", "SELECT pg_terminate_backend(pg_backend_pid())")

    async def sleep(self) -> None:
        """Take longer than any test."""
        await self._execute("numbers.sleep", "SELECT pg_sleep(60)")


class Observer:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Status, float]] = []

    def query_ended(self, operation: str, status: Status, seconds: float) -> None:
        """Remember it."""
        self.seen.append((operation, status, seconds))


class Availability:
    """Knows what a test says."""

    def __init__(self) -> None:
        self.away = False
        self.doubts = 0

    def is_away(self) -> bool:
        """Tell what the test said."""
        return self.away

    def doubt(self) -> None:
        """Count it."""
        self.doubts += 1


@pytest.fixture
async def parts(database_url: str) -> AsyncIterator[tuple[Database, Observer, Availability]]:
    """A database with whoever looks on, and a clock that goes on a second at each look."""
    observer, availability, ticks = Observer(), Availability(), iter(range(1000))
    async with create_pool(database_url, 4) as pool:
        yield Database(pool, observer, lambda: float(next(ticks)), availability), observer, availability


async def test_rows_and_counts(parts: tuple[Database, Observer, Availability]) -> None:
    """Rows become what the repository makes of them; changes are counted."""
    numbers = Numbers(parts[0])
    await numbers.create()
    assert await numbers.add(2) == 1
    assert await numbers.add(1) == 1
    assert await numbers.all() == [1, 2]
    assert await numbers.first(1) == 2
    assert await numbers.first(2) is None


async def test_each_query_is_reported_once(parts: tuple[Database, Observer, Availability]) -> None:
    """With its name, its outcome and its time, whether it stands alone or in a transaction."""
    database, observer, _ = parts
    numbers = Numbers(database)
    await numbers.create()
    async with database.transaction() as transaction:
        await numbers.within(transaction).add(1)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await numbers.add(1)
    assert observer.seen == [
        ("numbers.create", "success", 1.0),
        ("numbers.add", "success", 1.0),
        ("numbers.add", "error", 1.0),
    ]


async def test_what_takes_several_queries_is_reported_too(parts: tuple[Database, Observer, Availability]) -> None:
    """As one operation around them, which has failed if one of them has; the error is raised as it is."""
    database, observer, _ = parts
    numbers = Numbers(database)
    await numbers.create()
    with database.timed("numbers.compound"):
        await numbers.add(1)
        await numbers.add(2)
    with pytest.raises(psycopg.errors.UniqueViolation), database.timed("numbers.compound"):
        await numbers.add(1)
    assert observer.seen[1:] == [
        ("numbers.add", "success", 1.0),
        ("numbers.add", "success", 1.0),
        ("numbers.compound", "success", 5.0),
        ("numbers.add", "error", 1.0),
        ("numbers.compound", "error", 3.0),
    ]


async def test_a_transaction_is_undone_as_a_whole(parts: tuple[Database, Observer, Availability]) -> None:
    """What raises in the middle leaves nothing behind, and is raised as it is."""
    database = parts[0]
    numbers = Numbers(database)
    await numbers.create()

    async def undone() -> None:
        async with database.transaction() as transaction:
            await numbers.within(transaction).add(1)
            assert await numbers.within(transaction).all() == [1]
            assert await numbers.all() == []
            raise KeyError("as it is")

    with pytest.raises(KeyError, match="as it is"):
        await undone()
    assert await numbers.all() == []


async def test_a_connection_that_is_lost(parts: tuple[Database, Observer, Availability]) -> None:
    """It is said that the database is away, somebody is told to look, and the next query has another connection."""
    database, observer, availability = parts
    numbers = Numbers(database)
    await numbers.create()
    with pytest.raises(DatabaseUnavailableError):
        await numbers.wait()
    assert observer.seen[-1][:2] == ("numbers.wait", "error")
    assert availability.doubts == 1
    assert await numbers.all() == []


async def test_a_server_that_takes_too_long(database_url: str) -> None:
    """A query or a transaction that does not end in time counts as a database that is away; the next one goes on."""
    availability = Availability()
    async with create_pool(database_url, 1) as pool:
        database = Database(pool, availability=availability, timeout=0.2)
        numbers = Numbers(database)
        await numbers.create()
        with pytest.raises(DatabaseUnavailableError):
            await numbers.sleep()
        assert availability.doubts == 1

        async def transact() -> None:
            async with database.transaction() as transaction:
                await numbers.within(transaction).add(1)
                await numbers.within(transaction).sleep()

        with pytest.raises(DatabaseUnavailableError):
            await transact()
        assert availability.doubts == 2
        assert await numbers.all() == []


async def test_a_database_that_is_known_to_be_away_is_not_asked(
    parts: tuple[Database, Observer, Availability],
) -> None:
    """Nobody waits for the pool to find out; what is under way may go on."""
    database, observer, availability = parts
    numbers = Numbers(database)
    await numbers.create()
    async with database.transaction() as transaction:
        availability.away = True
        await numbers.within(transaction).add(1)
    seen = len(observer.seen)
    with pytest.raises(DatabaseUnavailableError):
        await numbers.all()
    with pytest.raises(DatabaseUnavailableError):
        await database.transaction().__aenter__()
    assert len(observer.seen) == seen
    availability.away = False
    assert await numbers.all() == [1]


async def test_a_closed_pool_is_a_database_that_is_away(database_url: str) -> None:
    """Before the pool is open, and after it was closed, queries fail as they do without a server."""
    pool: Any = create_pool(database_url, 1)
    with pytest.raises(DatabaseUnavailableError):
        await Numbers(Database(pool)).all()
