"""The metrics of what workers remember."""

from typing import Protocol

from authly.monitoring.closed_metrics import ClosedCounter
from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer
from authly.monitoring.labels import CACHE_OPERATIONS, CACHES

CACHE_OPERATIONS_TOTAL = Definition(
    "authly_cache_operations_total",
    "counter",
    "Look-ups in caches, and messages to other workers that something changed.",
    {
        "cache": closed(CACHES),
        "operation": closed(CACHE_OPERATIONS),
        "status": closed(sorted({status for statuses in CACHE_OPERATIONS.values() for status in statuses})),
    },
    detail="`get` is a `hit` or a `miss`; `invalidate`, a message, is a `success` or an `error`.",
    example='sum by (cache) (rate(authly_cache_operations_total{status="hit"}[5m])) '
    '/ sum by (cache) (rate(authly_cache_operations_total{operation="get"}[5m]))',
)


class CacheRecorder(Protocol):
    """What can be recorded of caches."""

    def track_cache_operation(self, cache: str, operation: str, status: str, /) -> None:
        """Count an operation of a cache.

        Args:
            cache: its name.
            operation: get or invalidate.
            status: hit or miss; success or error.
        """


class NullCacheMetrics:
    """Records nothing of caches."""

    def track_cache_operation(self, cache: str, operation: str, status: str) -> None:
        """Do nothing."""


class CacheMetrics(Layer):
    """Counts what is asked of caches.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.track_cache_operation = ClosedCounter(
            instruments,
            CACHE_OPERATIONS_TOTAL,
            (
                (cache, operation, status)
                for cache in CACHES
                for operation, statuses in CACHE_OPERATIONS.items()
                for status in statuses
            ),
            "track_cache_operation",
        ).count
