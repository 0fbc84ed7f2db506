"""A real PostgreSQL for tests: one server for each test process, a fresh database for each test.

Use it with ``pytest_plugins = ["tests.postgres"]`` or by importing the fixtures into a ``conftest.py``.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.postgres_keeper import KEEPER, is_locked


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> float:
    """Wait for a condition and return how long it took; fail when it does not come true."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not true after {seconds} s: {condition}")
        time.sleep(0.01)
    return time.monotonic() - began


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


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int) -> None:
    """End a process that this test started, at once."""
    os.kill(pid, signal.SIGKILL)


def with_database(url: str, name: str) -> str:
    """Return a URL of the same server with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL for this test process and return the URL of its database ``authly``."""
    state = Path(tempfile.mkdtemp(prefix="authly-"))
    server = EmbeddedPostgres(state)
    try:
        yield server.start()
    finally:
        server.release()
        wait_until(lambda: not has_keeper(state))
        shutil.rmtree(state)


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """Create an empty database and return its URL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy").format(sql.Identifier(name))
        )
        yield with_database(postgres_server, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
