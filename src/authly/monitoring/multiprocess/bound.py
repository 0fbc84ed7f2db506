"""Writes bound to children of metrics, for code that makes them for each request.

They do what the children's own ``inc`` and ``observe`` do, without asking again at each call what does not change:
whether the child may be written to, and in which bucket to begin to look. Each takes the lock once, makes no call where
it can do without, and never raises: calls and wrappers would cost as much as what they do. This is the one place that
reaches behind prometheus-client's metrics, to their values.
"""

import time
from bisect import bisect_left
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar

from authly.monitoring.multiprocess.values import StoredValue

Increment = Callable[[], None]
Observation = Callable[[float], None]
# Is called while the exception is handled that kept something from being recorded.
Failed = Callable[[], None]


def increment(child: Counter | Gauge, failed: Failed) -> Increment:
    """Return what adds 1 to a counter or a gauge.

    Args:
        child: of a metric that has labels, or a metric without.
        failed: called where it fails.
    """
    value = child._value

    def add_one() -> None:
        try:
            value.inc(1.0)
        except Exception:  # noqa: BLE001
            failed()

    if type(value) is not StoredValue:
        return add_one
    lock = value._lock

    def add_one_at_once() -> None:
        try:
            with lock:
                more = value._cells[value._index] + 1.0
                value._cells[value._index] = more
                value._dense[value._dense_index] = more
        except Exception:  # noqa: BLE001 - in a forked child it has no place yet, and nothing has been added
            add_one()

    return add_one_at_once


def completion(in_progress: Gauge, durations: Histogram, failed: Failed) -> Observation:
    """Return what takes 1 from a gauge and observes an amount in a histogram, as one write.

    Args:
        in_progress: what is under way.
        durations: how long it took.
        failed: called where it fails.
    """
    level, total, buckets = in_progress._value, durations._sum, durations._buckets
    bounds = durations._upper_bounds

    def complete(amount: float) -> None:
        try:
            level.inc(-1.0)
            total.inc(amount)
            buckets[bisect_left(bounds, amount)].inc(1.0)
        except Exception:  # noqa: BLE001
            failed()

    if not all(type(value) is StoredValue for value in (level, total, *buckets)):
        return complete
    lock, store = level._lock, level._store

    def complete_at_once(amount: float) -> None:
        if store.has_homeless:
            # One that finds its place lets others find theirs, and what was read of those is not so any more.
            complete(amount)
            return
        try:
            bucket = buckets[bisect_left(bounds, amount)]
            with lock:
                # Before anything is written: in a forked child some may have a place, and others none yet.
                less = level._cells[level._index] - 1.0
                more = total._cells[total._index] + amount
                count = bucket._cells[bucket._index] + 1.0
                level._cells[level._index] = less
                level._dense[level._dense_index] = less
                total._cells[total._index] = more
                total._dense[total._dense_index] = more
                bucket._cells[bucket._index] = count
                bucket._dense[bucket._dense_index] = count
        except Exception:  # noqa: BLE001
            complete(amount)

    return complete_at_once


def keep_exemplar(durations: Histogram, amount: float, labels: dict[str, str]) -> None:
    """Let a request be the example of the bucket that its amount is in."""
    bucket = durations._buckets[bisect_left(durations._upper_bounds, amount)]
    bucket.set_exemplar(Exemplar(labels, amount, time.time()))
