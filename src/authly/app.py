"""The composition root: the one place where Authly's parts are put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from fastapi import FastAPI

from authly import __version__
from authly.api.admin_middleware import AdminMiddleware
from authly.api.client_address import ClientAddressMiddleware
from authly.api.health_router import health_router
from authly.api.logging_middleware import LoggingMiddleware
from authly.api.metrics_router import Scraper, metrics_router
from authly.api.rate_limiter import Policy, RateLimiter, RateLimitMiddleware
from authly.api.security_middleware import SecurityMiddleware
from authly.core import logging
from authly.core.cache import Caches
from authly.core.database import connect
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.invalidation import PostgresChannel, RedisChannel
from authly.core.jobs import JOBS_LOCK, Election, Job, Jobs
from authly.core.rate_limits import Limit, PostgresStore, RedisStore
from authly.core.repository import Database
from authly.core.resource_manager import ResourceManager
from authly.core.valkey import create_client
from authly.measuring import exporter_configuration
from authly.monitoring.metrics import AuthlyMetrics, Metrics, NullMetrics
from authly.monitoring.middleware import MetricsMiddleware
from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess import values
from authly.monitoring.multiprocess.directory import DirectoryUnusableError
from authly.monitoring.multiprocess.metrics import start_sampling, stop_sampling
from authly.settings import Settings, load_settings

RATE_LIMIT_POLICIES = {
    ("POST", "/login"): Policy.LOGIN,
    ("POST", "/oauth2/token"): Policy.TOKEN,
    ("POST", "/oauth2/revoke"): Policy.TOKEN,
    ("POST", "/oauth2/par"): Policy.TOKEN,
    ("POST", "/oauth2/introspect"): Policy.INTROSPECT,
}

_log = structlog.stdlib.get_logger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Put an application together.

    Args:
        settings: what an operator chose; read from the environment by default.

    Raises:
        SettingsError: a variable of the environment holds something it does not accept.
        EmbeddedPostgresError: no database is configured, and none can be started.
    """
    settings = settings or load_settings()
    logging.configure(settings.log_level, settings.log_format)
    # Under Gunicorn the master has started the embedded server by now, and the settings say where it is.
    embedded_postgres = EmbeddedPostgres(settings.state_path)
    database_url = settings.database_url or embedded_postgres.start()
    resources = ResourceManager(database_url, settings.database_pool_size)
    metrics: Metrics = NullMetrics()
    if settings.metrics_enabled:
        directory, problem = _keep_metrics_in(settings.metrics_directory, settings.metrics_max_bytes)
        metrics = AuthlyMetrics()
    # What all workers of all instances have in common: Valkey has it, or PostgreSQL.
    valkey = create_client(settings.redis_url) if settings.redis_url else None
    connect_to_database = partial(connect, database_url)
    rate_limit_rows = PostgresStore(Database(resources.pool))
    caches = Caches(
        RedisChannel(valkey) if valkey else PostgresChannel(resources.pool, connect_to_database),
        settings.cache_ttl,
        metrics,
    )
    jobs = Jobs(
        Election(connect_to_database, JOBS_LOCK),
        [Job("rate_limits", 300.0, rate_limit_rows.forget)],
        metrics,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Never fails: Gunicorn takes a worker that fails to start for a reason to stop everything.
        await resources.start()
        await caches.start()
        await jobs.start()
        metrics.update_application_info(settings.environment)
        if settings.metrics_enabled:
            start_sampling(settings.metrics_collection_interval)
        yield
        stop_sampling()
        await jobs.stop()
        await caches.stop()
        if valkey is not None:
            await valkey.aclose()
        await resources.stop()

    app = FastAPI(
        title="Authly",
        version=__version__,
        lifespan=lifespan,
        # The pages for these load their scripts from elsewhere; the document itself stays at /openapi.json.
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    # This process is the server's user for as long as it has an application.
    app.state.embedded_postgres = embedded_postgres
    app.include_router(health_router(resources.check))
    store = RedisStore(valkey) if valkey else rate_limit_rows
    limiter = RateLimiter(store, _limits(settings), frozenset(map(Policy, settings.rate_limit_fail_open)), metrics)
    # Added from the innermost to the outermost.
    app.add_middleware(
        RateLimitMiddleware,
        limiter=limiter,
        policies=RATE_LIMIT_POLICIES,
        exempt=("/health/", "/.well-known/", settings.metrics_path),
    )
    app.add_middleware(AdminMiddleware, networks=settings.admin_networks, metrics=metrics)
    app.add_middleware(
        SecurityMiddleware,
        hosts=settings.allowed_hosts,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
    )
    if settings.metrics_enabled:
        scraper = Scraper(exporter_configuration(settings)._replace(directory=directory, problem=problem))
        app.include_router(metrics_router(settings.metrics_path, scraper))
        app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(LoggingMiddleware)
    app.add_middleware(
        ClientAddressMiddleware,
        trusted=settings.trusted_proxies,
        # Nobody but a proxy is in front of a Unix socket.
        trust_unix=settings.bind.startswith("unix:"),
    )
    return app


def _limits(settings: Settings) -> dict[Policy, Limit | None]:
    rates = {
        Policy.LOGIN: settings.rate_limit_login,
        Policy.TOKEN: settings.rate_limit_token,
        Policy.INTROSPECT: settings.rate_limit_introspect,
        Policy.DEFAULT: settings.rate_limit_default,
    }
    return {policy: Limit(*rate) if rate else None for policy, rate in rates.items()}


def _keep_metrics_in(directory: Path, max_bytes: int) -> tuple[Path | None, str]:
    """Decide where this process keeps its metrics; return the directory, or None and why there is none.

    Under Gunicorn the hooks have decided by now. Elsewhere (one ``uvicorn`` process in development) this does.
    """
    if not values.is_installed():
        try:
            for warning in metrics_directory.check(directory):
                _log.warning(warning)
            values.install(directory, max_bytes)
        except DirectoryUnusableError as error:
            _log.error("each process keeps its metrics to itself", reason=str(error))
            values.install(None)
            return None, str(error)
    store = values.install(directory)
    return (store.directory, "") if store else (None, "the metrics directory cannot be used; the log says why")
