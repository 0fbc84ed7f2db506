"""From settings to the middleware around the application."""

from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import FastAPI

from authly.api.admin_middleware import AdminMiddleware
from authly.api.cors_middleware import CORSMiddleware
from authly.api.forwarding import ForwardingMiddleware
from authly.api.logging_middleware import LoggingMiddleware
from authly.api.rate_limiter import Policy, RateLimiter, RateLimitMiddleware
from authly.api.security_middleware import SecurityMiddleware
from authly.core.rate_limits import Limit, Store
from authly.monitoring.labels import Group
from authly.monitoring.metrics import Metrics
from authly.monitoring.middleware import MetricsMiddleware
from authly.oauth import endpoints
from authly.oidc import configuration
from authly.settings import Settings

# Each of the first three costs the hash of a password.
_POLICIES = {
    ("POST", "/login"): Policy.LOGIN,
    ("POST", "/signup"): Policy.LOGIN,
    ("POST", "/account/password"): Policy.LOGIN,
    ("POST", endpoints.TOKEN): Policy.TOKEN,
    ("POST", endpoints.REVOKE): Policy.TOKEN,
    ("POST", endpoints.PAR): Policy.TOKEN,
    ("POST", endpoints.INTROSPECT): Policy.INTROSPECT,
}
# What applications in browsers call. Introspection is not for them, nor are pages.
_CLIENT_PATHS = frozenset({endpoints.TOKEN, endpoints.REVOKE, endpoints.PAR, configuration.USERINFO})
_PUBLIC_PATHS = ("/.well-known/", endpoints.JWKS)
# What has to answer whatever happens, and what is the same for everybody.
_UNLIMITED = ("/health/", "/static/", *_PUBLIC_PATHS)


def surround(
    app: FastAPI,
    settings: Settings,
    store: Store,
    is_client_origin: Callable[[str], Awaitable[bool]],
    metrics: Metrics,
) -> None:
    """Put all middleware around an application, from the innermost to the outermost.

    Args:
        app: the application.
        settings: what an operator chose.
        store: where limits are counted.
        is_client_origin: whether a page of an origin is a client's.
        metrics: whom to tell.
    """
    limiter = RateLimiter(
        store, _limits(settings), frozenset(map(Policy, settings.rate_limit_fail_open)), metrics.rate_limit
    )
    # Scrapes have a limit of their own, which the exporter keeps.
    unlimited = (*_UNLIMITED, settings.metrics_path)
    refused = {("POST", "/login"): partial(metrics.auth.login_failed, "rate_limited")}
    app.add_middleware(RateLimitMiddleware, limiter=limiter, policies=_POLICIES, exempt=unlimited, refused=refused)
    app.add_middleware(
        AdminMiddleware, networks=settings.admin_networks, metrics=metrics.admin, events=metrics.security
    )
    app.add_middleware(
        CORSMiddleware,
        client_paths=_CLIENT_PATHS,
        public_paths=_PUBLIC_PATHS,
        is_allowed=is_client_origin,
        metrics=metrics.security,
    )
    app.add_middleware(
        SecurityMiddleware,
        hosts=settings.allowed_hosts,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics.security,
    )
    if Group.HTTP in settings.measured:
        app.add_middleware(MetricsMiddleware, metrics=metrics.http)
    app.add_middleware(LoggingMiddleware)
    app.add_middleware(ForwardingMiddleware, proxies=settings.trusted_proxies)


def _limits(settings: Settings) -> dict[Policy, Limit | None]:
    rates = {
        Policy.LOGIN: settings.rate_limit_login,
        Policy.TOKEN: settings.rate_limit_token,
        Policy.INTROSPECT: settings.rate_limit_introspect,
        Policy.DEFAULT: settings.rate_limit_default,
    }
    return {policy: Limit(*rate) if rate else None for policy, rate in rates.items()}
