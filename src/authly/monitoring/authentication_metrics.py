"""The metrics of people who prove who they are: logins, sessions, passwords."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.labels import (
    HASH_OPERATIONS,
    LOGIN_FAILURES,
    LOGIN_METHODS,
    LOGIN_STATUSES,
    PASSWORD_CHANGES,
    SESSION_EVENTS,
)

# A hash is meant to take tens of milliseconds, and takes longer where cores are few.
HASH_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
PASSWORD = "password"


class AuthenticationMetrics:
    """Counts logins, sessions and changes of passwords, and times hashes.

    Args:
        registry: where the metrics are registered.
        overflow: counts label values outside their vocabulary, by metric.
        failed: is told the name of a call that failed, while the exception is handled.
    """

    def __init__(self, registry: CollectorRegistry, overflow: Counter, failed: Callable[[str], None]) -> None:
        self.auth_login_attempts = Counter(
            "authly_auth_login_attempts_total",
            "Attempts to log in.",
            ["method", "status"],
            registry=registry,
        )
        self.auth_failed_login_attempts = Counter(
            "authly_auth_failed_login_attempts_total",
            "Attempts to log in that were refused, by the reason.",
            ["reason"],
            registry=registry,
        )
        self.auth_sessions = Counter(
            "authly_auth_sessions_total",
            "Sessions that were created, were ended, or had expired when they were deleted.",
            ["event"],
            registry=registry,
        )
        self.auth_password_changes = Counter(
            "authly_auth_password_changes_total",
            "Attempts to replace a password.",
            ["initiator", "status"],
            registry=registry,
        )
        self.auth_password_hash_duration = Histogram(
            "authly_auth_password_hash_duration_seconds",
            "Time that it took to hash or to verify a password, without the wait for a thread.",
            ["operation"],
            buckets=HASH_BUCKETS,
            registry=registry,
        )

        def counter(metric: Counter, name: str, kinds: list[tuple[str, ...]]) -> ClosedCounter:
            return ClosedCounter(metric, kinds, overflow.labels(f"{metric._name}_total"), partial(failed, name))

        attempts = [(method, status) for method in LOGIN_METHODS for status in LOGIN_STATUSES]
        self._attempts = counter(self.auth_login_attempts, "login_attempts", attempts)
        self._failures = counter(
            self.auth_failed_login_attempts, "login_failed", [(reason,) for reason in LOGIN_FAILURES]
        )
        self._sessions = counter(self.auth_sessions, "sessions_changed", [(event,) for event in SESSION_EVENTS])
        self._changes = counter(self.auth_password_changes, "password_change_ended", list(PASSWORD_CHANGES))
        self._hashes = ClosedHistogram(
            self.auth_password_hash_duration,
            [(operation,) for operation in HASH_OPERATIONS],
            overflow.labels("authly_auth_password_hash_duration_seconds"),
            partial(failed, "password_hashed"),
        )

    def login_succeeded(self) -> None:
        """Count a login."""
        self._attempts.count(PASSWORD, "success")

    def login_failed(self, reason: str) -> None:
        """Count a login that was refused.

        Args:
            reason: ``credentials``, ``locked``, ``disabled`` or ``rate_limited``.
        """
        self._attempts.count(PASSWORD, "failure")
        self._failures.count(reason)

    def login_broke(self) -> None:
        """Count a login that nobody could judge."""
        self._attempts.count(PASSWORD, "error")

    def sessions_changed(self, event: str, number: int) -> None:
        """Count sessions.

        Args:
            event: ``created``, ``ended`` or ``expired``.
            number: how many it were.
        """
        self._sessions.add(number, event)

    def password_change_ended(self, initiator: str, status: str) -> None:
        """Count an attempt to replace a password.

        Args:
            initiator: ``user`` or ``admin``.
            status: ``success``; ``refused`` for the new one, ``denied`` for the current one; ``error``.
        """
        self._changes.count(initiator, status)

    def password_hashed(self, operation: str, seconds: float) -> None:
        """Record how long it took to hash or to verify a password.

        Args:
            operation: ``hash`` or ``verify``.
            seconds: without the wait for a thread.
        """
        self._hashes.observe(seconds, operation)
