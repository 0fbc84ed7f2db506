"""Closed vocabularies for label values.

Nothing that a client can choose freely becomes a label value: what is outside a vocabulary becomes ``other``.
"""

from enum import StrEnum

OTHER = "other"
UNMATCHED = "unmatched"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
# Far more routes than an application has; reached only where a route template leaks a value that clients choose.
MAX_ENDPOINTS = 512

# Here, because the workers and the exporter count them, and one family must have one name and one help text.
SECURITY_EVENTS = "authly_security_events"
SECURITY_EVENTS_HELP = "Events that may be part of an attack."


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
