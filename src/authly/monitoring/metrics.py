"""Every layer of metrics of Authly, and what puts those together that are wanted.

Whoever has something to record is given the layer that it is about (docs/decisions/0068). A group that is off is there
all the same and records nothing; nobody asks which it is. A recording call takes enums and numbers, does no I/O beyond
a write to mapped memory, and never raises.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from authly.monitoring.admin_metrics import AdminMetrics, AdminRecorder, NullAdminMetrics
from authly.monitoring.authentication_metrics import AuthenticationMetrics
from authly.monitoring.cache_metrics import CacheMetrics, CacheRecorder, NullCacheMetrics
from authly.monitoring.cleanup_metrics import CleanupMetrics, CleanupRecorder, NullCleanupMetrics
from authly.monitoring.database_metrics import DatabaseMetrics, DatabaseRecorder, NullDatabaseMetrics
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import Group
from authly.monitoring.level_metrics import LevelMetrics
from authly.monitoring.lifecycle_metrics import LifecycleMetrics, LifecycleRecorder, NullLifecycleMetrics
from authly.monitoring.middleware import HTTPMetrics
from authly.monitoring.oauth_metrics import OAuthMetrics
from authly.monitoring.oidc_metrics import OIDCMetrics
from authly.monitoring.rate_limit_metrics import NullRateLimitMetrics, RateLimitMetrics, RateLimitRecorder
from authly.monitoring.recorders import (
    AuthenticationRecorder,
    LevelRecorder,
    NullAuthenticationMetrics,
    NullLevelMetrics,
    NullOAuthMetrics,
    NullOIDCMetrics,
    NullSecurityMetrics,
    OAuthRecorder,
    OIDCRecorder,
    SecurityRecorder,
)
from authly.monitoring.request_metrics import NullRequestMetrics, RequestMetrics
from authly.monitoring.runtime_metrics import NullRuntimeMetrics, RuntimeMetrics, RuntimeRecorder
from authly.monitoring.security_metrics import SecurityMetrics


@dataclass(frozen=True, slots=True)
class Metrics:
    """What can be recorded, by layer."""

    http: HTTPMetrics
    oauth: OAuthRecorder
    auth: AuthenticationRecorder
    oidc: OIDCRecorder
    levels: LevelRecorder
    database: DatabaseRecorder
    cache: CacheRecorder
    rate_limit: RateLimitRecorder
    security: SecurityRecorder
    admin: AdminRecorder
    cleanup: CleanupRecorder
    runtime: RuntimeRecorder
    lifecycle: LifecycleRecorder


class LayerKind(NamedTuple):
    """What a group of metrics is recorded with.

    Args:
        field: of :class:`Metrics`.
        real: makes what records.
        null: makes what does not.
    """

    field: str
    real: Callable[[Instruments], Any]
    null: Callable[[], Any]


LAYERS: Final[Mapping[Group, LayerKind]] = {
    Group.HTTP: LayerKind("http", RequestMetrics, NullRequestMetrics),
    Group.OAUTH: LayerKind("oauth", OAuthMetrics, NullOAuthMetrics),
    Group.AUTH: LayerKind("auth", AuthenticationMetrics, NullAuthenticationMetrics),
    Group.OIDC: LayerKind("oidc", OIDCMetrics, NullOIDCMetrics),
    Group.LEVELS: LayerKind("levels", LevelMetrics, NullLevelMetrics),
    Group.DATABASE: LayerKind("database", DatabaseMetrics, NullDatabaseMetrics),
    Group.CACHE: LayerKind("cache", CacheMetrics, NullCacheMetrics),
    Group.RATE_LIMIT: LayerKind("rate_limit", RateLimitMetrics, NullRateLimitMetrics),
    Group.SECURITY: LayerKind("security", SecurityMetrics, NullSecurityMetrics),
    Group.ADMIN: LayerKind("admin", AdminMetrics, NullAdminMetrics),
    Group.CLEANUP: LayerKind("cleanup", CleanupMetrics, NullCleanupMetrics),
    Group.RUNTIME: LayerKind("runtime", RuntimeMetrics, NullRuntimeMetrics),
    Group.LIFECYCLE: LayerKind("lifecycle", LifecycleMetrics, NullLifecycleMetrics),
}


def compose(groups: Collection[Group] = tuple(Group), instruments: Instruments | None = None) -> Metrics:
    """Return what records the metrics of some groups and nothing of the others.

    Args:
        groups: what is on; everything by default.
        instruments: make the metrics; by default those of Authly, in prometheus-client's registry. Without a group
            that is on, none are made.
    """
    if groups and instruments is None:
        instruments = Instruments("authly")
    return Metrics(
        **{
            layer.field: layer.real(instruments) if instruments is not None and group in groups else layer.null()
            for group, layer in LAYERS.items()
        }
    )


def no_metrics() -> Metrics:
    """Return what records nothing."""
    return compose(())
