"""The metrics of rate limits."""

from typing import Protocol

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer
from authly.monitoring.labels import RATE_LIMIT_BACKENDS, RATE_LIMIT_POLICIES, RATE_LIMIT_STORES

CHECK_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_BACKEND = "`memory` is what a worker counted by itself while nobody counted for all."

HITS = Definition(
    "authly_rate_limit_hits_total",
    "counter",
    "Requests refused because their client asked too often.",
    {"policy": closed(RATE_LIMIT_POLICIES), "backend": closed(RATE_LIMIT_BACKENDS)},
    detail=_BACKEND,
    example='sum(rate(authly_rate_limit_hits_total{policy="login"}[5m])) > 1',
)
CHECK_DURATION = Definition(
    "authly_rate_limit_check_duration_seconds",
    "histogram",
    "Time that a store of rate limits took to answer.",
    {"backend": closed(RATE_LIMIT_STORES)},
    buckets=CHECK_BUCKETS,
    example="histogram_quantile(0.99, sum by (backend, le) "
    "(rate(authly_rate_limit_check_duration_seconds_bucket[5m])))",
)
ERRORS = Definition(
    "authly_rate_limit_errors_total",
    "counter",
    "Questions that a store of rate limits did not answer.",
    {"backend": closed(RATE_LIMIT_STORES)},
    detail="While it is away it is asked once a second.",
    example="increase(authly_rate_limit_errors_total[5m]) > 0",
)


class RateLimitRecorder(Protocol):
    """What can be recorded of rate limits."""

    def track_rate_limit_hit(self, policy: str, backend: str, /) -> None:
        """Count a request that was refused.

        Args:
            policy: under which.
            backend: who counted: redis, postgresql or memory.
        """

    def track_rate_limit_check(self, backend: str, seconds: float, /) -> None:
        """Record how long a store of rate limits took to answer.

        Args:
            backend: redis or postgresql.
            seconds: from the question to the answer.
        """

    def track_rate_limit_error(self, backend: str, /) -> None:
        """Count a question that a store of rate limits did not answer.

        Args:
            backend: redis or postgresql.
        """


class NullRateLimitMetrics:
    """Records nothing of rate limits."""

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Do nothing."""

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Do nothing."""

    def track_rate_limit_error(self, backend: str) -> None:
        """Do nothing."""


class RateLimitMetrics(Layer):
    """Counts who was refused, and times who counts.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.track_rate_limit_hit = ClosedCounter(instruments, HITS, HITS.series(), "track_rate_limit_hit").count
        self.track_rate_limit_check = ClosedHistogram(instruments, CHECK_DURATION, "track_rate_limit_check").observe
        self.track_rate_limit_error = ClosedCounter(
            instruments, ERRORS, ERRORS.series(), "track_rate_limit_error"
        ).count
