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
    OAUTH = "oauth"
    AUTH = "auth"
    OIDC = "oidc"
    LEVELS = "levels"
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

    CODE_REUSE = "code_reuse"
    REFRESH_REUSE = "refresh_reuse"
    PKCE_MISMATCH = "pkce_mismatch"
    REDIRECT_URI_MISMATCH = "redirect_uri_mismatch"
    BAD_TOKEN_ALGORITHM = "bad_token_algorithm"
    ACCOUNT_LOCKED = "account_locked"
    CSRF_REJECTED = "csrf_rejected"
    METRICS_DENIED = "metrics_denied"
    ADMIN_DENIED = "admin_denied"
    CORS_REJECTED = "cors_rejected"
    HOST_REJECTED = "host_rejected"


class Severity(StrEnum):
    """How much an event means by itself."""

    # Happens to people and to clients that are set up wrongly, too.
    LOW = "low"
    # Somebody tries something.
    MEDIUM = "medium"
    # Somebody had what is not theirs.
    HIGH = "high"


class ClientEndpoint(StrEnum):
    """Where a client can be met."""

    AUTHORIZE = "authorize"
    TOKEN = "token"
    PAR = "par"
    INTROSPECT = "introspect"
    REVOKE = "revoke"


# How much each can mean.
SEVERITIES: Mapping[SecurityEvent, tuple[Severity, ...]] = {
    SecurityEvent.CODE_REUSE: (Severity.HIGH,),
    SecurityEvent.REFRESH_REUSE: (Severity.HIGH,),
    SecurityEvent.PKCE_MISMATCH: (Severity.MEDIUM,),
    SecurityEvent.REDIRECT_URI_MISMATCH: (Severity.MEDIUM,),
    SecurityEvent.BAD_TOKEN_ALGORITHM: (Severity.MEDIUM,),
    SecurityEvent.ACCOUNT_LOCKED: (Severity.MEDIUM,),
    SecurityEvent.CSRF_REJECTED: (Severity.LOW,),
    # Without credentials nothing was tried.
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
# The memory of a worker answers at once, and always.
RATE_LIMIT_STORES = ("redis", "postgresql")
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


# What follows repeats vocabularies of packages that monitoring must not know; tests hold them together.
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
RESPONSE_TYPES = ("code",)
AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
AUTHENTICATION_STATUSES = ("success", "failure", "error")
# How a token request can end: RFC 6749, section 5.2, RFC 8707, section 2, and what section 4.1.2.1 has for 5xx.
TOKEN_STATUSES = (
    "success",
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "server_error",
    "temporarily_unavailable",
)
# How an authorization request can end: RFC 6749, section 4.1.2.1, RFC 8707, RFC 9126, and OpenID Connect Core 3.1.2.6.
AUTHORIZATION_STATUSES = (
    "success",
    "invalid_request",
    "unauthorized_client",
    "access_denied",
    "unsupported_response_type",
    "invalid_scope",
    "invalid_target",
    "invalid_request_uri",
    "request_not_supported",
    "request_uri_not_supported",
    "login_required",
    "consent_required",
    "unmet_authentication_requirements",
    "server_error",
    "temporarily_unavailable",
)
INTROSPECTION_STATUSES = ("active", "inactive", "error")
# What is signed, and takes time.
SIGNED_TOKENS = ("access_token", "id_token")
# What each grant can give.
ISSUED_TOKENS = (
    ("access_token", "authorization_code"),
    ("access_token", "refresh_token"),
    ("access_token", "client_credentials"),
    ("refresh_token", "authorization_code"),
    ("refresh_token", "refresh_token"),
    ("id_token", "authorization_code"),
    ("id_token", "refresh_token"),
)
# A family is an authorization with everything that it led to; access tokens alone are revoked by their client, by an
# administrator, and with the client that has them for itself.
REVOCATIONS = (
    ("access_token", "client"),
    ("access_token", "admin"),
    ("family", "client"),
    ("family", "logout"),
    ("family", "admin"),
    ("family", "consent"),
    ("family", "code_reuse"),
    ("family", "refresh_reuse"),
)
ACTIVE_TOKENS = ("access_token", "refresh_token")
CLIENT_TYPES = ("confidential", "public")

LOGIN_METHODS = ("password",)
LOGIN_STATUSES = ("success", "failure", "error")
# That there is no such user is no reason of its own: it would tell who is one.
LOGIN_FAILURES = ("credentials", "locked", "disabled", "rate_limited")
SESSION_EVENTS = ("created", "ended", "expired")
HASH_OPERATIONS = ("hash", "verify")
# Users are refused with the password that they want, or denied for the one that they have.
PASSWORD_CHANGES = (
    ("user", "success"),
    ("user", "refused"),
    ("user", "denied"),
    ("user", "error"),
    ("admin", "success"),
    ("admin", "refused"),
    ("admin", "error"),
)

OIDC_REQUESTS: tuple[tuple[str, str], ...] = (
    ("discovery", "success"),
    ("discovery", "temporarily_unavailable"),
    ("discovery", "server_error"),
    ("jwks", "success"),
    ("jwks", "temporarily_unavailable"),
    ("jwks", "server_error"),
    ("userinfo", "success"),
    ("userinfo", "invalid_request"),
    ("userinfo", "invalid_token"),
    ("userinfo", "insufficient_scope"),
    ("userinfo", "temporarily_unavailable"),
    ("userinfo", "server_error"),
    ("logout", "success"),
    ("logout", "invalid_request"),
    ("logout", "temporarily_unavailable"),
    ("logout", "server_error"),
)
SIGNING_ALGORITHMS = ("RS256", "ES256", "EdDSA")
KEY_STATES = ("pending", "active", "retiring")


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
