"""Connections to Valkey, or Redis, which speaks the same protocol.

Owns how Authly connects and how long it waits. Does not own what is kept there, which is nothing that could not be
lost: counts of rate limits, and messages that something changed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis

# In a data centre an answer takes less than a millisecond; a store that needs longer costs more than it is worth.
TIMEOUT = 0.25


def create_client(url: str, timeout: float = TIMEOUT) -> "Redis":
    """Build a client, which connects when it is first used.

    A connection that broke since its last use is replaced at once; apart from that nothing is tried twice.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: seconds that connecting may take, and an answer.
    """
    # Here, since the import costs 60 ms and many have no Valkey.
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError

    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        client_name="authly",
        decode_responses=True,
    )
    return client
