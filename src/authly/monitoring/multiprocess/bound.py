"""Writes bound to children of metrics, for code that makes them for each request.

They do what the children's own ``inc`` and ``observe`` do, without asking again at each call what does not change:
whether the child may be written to, and in which bucket to begin to look. This is the one place that reaches behind
prometheus-client's metrics, to their values.
"""

from bisect import bisect_left
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from authly.monitoring.multiprocess.values import StoredValue

Write = Callable[[float], None]


def increment(child: Counter | Gauge) -> Write:
    """Return what adds to a counter or a gauge; the caller sees to it that counters only go up."""
    write: Write = child._value.inc
    return write


def completion(in_progress: Gauge, durations: Histogram) -> Write:
    """Return what takes 1 from a gauge and observes an amount in a histogram, as one write.

    Args:
        in_progress: what is under way.
        durations: how long it took.
    """
    level, total, buckets = in_progress._value, durations._sum, durations._buckets
    bounds = durations._upper_bounds

    def complete(amount: float) -> None:
        level.inc(-1.0)
        total.inc(amount)
        buckets[bisect_left(bounds, amount)].inc(1.0)

    if not all(type(value) is StoredValue for value in (level, total, *buckets)):
        return complete
    lock = level._lock

    # The lock taken once, and no calls: they would cost more than what they do.
    def complete_at_once(amount: float) -> None:
        bucket = buckets[bisect_left(bounds, amount)]
        with lock:
            try:
                less = level._cells[level._index] - 1.0
                more = total._cells[total._index] + amount
                count = bucket._cells[bucket._index] + 1.0
            except ValueError:  # this is a forked child, and at least one of them has no place in it yet
                complete(amount)
                return
            level._cells[level._index] = less
            level._dense[level._dense_index] = less
            total._cells[total._index] = more
            total._dense[total._dense_index] = more
            bucket._cells[bucket._index] = count
            bucket._dense[bucket._dense_index] = count

    return complete_at_once
