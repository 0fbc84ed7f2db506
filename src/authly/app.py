"""The composition root: the one place where Authly's parts are put together."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI

from authly import __version__
from authly.administration import administration_of
from authly.api import oauth_errors, problems
from authly.api.admin import router as admin_router
from authly.api.admin.access import AdminAccess
from authly.api.applications_router import applications_router
from authly.api.auth_router import auth_router
from authly.api.authorize_router import authorize_router
from authly.api.dependencies import Browser
from authly.api.health_router import health_router
from authly.api.introspect_router import introspect_router
from authly.api.logout_router import logout_router
from authly.api.metadata_router import metadata_router
from authly.api.metrics_policy import AccessTokens, MetricsPolicy, TokenFile, TokenVerifier
from authly.api.metrics_router import Scraper, metrics_router
from authly.api.pages import Pages
from authly.api.par_router import par_router
from authly.api.revoke_router import revoke_router
from authly.api.routes import add_routes
from authly.api.token_router import token_router
from authly.api.userinfo_router import userinfo_router
from authly.core import logging
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.repository import Database
from authly.core.resource_manager import ResourceManager
from authly.core.security_log import SecurityLog
from authly.core.worker_collector import Tasks, WorkerCollector
from authly.identity import Identity, create_first_administrator
from authly.levels import levels
from authly.measuring import exporter_configuration
from authly.middleware import surround
from authly.monitoring.client_labels import HashedClientLabels
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import Group, StartupPhase, ThreadPool
from authly.monitoring.metrics import compose, no_metrics
from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess import values
from authly.monitoring.multiprocess.directory import DirectoryUnusableError
from authly.monitoring.multiprocess.metrics import start_sampling, stop_sampling
from authly.monitoring.recorders import Recorders
from authly.oauth_server import OAuthServer
from authly.secret_keys import client_labels_key
from authly.settings import Settings, load_settings
from authly.shared_state import SharedState
from authly.upkeep import upkeep

_log = structlog.stdlib.get_logger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Put an application together.

    Args:
        settings: what an operator chose; read from the environment by default.

    Raises:
        SettingsError: a variable of the environment holds something it does not accept.
        EmbeddedPostgresError: no database is configured, and none can be started.
        SecretKeyError: no secret key is configured, and none can be made.
    """
    began = time.perf_counter()
    settings = settings or load_settings()
    settings_took = time.perf_counter() - began
    logging.configure(settings.log_level, settings.log_format)
    metrics, directory = no_metrics(), None
    if settings.metrics_enabled:
        directory, problem = _keep_metrics_in(settings.metrics_directory, settings.metrics_max_bytes)
        instruments = Instruments("authly", resolution=settings.metrics_resolution)
        if settings.metrics_include_client_ids:
            instruments.client_labels = HashedClientLabels(client_labels_key(settings), directory)
        metrics = compose(settings.measured, instruments)
    # Under Gunicorn the master has started the embedded server by now, and the settings say where it is.
    embedded_postgres = EmbeddedPostgres(settings.state_path)
    database_url = settings.database_url or embedded_postgres.start()
    resources = ResourceManager(database_url, settings.database_pool_size, metrics.lifecycle, began)
    database = Database(resources.pool, metrics.database, availability=resources, timeout=settings.database_timeout)
    recorders = Recorders(metrics.oauth, metrics.auth, metrics.oidc, metrics.security)
    identity = Identity(settings, database, recorders=recorders)
    resources.before_ready(lambda: create_first_administrator(settings, identity.users))
    shared = SharedState(settings, database, resources.pool, database_url, metrics.cache, metrics.lifecycle)
    server = OAuthServer(settings, database, identity.audit, shared.caches, recorders)
    jobs = upkeep(settings, database_url, identity, server, shared.rate_limit_rows, metrics.cleanup)
    # What they work on has to be there.
    resources.before_ready(jobs.start)
    passwords = identity.hasher
    collector = WorkerCollector(
        metrics.runtime,
        metrics.database,
        resources.pool.get_stats,
        {ThreadPool.PASSWORDS: lambda: Tasks(passwords.running(), passwords.waiting())},
        settings.metrics_collection_interval,
    )

    counting = levels(settings, database, identity, server, shared, directory, metrics.levels)
    if Group.LEVELS in settings.measured:
        resources.before_ready(counting.start)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Never fails: Gunicorn takes a worker that fails to start for a reason to stop everything.
        await resources.start()
        await shared.start()
        metrics.lifecycle.update_application_info(settings.environment)
        metrics.lifecycle.update_startup_duration(StartupPhase.SETTINGS, settings_took)
        if settings.metrics_enabled:
            start_sampling(settings.metrics_collection_interval)
        if settings.measured & {Group.RUNTIME, Group.DATABASE}:
            await collector.start()
        yield
        stop_sampling()
        await counting.stop()
        await jobs.stop()
        await shared.stop()
        await collector.stop()
        await resources.stop()
        identity.hasher.close()

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
    add_routes(app, health_router(resources.check))
    pages = Pages(settings.theme.read_bytes() if settings.theme else b"", sign_up=settings.sign_up_enabled)
    problems.install(app, pages, SecurityLog(metrics.security))
    oauth_errors.install(app)
    browser = Browser(identity.sessions)
    add_routes(
        app,
        pages.router(),
        auth_router(
            browser,
            pages,
            identity.authentication,
            identity.users,
            settings.password_min_length,
            sign_up=settings.sign_up_enabled,
        ),
        authorize_router(
            server.authorization,
            server.interaction,
            server.login_markers,
            server.scopes,
            identity.users,
            browser,
            pages,
            server.endpoints.issuer,
            metrics.oauth,
        ),
        userinfo_router(server.userinfo, metrics.oidc),
        logout_router(server.logout, identity.authentication, browser, pages, metrics.oidc),
        token_router(server.pipeline),
        revoke_router(server.authenticator, server.revocation),
        introspect_router(server.authenticator, server.introspection),
        par_router(server.authenticator, server.pushed_requests),
        metadata_router(server.endpoints, server.scopes, server.keys, settings.jwks_max_age, metrics.oidc),
        applications_router(server.consents, server.clients, server.scopes, browser, pages),
    )
    admin_router.install(
        app,
        AdminAccess(server.tokens, identity.users, server.endpoints.issuer, identity.audit, metrics.security),
        administration_of(identity, server),
        clients=server.clients,
        scopes=server.scopes,
        users=identity.users,
        sessions=identity.sessions,
        tokens=server.tokens,
        consents=server.consents,
        audit=identity.audit,
    )
    if settings.metrics_enabled:
        scraper = Scraper(exporter_configuration(settings)._replace(directory=directory, problem=problem))
        verifiers: list[TokenVerifier] = []
        if settings.metrics_token_path:
            verifiers.append(TokenFile(settings.metrics_token_path, _log.error))
        if settings.metrics_access_tokens:
            verifiers.append(AccessTokens(server.tokens, server.endpoints.issuer))
        policy = MetricsPolicy(settings.metrics_allowed_networks, verifiers, metrics.security)
        add_routes(app, metrics_router(settings.metrics_path, scraper, policy))
    surround(app, settings, shared.rate_limits, server.clients.has_origin, metrics)
    return app


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
