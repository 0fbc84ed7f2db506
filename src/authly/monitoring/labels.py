"""Closed vocabularies for label values.

Nothing that a client can choose freely becomes a label value: what is outside a vocabulary becomes ``other``.
"""

from collections.abc import Mapping
from enum import StrEnum

OTHER = "other"
UNMATCHED = "unmatched"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
# Far more routes than an application has; reached only where a route template leaks a value that clients choose.
MAX_ENDPOINTS = 512

# What metrics of Authly, of its exporter and of Gunicorn are told apart by. A constant label is none of these.
LABEL_NAMES = frozenset(
    {
        "action", "algorithm", "backend", "cache", "client_id", "client_type", "collector", "dependency", "endpoint",
        "environment", "event", "event_type", "generation", "grant_type", "initiator", "kind", "listener", "method",
        "metric", "mode", "operation", "outcome", "phase", "policy", "pool", "python_version", "reason", "resource",
        "response_type", "role", "severity", "state", "status", "status_code", "task", "token_type", "type", "version",
        "worker",
    }
)  # fmt: skip
# What formats and Prometheus itself use.
RESERVED_LABEL_NAMES = frozenset({"le", "quantile", "job", "instance"})

# Here, because the workers and the exporter count them, and one family must have one name and one help text.
SECURITY_EVENTS = "authly_security_events"
SECURITY_EVENTS_HELP = "Events that may be part of an attack."


class Group(StrEnum):
    """Metrics that are switched on and off together."""

    HTTP = "http"
    DATABASE = "database"
    CACHE = "cache"
    RATE_LIMIT = "ratelimit"
    SECURITY = "security"
    ADMIN = "admin"
    CLEANUP = "cleanup"
    RUNTIME = "runtime"
    LIFECYCLE = "lifecycle"


class SecurityEvent(StrEnum):
    """What happened."""

    METRICS_DENIED = "metrics_denied"
    ADMIN_DENIED = "admin_denied"
    CORS_REJECTED = "cors_rejected"
    HOST_REJECTED = "host_rejected"


class Severity(StrEnum):
    """How much an event means by itself."""

    LOW = "low"
    MEDIUM = "medium"


SEVERITIES: Mapping[SecurityEvent, tuple[Severity, ...]] = {
    SecurityEvent.METRICS_DENIED: (Severity.LOW, Severity.MEDIUM),
    SecurityEvent.ADMIN_DENIED: (Severity.MEDIUM,),
    SecurityEvent.CORS_REJECTED: (Severity.LOW,),
    SecurityEvent.HOST_REJECTED: (Severity.LOW,),
}


class RunStatus(StrEnum):
    """How a run of a periodic job ended."""

    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"


# Names of business code, which cannot be imported from here; tests see to it that they are the same.
CACHES = ("clients", "scopes")
CACHE_OPERATIONS = {"get": ("hit", "miss"), "invalidate": ("success", "error")}
TASKS = (
    "tokens",
    "pushed_requests",
    "assertions",
    "sessions",
    "login_failures",
    "devices",
    "rate_limits",
    "audit_log",
    "signing_keys",
    "backchannel_logouts",
)
RATE_LIMIT_POLICIES = ("login", "token", "introspect", "default")
RATE_LIMIT_BACKENDS = ("redis", "postgresql", "memory")
ADMIN_RESOURCES = (
    "clients",
    "scopes",
    "users",
    "sessions",
    "tokens",
    "consents",
    "keys",
    "audit-log",
    "statistics",
    OTHER,
)
ADMIN_ACTIONS = ("create", "read", "update", "delete", OTHER)


class Dependency(StrEnum):
    """What Authly needs of others."""

    DATABASE = "database"
    CACHE = "cache"


class StartupPhase(StrEnum):
    """A part of a worker's start."""

    SETTINGS = "settings"
    DATABASE = "database"
    MIGRATIONS = "migrations"
    CACHE = "cache"
    TOTAL = "total"


class ThreadPool(StrEnum):
    """Threads that do what would hold up the event loop."""

    PASSWORDS = "passwords"


class Vocabulary:
    """A set of label values that may grow to a bound and no further.

    Args:
        values: what is in it from the start.
        size: how many values it may hold; by default those it starts with.
    """

    __slots__ = ("_size", "_values")

    def __init__(self, values: frozenset[str], size: int = 0) -> None:
        self._values = set(values)
        self._size = max(size, len(values))

    def __call__(self, value: str) -> str:
        """Return the value if the vocabulary has it or has room for it, else ``other``."""
        if value in self._values:
            return value
        if len(self._values) < self._size:
            self._values.add(value)
            return value
        return OTHER
