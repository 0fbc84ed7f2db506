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
from contextlib import contextmanager
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
def new_database(server: str, template: str = "template0", strategy: str = "file_copy") -> Iterator[str]:
    """Create a database, give its URL, and drop it in the end.

    Args:
        server: the URL of any database of the server.
        template: the name of the database to copy.
        strategy: how; ``wal_log`` is faster where there is little to copy and others write at the same time.
    """
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
                sql.Identifier(name), sql.Identifier(template), sql.Identifier(strategy)
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


@pytest.fixture
def migrated_url(postgres_server: str, _migrated: str) -> Iterator[str]:
    """Create a database with the schema and no rows, and return its URL."""
    with new_database(postgres_server, _migrated, "wal_log") as url:
        yield url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """A database with the schema and no rows, as repositories see it. For asynchronous tests (``anyio``)."""
    async with create_pool(migrated_url, 8) as pool:
        yield Database(pool, timeout=60)
