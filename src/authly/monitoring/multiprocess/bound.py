"""Writes bound to children of metrics, for code that makes them for each request.

They do what the children's own ``inc`` and ``observe`` do, without asking again at each call what does not change:
whether the child may be written to, and in which bucket to begin to look. Where each of their lines is one step for
other threads they take no lock either, which would cost as much as the rest (docs/decisions/0021). They never raise.
This is the one place that reaches behind prometheus-client's metrics, to their values.
"""

import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar

from authly.monitoring.multiprocess.values import StoredValue

Increment = Callable[[], None]
Observation = Callable[[float], None]
# Says of which trace that is which happens now; empty if of none. ``str`` knows of none.
Trace = Callable[[], str]
# Is called while the exception is handled that kept something from being recorded.
Failed = Callable[[], None]

# CPython lets other threads run where a function begins, where a loop goes back and after a call; a line without any
# of these is one step. Without the interpreter's global lock it is not.
_LINES_ARE_STEPS: Final = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


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

    if not _LINES_ARE_STEPS or type(value) is not StoredValue:
        return add_one
    store = value._store

    def add_one_at_once() -> None:
        # Memory that stands in for a cell is reached by calls.
        if store.has_homeless:
            add_one()
            return
        try:
            value._cells[value._index] = value._dense[value._dense_index] = value._cells[value._index] + 1.0
        except Exception:  # noqa: BLE001 - in a forked child it has no place yet, and nothing has been added
            add_one()

    return add_one_at_once


def completion(in_progress: Gauge, durations: Histogram, failed: Failed, trace: Trace = str) -> Observation:
    """Return what takes 1 from a gauge and observes an amount in a histogram.

    Args:
        in_progress: what is under way.
        durations: how long it took.
        failed: called where it fails.
        trace: says of which trace it was, which is then the exemplar of its bucket.
    """
    return _change_and_observe(in_progress._value, -1.0, durations, failed, trace)


def observation(durations: Histogram, failed: Failed, trace: Trace = str) -> Observation:
    """Return what observes an amount in a histogram.

    Args:
        durations: the histogram.
        failed: called where it fails.
        trace: says of which trace it was, which is then the exemplar of its bucket.
    """
    total, buckets = durations._sum, durations._buckets
    bounds = durations._upper_bounds
    note = _exemplar(durations, failed, trace)

    def observe(amount: float, done: int = 0) -> None:
        try:
            if done < 1:
                total.inc(amount)
            buckets[bisect_left(bounds, amount)].inc(1.0)
        except Exception:  # noqa: BLE001
            failed()
        if trace():
            note(amount)

    if not _LINES_ARE_STEPS or not all(type(value) is StoredValue for value in (total, *buckets)):
        return observe
    store = total._store

    def observe_at_once(amount: float) -> None:
        # Looked for first: behind a call, what has been asked may not be so any more.
        bucket = buckets[bisect_left(bounds, amount)]
        if store.has_homeless:
            observe(amount)
            return
        done = 0
        try:
            total._cells[total._index] = total._dense[total._dense_index] = total._cells[total._index] + amount
            done = 1
            bucket._cells[bucket._index] = bucket._dense[bucket._dense_index] = bucket._cells[bucket._index] + 1.0
        except Exception:  # noqa: BLE001 - in a forked child one may have a place, and the other none yet
            observe(amount, done)
            return
        if trace():
            note(amount)

    return observe_at_once


def tally(count: Counter, durations: Histogram, failed: Failed, trace: Trace = str) -> Observation:
    """Return what adds 1 to a counter and observes an amount in a histogram.

    Args:
        count: how often it was done.
        durations: how long it took.
        failed: called where it fails.
        trace: says of which trace it was, which is then the exemplar of its bucket.
    """
    return _change_and_observe(count._value, 1.0, durations, failed, trace)


def _change_and_observe(number: Any, by: float, durations: Histogram, failed: Failed, trace: Trace) -> Observation:
    """Return what adds a constant to the value of a counter or a gauge, and observes an amount in a histogram."""
    total, buckets = durations._sum, durations._buckets
    bounds = durations._upper_bounds
    note = _exemplar(durations, failed, trace)

    def record(amount: float, done: int = 0) -> None:
        try:
            if done < 1:
                number.inc(by)
            if done < 2:
                total.inc(amount)
            buckets[bisect_left(bounds, amount)].inc(1.0)
        except Exception:  # noqa: BLE001
            failed()
        if trace():
            note(amount)

    if not _LINES_ARE_STEPS or not all(type(value) is StoredValue for value in (number, total, *buckets)):
        return record
    store = number._store

    def record_at_once(amount: float) -> None:
        # Looked for first: behind a call, what has been asked may not be so any more.
        bucket = buckets[bisect_left(bounds, amount)]
        if store.has_homeless:
            record(amount)
            return
        done = 0
        try:
            number._cells[number._index] = number._dense[number._dense_index] = number._cells[number._index] + by
            done = 1
            total._cells[total._index] = total._dense[total._dense_index] = total._cells[total._index] + amount
            done = 2
            bucket._cells[bucket._index] = bucket._dense[bucket._dense_index] = bucket._cells[bucket._index] + 1.0
        except Exception:  # noqa: BLE001 - in a forked child some may have a place, and others none yet
            record(amount, done)
            return
        if trace():
            note(amount)

    return record_at_once


def _exemplar(durations: Histogram, failed: Failed, trace: Trace) -> Observation:
    """Return what lets the trace that is running be the exemplar of the bucket that an amount is in."""
    buckets, bounds = durations._buckets, durations._upper_bounds

    def note(amount: float) -> None:
        try:
            buckets[bisect_left(bounds, amount)].set_exemplar(Exemplar({"trace_id": trace()}, amount, time.time()))
        except Exception:  # noqa: BLE001
            failed()

    return note
