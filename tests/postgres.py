"""A real PostgreSQL for tests: one server for each test process, a fresh database for each test.

Use it with ``pytest_plugins = ["tests.postgres"]`` or by importing the fixtures into a ``conftest.py``.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from authly.core.database import connect, create_pool
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.migrations import migrate
from authly.core.postgres_keeper import KEEPER, is_locked
from authly.core.repository import Database
from tests.processes import children, process_state, wait_until


def postmaster_pid(state: Path) -> int:
    """Return the process id of a state directory's running server."""
    return int((state / "postgres/data/postmaster.pid").read_text().split("\n", 1)[0])


def keeper_pid(state: Path) -> int:
    """Return the process id of the keeper of a state directory's running server."""
    status = Path(f"/proc/{postmaster_pid(state)}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def has_keeper(state: Path) -> bool:
    """Tell whether a state directory has a keeper."""
    try:
        descriptor = os.open(state / "postgres/users.lock", os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return is_locked(descriptor, KEEPER)
    finally:
        os.close(descriptor)


def freeze(postmaster: int) -> list[int]:
    """Stop a server and everything it started; return the process ids, for whoever wakes it again.

    The postmaster first, and not by what the server says of itself: a connection that is just being opened has a
    process before it is listed anywhere, and would go on to answer.
    """
    os.kill(postmaster, signal.SIGSTOP)
    wait_until(lambda: process_state(postmaster) == "T")
    frozen = [postmaster, *children(postmaster)]
    for pid in frozen[1:]:
        os.kill(pid, signal.SIGSTOP)
    return frozen


def with_database(url: str, name: str) -> str:
    """Return a URL of the same server with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def create_state() -> Iterator[Callable[[Path], None]]:
    """Return what makes state directories whose PostgreSQL has been started once, and stopped again.

    To create a database takes a second of processor time, and to copy one next to none. What creation is like is the
    subject of tests of its own.
    """
    first = Path(tempfile.mkdtemp(prefix="authly-"))
    with EmbeddedPostgres(first):
        pass
    wait_until(lambda: not has_keeper(first))
    # What belongs to the first one alone: it would be taken for what happened to a copy.
    (first / "postgres/postgres.log").unlink()

    def create(state: Path) -> None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        # With its owners: PostgreSQL refuses to run as root.
        subprocess.run(["cp", "-a", str(first / "postgres"), str(state)], check=True)

    yield create
    shutil.rmtree(first)


@pytest.fixture(scope="session")
def postgres_server(create_state: Callable[[Path], None]) -> Iterator[str]:
    """Run a PostgreSQL for this test process and return the URL of its database ``authly``."""
    state = Path(tempfile.mkdtemp(prefix="authly-"))
    create_state(state)
    server = EmbeddedPostgres(state)
    try:
        yield server.start()
    finally:
        server.release()
        wait_until(lambda: not has_keeper(state))
        shutil.rmtree(state)


@contextmanager
def new_database(server: str, template: str = "template0") -> Iterator[str]:
    """Create a database, give its URL, and drop it in the end.

    Args:
        server: the URL of any database of the server.
        template: the name of the database to copy.
    """
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            # By writing its pages, which are few; to copy its files would take two checkpoints.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield with_database(server, name)
        wait_until(lambda: _drop(connection, name))


def _drop(connection: "psycopg.Connection[TupleRow]", name: str) -> bool:
    """Drop a database; tell whether that was allowed, which it is not while the server cleans up in it by itself."""
    try:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """Create an empty database and return its URL."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def _migrated(postgres_server: str) -> str:
    """Create a database that has the schema, for others to be copied from, and return its name."""
    name = f"migrated_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))

    async def apply() -> None:
        async with await connect(with_database(postgres_server, name)) as connection:
            await migrate(connection)

    asyncio.run(apply())
    return name


class _Kept:
    """A database with the schema that one test after the other uses, each of which finds it as new.

    To create a database for each of them takes a third of a second of processor time, for a copy of everything and for
    two checkpoints; few rows are deleted in hundredths of one.

    Args:
        server: the URL of any database of the server.
        template: the name of the database that has the schema.
    """

    _SCHEMA = """
        SELECT relname, relkind, relnatts, relchecks, relhastriggers, relhasrules, attname, atttypid, attnotnull
        FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
        WHERE relnamespace = 'public'::regnamespace ORDER BY relname, attnum
    """

    def __init__(self, server: str, template: str) -> None:
        self._server, self._template = server, template
        self._databases = ExitStack()
        self._make()

    def as_new(self) -> str:
        """Return its URL, after removing whatever was left in it."""
        try:
            clean = self._clean()
        except psycopg.OperationalError:
            # A test has ended this connection too.
            clean = False
        if not clean:
            self.close()
            self._make()
        return self.url

    def close(self) -> None:
        """Drop it."""
        self._databases.close()

    def _make(self) -> None:
        self.url = self._databases.enter_context(new_database(self._server, self._template))
        # Kept too: the server forks for each connection.
        self._connection = self._databases.enter_context(closing(psycopg.connect(self.url, autocommit=True)))
        self._schema = self._connection.execute(self._SCHEMA).fetchall()
        self._tables = sorted({row[0] for row in self._schema if row[1] == "r"})
        self._first = self._rows(self._connection, self._tables)

    def _clean(self) -> bool:
        """Have the rows of the beginning and no others; False if there are other tables."""
        connection = self._connection
        # Who was killed has not closed its connections, and what they hold would be waited for.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid != pg_backend_pid()"
        )
        with connection.transaction():
            if connection.execute(self._SCHEMA).fetchall() != self._schema:
                return False
            found = self._rows(connection, self._tables)
            if changed := [table for table in self._tables if found[table] != self._first[table]]:
                names = sql.SQL(", ").join(map(sql.Identifier, changed))
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
                found = self._rows(connection, self._tables)
            for table in self._tables:
                if found[table] != self._first[table]:
                    into = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
                    with connection.cursor().copy(into) as copy:
                        copy.write(self._first[table])
        return True

    @staticmethod
    def _rows(connection: "psycopg.Connection[TupleRow]", tables: list[str]) -> dict[str, bytes]:
        """Return the contents of tables."""
        rows = {}
        for table in tables:
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
                rows[table] = b"".join(map(bytes, copy))
        return rows


@pytest.fixture(scope="session")
def _kept(postgres_server: str, _migrated: str) -> Iterator[_Kept]:
    """Keep a database for tests to use one after the other."""
    kept = _Kept(postgres_server, _migrated)
    yield kept
    kept.close()


@pytest.fixture
def migrated_url(_kept: _Kept) -> str:
    """Return the URL of a database with the schema and no rows."""
    return _kept.as_new()


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """A database with the schema and no rows, as repositories see it. For asynchronous tests (``anyio``)."""
    async with create_pool(migrated_url, 8) as pool:
        yield Database(pool, timeout=60)
