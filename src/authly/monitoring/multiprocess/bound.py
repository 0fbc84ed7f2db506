"""Writes bound to one child of a metric, for code that makes one for each request.

They do what the child's own ``inc`` and ``observe`` do, without asking again at each call what does not change: whether
the child may be written to, and in which bucket to begin to look. This is the one place that reaches behind
prometheus-client's metrics, to their values.
"""

from bisect import bisect_left
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

Write = Callable[[float], None]


def increment(child: Counter | Gauge) -> Write:
    """Return what adds to a counter or a gauge; the caller sees to it that counters only go up."""
    write: Write = child._value.inc
    return write


def observation(child: Histogram) -> Write:
    """Return what observes an amount in a histogram."""
    bounds = child._upper_bounds
    add: Write = child._sum.inc
    buckets: list[Write] = [bucket.inc for bucket in child._buckets]

    def observe(amount: float) -> None:
        add(amount)
        buckets[bisect_left(bounds, amount)](1.0)

    return observe
