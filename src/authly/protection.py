"""From settings to what guards the application, and to what its workers have in common."""

from functools import partial

from fastapi import FastAPI

from authly.api.admin_middleware import AdminMiddleware
from authly.api.client_address import ClientAddressMiddleware
from authly.api.rate_limiter import Policy, RateLimiter, RateLimitMiddleware
from authly.api.security_middleware import SecurityMiddleware
from authly.core.cache import Caches
from authly.core.database import Pool, connect
from authly.core.invalidation import PostgresChannel, RedisChannel
from authly.core.rate_limits import Limit, PostgresStore, RedisStore
from authly.core.repository import Database
from authly.core.valkey import create_client
from authly.monitoring.metrics import Metrics
from authly.settings import Settings

_POLICIES = {
    ("POST", "/login"): Policy.LOGIN,
    ("POST", "/oauth2/token"): Policy.TOKEN,
    ("POST", "/oauth2/revoke"): Policy.TOKEN,
    ("POST", "/oauth2/par"): Policy.TOKEN,
    ("POST", "/oauth2/introspect"): Policy.INTROSPECT,
}
# What has to answer whatever happens, and what is the same for everybody.
_UNLIMITED = ("/health/", "/.well-known/", "/static/")


class Protection:
    """The state that workers share, in Valkey or in PostgreSQL, and the middleware that stands on it.

    Args:
        settings: what an operator chose.
        database: where limits are counted if there is no Valkey.
        pool: of its connections.
        database_url: where it is.
        metrics: whom to tell.
    """

    def __init__(self, settings: Settings, database: Database, pool: Pool, database_url: str, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._valkey = create_client(settings.redis_url) if settings.redis_url else None
        self.rate_limit_rows = PostgresStore(database)
        self._store = RedisStore(self._valkey) if self._valkey else self.rate_limit_rows
        channel = RedisChannel(self._valkey) if self._valkey else PostgresChannel(pool, partial(connect, database_url))
        self.caches = Caches(channel, settings.cache_ttl, metrics)

    async def start(self) -> None:
        """Begin to listen for what other workers change."""
        await self.caches.start()

    async def stop(self) -> None:
        """Close what was opened."""
        await self.caches.stop()
        if self._valkey is not None:
            await self._valkey.aclose()

    def guard_inside(self, app: FastAPI) -> None:
        """Add the middleware that belongs inside of logging and metrics."""
        settings, metrics = self._settings, self._metrics
        fail_open = frozenset(map(Policy, settings.rate_limit_fail_open))
        limiter = RateLimiter(self._store, _limits(settings), fail_open, metrics)
        # From the innermost to the outermost.
        app.add_middleware(
            RateLimitMiddleware, limiter=limiter, policies=_POLICIES, exempt=(*_UNLIMITED, settings.metrics_path)
        )
        app.add_middleware(AdminMiddleware, networks=settings.admin_networks, metrics=metrics)
        app.add_middleware(
            SecurityMiddleware,
            hosts=settings.allowed_hosts,
            max_body_bytes=settings.max_body_bytes,
            metrics=metrics,
        )

    def guard_outside(self, app: FastAPI) -> None:
        """Add the middleware that belongs outside of everything else."""
        app.add_middleware(
            ClientAddressMiddleware,
            trusted=self._settings.trusted_proxies,
            # Nobody but a proxy is in front of a Unix socket.
            trust_unix=self._settings.bind.startswith("unix:"),
        )


def _limits(settings: Settings) -> dict[Policy, Limit | None]:
    rates = {
        Policy.LOGIN: settings.rate_limit_login,
        Policy.TOKEN: settings.rate_limit_token,
        Policy.INTROSPECT: settings.rate_limit_introspect,
        Policy.DEFAULT: settings.rate_limit_default,
    }
    return {policy: Limit(*rate) if rate else None for policy, rate in rates.items()}
