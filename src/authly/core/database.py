"""Connections to PostgreSQL.

Owns how Authly connects, the pool, and what connection errors are called in words an operator understands. Does not
own when the pool is opened and closed: that is :mod:`authly.core.resource_manager`.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]

CONNECT_TIMEOUT = 3
_CHECK_TIMEOUT = 1.0
_CONNECTION_OPTIONS = {
    "autocommit": True,
    "application_name": "authly",
    # libpq knows no shorter timeout than two seconds.
    "connect_timeout": CONNECT_TIMEOUT,
    # A server that vanished from the network is noticed within seconds, not a quarter of an hour.
    "tcp_user_timeout": 5000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
# Whoever has a connection can go on.
FULL = "the server has no connection left"
_SIMPLE_REASONS = {
    "connection refused": "connection refused",
    "no such file": "there is no socket at this path",
    "password authentication failed": "the user name or the password is wrong",
    "no pg_hba.conf entry": "the server does not admit this user from this host",
    "timeout": "no answer in time",
    "timed out": "no answer in time",
    "failed to resolve host": "the host name cannot be resolved",
    "could not translate host name": "the host name cannot be resolved",
    "starting up": "the server is starting up",
    "not yet accepting connections": "the server is starting up",
    "shutting down": "the server is shutting down",
    "terminating connection": "the server ended the connection",
    "server closed the connection": "the server ended the connection",
    "the connection is lost": "the server ended the connection",
    "too many clients": FULL,
    "remaining connection slots": FULL,
}


async def connect(url: str) -> AsyncConnection[TupleRow]:
    """Open a connection of its own, configured like those of the pool."""
    return await AsyncConnection.connect(url, **_CONNECTION_OPTIONS)  # type: ignore[arg-type]


def create_pool(url: str, size: int) -> Pool:
    """Build a pool that is not open yet.

    A connection is checked before it is handed out, so a server that was restarted costs nobody an error. Waiting for
    a connection ends after three seconds, trying to open one after two: the pool then tries again when asked, rather
    than at ever longer intervals.
    """
    # Failing attempts are reported once, by the resource manager. The pool would report each of them.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    return AsyncConnectionPool(
        url,
        kwargs=_CONNECTION_OPTIONS,
        min_size=1,
        max_size=size,
        open=False,
        check=_check,
        timeout=3.0,
        reconnect_timeout=2.0,
        name="authly",
    )


@contextlib.contextmanager
def answering_within(connection: AsyncConnection[TupleRow], seconds: float) -> Iterator[None]:
    """Break a connection unless the block ends in time: whoever waits for the server sees that the connection ended.

    Cancelling would not do. A server that hangs accepts connections and acknowledges bytes, so nothing else notices;
    and psycopg would ask it, politely, to cancel the query, and wait for the answer.

    Args:
        connection: on which the block asks the server.
        seconds: that it may take.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _break, connection)
    try:
        yield
    finally:
        timer.cancel()


def _break(connection: AsyncConnection[TupleRow]) -> None:
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


async def _check(connection: AsyncConnection[TupleRow]) -> None:
    with answering_within(connection, _CHECK_TIMEOUT):
        await AsyncConnectionPool.check_connection(connection)


def explain(error: Exception, url: str) -> str:
    """Say in a few words, without a password, why the database cannot be used."""
    if isinstance(error, PoolTimeout):
        return "no connection became free in time"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(error).strip()
    for sign, reason in _SIMPLE_REASONS.items():
        if sign in text.lower():
            return reason
    try:
        password = conninfo_to_dict(url).get("password")
    except psycopg.Error:
        return "the database URL cannot be understood"
    line = text.splitlines()[0] if text else type(error).__name__
    return line.replace(str(password), "***") if password else line
