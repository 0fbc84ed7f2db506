"""What every repository stands on: named queries, on the pool or inside one transaction.

Owns how a query is run, timed and reported, and what a database that is away is called. Holds no SQL.

A repository is built on :class:`Database`, where each query stands for itself, and :meth:`Repository.within` gives the
same repository inside a transaction::

    async with database.transaction() as transaction:
        await users.within(transaction).add(user)
        await credentials.within(transaction).set(...)
"""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Literal, LiteralString, NamedTuple, Protocol, Self, TypeVar

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow, kwargs_row

from authly.core.database import Pool, answering_within

T = TypeVar("T")
Parameters = Mapping[str, Any] | Sequence[Any] | None
Sql = LiteralString | sql.Composed
Status = Literal["success", "error"]

# What an index finds, and a row that another transaction has for a moment, take milliseconds.
_TIMEOUT = 5.0
_AWAY = "The database does not answer at this moment."


class DatabaseUnavailableError(RuntimeError):
    """The database does not answer now; the same request may succeed later."""


class Availability(Protocol):
    """Whoever knows whether the database answers."""

    def is_away(self) -> bool:
        """Tell whether it is known not to answer, so that nobody need wait to find out."""

    def doubt(self) -> None:
        """Note that it did not answer."""


class AlwaysAvailable:
    """Knows nothing: each query finds out by itself."""

    def is_away(self) -> bool:
        """Tell that it may answer."""
        return False

    def doubt(self) -> None:
        """Do nothing."""


class QueryObserver(Protocol):
    """Whoever wants to know of each query."""

    def query_ended(self, operation: str, status: Status, seconds: float, /) -> None:
        """Note that a query ended, without the time spent waiting for a connection."""


class NullObserver:
    """Wants to know nothing."""

    def query_ended(self, operation: str, status: Status, seconds: float) -> None:
        """Do nothing."""


class DatabaseTimer:
    """Times an operation, and reports how it ended: a query, or what takes several of them.

    Args:
        observer: is told.
        operation: its name in metrics.
        timer: what to time with, in seconds.
    """

    __slots__ = ("_began", "_observer", "_operation", "_timer")

    def __init__(self, observer: QueryObserver, operation: str, timer: Callable[[], float]) -> None:
        self._observer = observer
        self._operation = operation
        self._timer = timer
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = self._timer()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        status: Status = "success" if error is None else "error"
        self._observer.query_ended(self._operation, status, self._timer() - self._began)


class Result(NamedTuple):
    """What a query gave: its rows, and how many rows it returned or changed."""

    rows: list[Any]
    changed: int


class Executor(ABC):
    """Runs named queries on connections that it owns.

    Args:
        observer: is told of each query.
        timer: what to time with, in seconds.
        availability: knows whether the database answers.
    """

    def __init__(self, observer: QueryObserver, timer: Callable[[], float], availability: Availability) -> None:
        self._observer = observer
        self._timer = timer
        self._availability = availability

    @abstractmethod
    def _connection(self) -> AbstractAsyncContextManager[AsyncConnection[TupleRow]]:
        """Return a connection for one query."""

    @abstractmethod
    def afterwards(self, act: Callable[[], None]) -> None:
        """Do something as soon as what was done here holds for good; not at all if it is undone."""

    def timed(self, operation: str) -> DatabaseTimer:
        """Return what times an operation of several queries, from the wait for a connection to the last of them.

        Args:
            operation: its name in metrics. The queries count under theirs all the same.
        """
        return DatabaseTimer(self._observer, operation, self._timer)

    async def run(self, operation: str, query: Sql, parameters: Parameters, make: Callable[..., Any]) -> Result:
        """Run a query.

        Args:
            operation: its name in metrics, such as ``users.find``.
            query: explicit SQL.
            parameters: its values.
            make: called for each row, with the columns as keyword arguments.

        Raises:
            DatabaseUnavailableError: the database is away.
            psycopg.Error: it refused the query.
        """
        with self._available():
            async with self._connection() as connection, connection.cursor(row_factory=kwargs_row(make)) as cursor:
                with self.timed(operation):
                    await cursor.execute(query, parameters)
                    rows = await cursor.fetchall() if cursor.description else []
                return Result(rows, cursor.rowcount)

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            # Without a code there was no answer; class 57 is what a server says that ends.
            if error.sqlstate is None or error.sqlstate.startswith("57P"):
                self._availability.doubt()
            raise DatabaseUnavailableError(_AWAY) from error


class Transaction(Executor):
    """Runs queries that take effect together or not at all. Made by :meth:`Database.transaction`."""

    def __init__(
        self,
        connection: AsyncConnection[TupleRow],
        observer: QueryObserver,
        timer: Callable[[], float],
        availability: Availability,
    ) -> None:
        super().__init__(observer, timer, availability)
        self._pinned = connection
        self._afterwards: list[Callable[[], None]] = []

    def afterwards(self, act: Callable[[], None]) -> None:
        """Do something once the transaction is committed."""
        self._afterwards.append(act)

    def conclude(self) -> None:
        """Do what was to be done afterwards."""
        for act in self._afterwards:
            act()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        yield self._pinned


class Database(Executor):
    """Runs queries on the connections of a pool, each by itself.

    Args:
        pool: the worker's connections.
        observer: is told of each query.
        timer: what to time with, in seconds.
        availability: knows whether the database answers.
        timeout: seconds that a query or a transaction may take; after that, the database counts as away.
    """

    def __init__(
        self,
        pool: Pool,
        observer: QueryObserver | None = None,
        timer: Callable[[], float] = time.perf_counter,
        availability: Availability | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        super().__init__(observer or NullObserver(), timer, availability or AlwaysAvailable())
        self._pool = pool
        self._timeout = timeout

    def afterwards(self, act: Callable[[], None]) -> None:
        """Do something now: each query stands for itself."""
        act()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        if self._availability.is_away():
            raise DatabaseUnavailableError(_AWAY)
        async with self._pool.connection() as connection:
            with answering_within(connection, self._timeout):
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin a transaction, committed at the end of the block and undone if the block raises.

        Raises:
            DatabaseUnavailableError: the database is away, or went away before it confirmed the commit.
        """
        with self._available():
            async with self._connection() as connection, connection.transaction():
                transaction = Transaction(connection, self._observer, self._timer, self._availability)
                yield transaction
        transaction.conclude()


class Repository:
    """Holds the SQL of one aggregate.

    Args:
        executor: runs it.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def within(self, transaction: Transaction) -> Self:
        """Return this repository inside a transaction."""
        return type(self)(transaction)

    async def _all(self, operation: str, make: Callable[..., T], query: Sql, parameters: Parameters = None) -> list[T]:
        """Return what is made of each row."""
        return (await self._executor.run(operation, query, parameters, make)).rows

    async def _one(self, operation: str, make: Callable[..., T], query: Sql, parameters: Parameters = None) -> T | None:
        """Return what is made of the first row, or None if there is none."""
        rows: list[T] = (await self._executor.run(operation, query, parameters, make)).rows
        return rows[0] if rows else None

    async def _execute(self, operation: str, query: Sql, parameters: Parameters = None) -> int:
        """Return how many rows were changed."""
        return (await self._executor.run(operation, query, parameters, dict)).changed
