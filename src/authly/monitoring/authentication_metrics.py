"""The metrics of people who prove who they are: logins, sessions, passwords."""

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer
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

LOGIN_ATTEMPTS = Definition(
    "authly_auth_login_attempts_total",
    "counter",
    "Attempts to log in.",
    {"method": closed(LOGIN_METHODS), "status": closed(LOGIN_STATUSES)},
    detail="`error`: nobody could judge them, because the database was away or too many passwords waited.",
    example='sum(rate(authly_auth_login_attempts_total{status="failure"}[5m])) '
    "/ sum(rate(authly_auth_login_attempts_total[5m]))",
)
FAILED_LOGIN_ATTEMPTS = Definition(
    "authly_auth_failed_login_attempts_total",
    "counter",
    "Attempts to log in that were refused, by the reason.",
    {"reason": closed(LOGIN_FAILURES)},
    detail="`credentials`: no such user or a wrong password, which are one reason: metrics shall not tell who is a "
    "user. `locked`: the attempt came before the delay was over. `disabled`: an administrator disabled the account. "
    "`rate_limited`: its address had sent too many.",
    example='rate(authly_auth_failed_login_attempts_total{reason="locked"}[5m]) > 0',
)
SESSIONS = Definition(
    "authly_auth_sessions_total",
    "counter",
    "Sessions that were created, were ended, or had expired when they were deleted.",
    {"event": closed(SESSION_EVENTS)},
    detail="`ended`: by a logout, an administrator, a new password, or another user in the same browser. `expired` "
    "sessions are found a day later, when they are deleted. Those of a user who is deleted vanish without an event.",
    example="sum by (event) (increase(authly_auth_sessions_total[1h]))",
)
PASSWORD_CHANGE_ATTEMPTS = Definition(
    "authly_auth_password_changes_total",
    "counter",
    "Attempts to replace a password.",
    {
        "initiator": closed(dict.fromkeys(initiator for initiator, _ in PASSWORD_CHANGES)),
        "status": closed(dict.fromkeys(status for _, status in PASSWORD_CHANGES)),
    },
    detail="`refused`: the new password is not accepted. `denied`: the current one is wrong, or too many attempts "
    "failed. `error`: the database was away, or too many passwords waited.",
    example='increase(authly_auth_password_changes_total{status="denied"}[1h]) > 10',
)
PASSWORD_HASH_DURATION = Definition(
    "authly_auth_password_hash_duration_seconds",
    "histogram",
    "Time that it took to hash or to verify a password, without the wait for a thread.",
    {"operation": closed(HASH_OPERATIONS)},
    buckets=HASH_BUCKETS,
    example="histogram_quantile(0.5, sum by (operation, le) "
    "(rate(authly_auth_password_hash_duration_seconds_bucket[5m])))",
)


class AuthenticationMetrics(Layer):
    """Counts logins, sessions and changes of passwords, and times hashes.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)

        def counter(definition: Definition, call: str) -> ClosedCounter:
            return ClosedCounter(instruments, definition, definition.series(), call)

        self._attempts = counter(LOGIN_ATTEMPTS, "login_attempts")
        self._failures = counter(FAILED_LOGIN_ATTEMPTS, "login_failed")
        self._sessions = counter(SESSIONS, "sessions_changed")
        self.password_change_ended = ClosedCounter(
            instruments, PASSWORD_CHANGE_ATTEMPTS, PASSWORD_CHANGES, "password_change_ended"
        ).count
        self.password_hashed = ClosedHistogram(instruments, PASSWORD_HASH_DURATION, "password_hashed").observe

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
