"""Telling every worker of every instance that something it may have cached has changed.

Owns the channel: Valkey's publish and subscribe where there is a Valkey, PostgreSQL's NOTIFY and LISTEN elsewhere. Does
not own what is cached, which is :mod:`authly.core.cache`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from authly.core.database import Pool

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHANNEL = "authly_invalidation"
_HEARTBEAT = 10.0
_ANSWER_TIMEOUT = 2.0


class Channel(Protocol):
    """Carries messages to whoever listens, including who published them. Nobody is sure to hear all of them."""

    async def publish(self, message: str) -> None:
        """Send a message to everybody who listens. Raises whatever keeps it from being sent."""

    async def listen(self, on_listening: Callable[[], None], on_message: Callable[[str], None]) -> None:
        """Listen until the connection is lost, and raise why.

        Args:
            on_listening: called when everything that is published from then on will be heard.
            on_message: called with each message.
        """


class PostgresChannel:
    """NOTIFY and LISTEN, on a connection of its own.

    Args:
        pool: what messages are sent through.
        connect: opens the connection to listen on. Where a transaction pooler stands between, nothing is ever heard.
    """

    def __init__(self, pool: Pool, connect: Callable[[], Awaitable[AsyncConnection[TupleRow]]]) -> None:
        self._pool = pool
        self._connect = connect

    async def publish(self, message: str) -> None:
        """Send a message to everybody who listens."""
        async with self._pool.connection() as connection:
            await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, message))

    async def listen(self, on_listening: Callable[[], None], on_message: Callable[[str], None]) -> None:
        """Listen until the connection is lost, and raise why."""
        connection = await self._connect()
        try:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            on_listening()
            while True:
                async for notification in connection.notifies(timeout=_HEARTBEAT):
                    on_message(notification.payload)
                # A server that vanished says nothing either.
                async with asyncio.timeout(_ANSWER_TIMEOUT):
                    await connection.execute("SELECT 1")
        finally:
            await connection.close()


class RedisChannel:
    """PUBLISH and SUBSCRIBE.

    Args:
        client: a client; it keeps a connection of its own to listen on.
    """

    def __init__(self, client: "Redis") -> None:
        self._client = client

    async def publish(self, message: str) -> None:
        """Send a message to everybody who listens."""
        await self._client.publish(CHANNEL, message)

    async def listen(self, on_listening: Callable[[], None], on_message: Callable[[str], None]) -> None:
        """Listen until the connection is lost, and raise why."""
        from redis.exceptions import ConnectionError as RedisConnectionError

        subscription = self._client.pubsub()
        try:
            await subscription.subscribe(CHANNEL)
            answered = True
            while True:
                message = await subscription.get_message(timeout=_HEARTBEAT)
                if message is None:
                    if not answered:
                        raise RedisConnectionError("no answer in time")
                    await subscription.ping()
                    answered = False
                elif message["type"] == "subscribe":
                    on_listening()
                elif message["type"] == "pong":
                    answered = True
                else:
                    on_message(message["data"])
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]


class WatchedChannel:
    """Another channel, and somebody who wants to know whether it can be used.

    Args:
        channel: the other one.
        on_connected: called with the seconds that it took to begin to listen.
        on_lost: called when listening has ended, or could not begin.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        channel: Channel,
        on_connected: Callable[[float], None],
        on_lost: Callable[[], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._channel = channel
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._clock = clock

    async def publish(self, message: str) -> None:
        """Send a message to everybody who listens."""
        await self._channel.publish(message)

    async def listen(self, on_listening: Callable[[], None], on_message: Callable[[str], None]) -> None:
        """Listen until the connection is lost, and raise why."""
        began = self._clock()

        def listening() -> None:
            self._on_connected(self._clock() - began)
            on_listening()

        try:
            await self._channel.listen(listening, on_message)
        except Exception:
            self._on_lost()
            raise
