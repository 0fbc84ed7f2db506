"""How requests count that nobody could answer: because the database is away, or something is broken."""

from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from authly.api import oauth_errors, problems
from authly.api.authorize_router import authorize_router
from authly.api.dependencies import Browser
from authly.api.introspect_router import introspect_router
from authly.api.logout_router import logout_router
from authly.api.metadata_router import metadata_router
from authly.api.pages import Pages
from authly.api.token_router import token_router
from authly.api.userinfo_router import userinfo_router
from authly.core.repository import DatabaseUnavailableError
from authly.core.security_log import SecurityLog
from authly.monitoring.instruments import Instruments
from authly.monitoring.metrics import Metrics, compose
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.endpoints import Endpoints
from authly.oauth.grants.client_credentials import ClientCredentialsGrant
from authly.oauth.introspection import IntrospectionService
from authly.oauth.token_pipeline import TokenPipeline

pytestmark = pytest.mark.anyio

AWAY = DatabaseUnavailableError("The database does not answer at this moment.")
BROKEN = RuntimeError("this cannot be")
ENDINGS = [(AWAY, "temporarily_unavailable"), (BROKEN, "server_error")]


class Broken:
    """A service, a repository, anything: whatever it is asked for, it fails.

    Args:
        error: how.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method."""

        async def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


class Marked(Broken):
    """Markers that know of none."""

    def read(self, query: bytes) -> tuple[bytes, None]:
        """Return the query."""
        return query, None


class NoSessions:
    """Knows nobody."""

    async def resume(self, _: str | None) -> None:
        """Return none."""


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where metrics are registered."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    """All metrics."""
    return compose(instruments=Instruments("authly", registry))


def application(error: Exception, metrics: Metrics) -> FastAPI:
    """Return the endpoints, with nothing behind them that works."""
    app, pages, browser = FastAPI(), Pages(), Browser(cast("Any", NoSessions()))
    broken: Any = Broken(error)
    problems.install(app, pages, SecurityLog(metrics.security))
    oauth_errors.install(app)
    authenticator = ClientAuthenticator(broken, frozenset(), broken, metrics.oauth)
    grants = [ClientCredentialsGrant(broken, "")]
    for router in (
        authorize_router(broken, broken, cast("Any", Marked(error)), broken, broken, browser, pages, "", metrics.oauth),
        token_router(TokenPipeline(authenticator, grants, metrics.oauth)),
        introspect_router(authenticator, IntrospectionService(broken, "", metrics.oauth)),
        userinfo_router(broken, metrics.oidc),
        logout_router(broken, broken, browser, pages, metrics.oidc),
        metadata_router(Endpoints("http://here"), broken, broken, 1, metrics.oidc),
    ):
        app.include_router(router)
    return app


REQUESTS = [
    ("POST", "/oauth2/token", "oauth_token_requests_total", {"grant_type": "client_credentials", "client_id": ""}),
    ("GET", "/oauth2/authorize", "oauth_authorization_requests_total", {"response_type": "other", "client_id": ""}),
    ("GET", "/.well-known/openid-configuration", "oidc_requests_total", {"endpoint": "discovery"}),
    ("GET", "/.well-known/oauth-authorization-server", "oidc_requests_total", {"endpoint": "discovery"}),
    ("GET", "/jwks", "oidc_requests_total", {"endpoint": "jwks"}),
    ("GET", "/oidc/userinfo", "oidc_requests_total", {"endpoint": "userinfo"}),
    ("GET", "/oidc/logout", "oidc_requests_total", {"endpoint": "logout"}),
]


@pytest.mark.produces("authly_oauth_token_requests_total", status=("server_error", "temporarily_unavailable"))
@pytest.mark.produces("authly_oauth_authorization_requests_total", status=("server_error", "temporarily_unavailable"))
@pytest.mark.produces("authly_oauth_client_authentications_total", status=("error",))
@pytest.mark.produces("authly_oidc_requests_total", status=("server_error", "temporarily_unavailable"))
async def test_what_nobody_could_answer_counts_as_such(registry: CollectorRegistry, metrics: Metrics) -> None:
    """Each endpoint that is asked in vain counts once, under the code that says whose fault it is."""
    for error, status in ENDINGS:
        transport = httpx.ASGITransport(application(error, metrics), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            for method, path, metric, labels in REQUESTS:

                def counted(name: str = metric, labels: dict[str, str] = {**labels, "status": status}) -> float:  # noqa: B006
                    return registry.get_sample_value(f"authly_{name}", labels) or 0.0

                before = counted()
                data = {"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}
                headers = {"authorization": "Bearer x"} if "userinfo" in path else {}
                answer = await client.request(method, path, data=data if method == "POST" else None, headers=headers)
                assert answer.status_code == (503 if error is AWAY else 500), path
                assert counted() == before + 1, path
    proof = {"method": "client_secret_post", "status": "error"}
    assert registry.get_sample_value("authly_oauth_client_authentications_total", proof) == len(ENDINGS)
