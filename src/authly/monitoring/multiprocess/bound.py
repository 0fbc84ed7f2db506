"""Writes bound to places: recording calls that remember where the value of given labels is kept.

A call looks its labels up, and writes to two cells; it does what ``labels(...).inc()`` and ``labels(...).observe()`` do
without asking again what does not change. One function and nothing below it, because a request pays for what a call
touches (docs/decisions/0092); and one step for other threads for each value, so that no lock is taken, which would cost
as much as the rest (docs/decisions/0021). This is the one place that reaches behind prometheus-client's metrics, to
their values.

A call never raises. What was not found is looked for behind the ``except``: a failure that is reported then is not
shown as the consequence of a look-up, with labels that a client may have chosen.
"""

import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar

from authly.monitoring.multiprocess.values import Place, StoredValue

Labels = tuple[Any, ...]
# Returns labels as they may be recorded: themselves, or others in the place of what may not be.
Close = Callable[[Labels], Labels]
# Says of which trace that is which happens now; empty if of none. ``str`` knows of none.
Trace = Callable[[], str]
# Is called while the exception is handled that kept something from being recorded.
Failed = Callable[[], None]


class Measured(NamedTuple):
    """The children that one event is recorded in: how often it was, by how much that changes, and how long it took."""

    number: Counter | Gauge
    by: float
    durations: Histogram


_Child = TypeVar("_Child")


class _Children(Generic[_Child]):
    """The children of metrics by their labels, each made once.

    Args:
        close: returns labels as they may be recorded.
        make: returns the child of closed labels.
    """

    def __init__(self, close: Close, make: Callable[[Labels], _Child]) -> None:
        self._close = close
        self._make = make
        self._made: dict[Labels, _Child] = {}

    def find(self, labels: Labels) -> tuple[_Child, bool]:
        """Return the child that labels are recorded in, and whether it is under these very labels."""
        closed = labels if labels in self._made else self._close(labels)
        child = self._made.get(closed)
        if child is None:
            child = self._made[closed] = self._make(closed)
        return child, closed == labels


# CPython lets other threads run where a function begins, where a loop goes back and after a call; a line without any
# of these is one step. Without the interpreter's global lock it is not.
_LINES_ARE_STEPS: Final = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


def counting(close: Close, make: Callable[[Labels], Counter | Gauge], failed: Failed) -> Callable[..., None]:
    """Return what adds 1 to the counter or the gauge of the labels that it is called with.

    Args:
        close: asked about labels at their first use, and each time where it returns others.
        make: returns the child of closed labels; asked once.
        failed: called where something fails.
    """
    places: dict[Labels, Place] = {}
    children = _Children(close, make)

    def count(*labels: Any) -> None:
        try:
            cells, index, dense, dense_index = places[labels]
            cells[index] = dense[dense_index] = cells[index] + 1.0
        except Exception:  # noqa: BLE001, S110 - not looked for yet, or the parent's of a forked child; nothing is added
            pass
        else:
            return
        find_and_count(labels)

    def find_and_count(labels: Labels) -> None:
        try:
            child, is_known = children.find(labels)
            child._value.inc(1.0)
            place = _place(child._value)
            if place and is_known:
                places[labels] = place
        except Exception:  # noqa: BLE001
            failed()

    return count


def observing(
    close: Close, make: Callable[[Labels], Histogram], failed: Failed, trace: Trace = str
) -> Callable[[str, float], None]:
    """Return what observes an amount in the histogram of the label that it is called with.

    Args:
        close: asked about a label at its first use, and each time where it returns another.
        make: returns the child of a closed label; asked once.
        failed: called where something fails.
        trace: says of which trace it was, which is then the exemplar of its bucket.
    """
    places: dict[str, tuple[tuple[float, ...], Place, tuple[Place, ...]]] = {}
    children = _Children(close, make)

    def observe(label: str, amount: float) -> None:
        done = 0
        try:
            bounds, total, buckets = places[label]
            cells, index, dense, dense_index = total
            cells[index] = dense[dense_index] = cells[index] + amount
            done = 1
            bucket = 0
            while amount > bounds[bucket]:
                bucket += 1
            cells, index, dense, dense_index = buckets[bucket]
            cells[index] = dense[dense_index] = cells[index] + 1.0
        except Exception:  # noqa: BLE001, S110 - of a forked child's values one may have a place already
            pass
        else:
            if trace():
                _keep(children.find((label,))[0], amount, trace, failed)
            return
        find_and_observe(label, amount, done)

    def find_and_observe(label: str, amount: float, done: int) -> None:
        try:
            child, is_known = children.find((label,))
            _observe(child, amount, done)
            bound = _places(child)
            if bound and is_known:
                places[label] = bound
        except Exception:  # noqa: BLE001
            failed()
            return
        if trace():
            _keep(child, amount, trace, failed)

    return observe


def measuring(
    close: Close, make: Callable[[Labels], Measured], failed: Failed, trace: Trace = str
) -> Callable[[str, str, float], None]:
    """Return what counts an event of the two labels that it is called with, and observes how long it took.

    Args:
        close: asked about labels at their first use, and each time where it returns others.
        make: returns the children of closed labels; asked once.
        failed: called where something fails.
        trace: says of which trace it was, which is then the exemplar of its bucket.
    """
    places: dict[Labels, tuple[float, Place, tuple[float, ...], Place, tuple[Place, ...]]] = {}
    children = _Children(close, make)

    def measure(first: str, second: str, amount: float) -> None:
        done = 0
        try:
            by, number, bounds, total, buckets = places[first, second]
            cells, index, dense, dense_index = number
            cells[index] = dense[dense_index] = cells[index] + by
            done = 1
            cells, index, dense, dense_index = total
            cells[index] = dense[dense_index] = cells[index] + amount
            done = 2
            bucket = 0
            while amount > bounds[bucket]:
                bucket += 1
            cells, index, dense, dense_index = buckets[bucket]
            cells[index] = dense[dense_index] = cells[index] + 1.0
        except Exception:  # noqa: BLE001, S110 - of a forked child's values some may have a place already
            pass
        else:
            if trace():
                _keep(children.find((first, second))[0].durations, amount, trace, failed)
            return
        find_and_measure((first, second), amount, done)

    def find_and_measure(labels: Labels, amount: float, done: int) -> None:
        try:
            child, is_known = children.find(labels)
            if done < 1:
                child.number._value.inc(child.by)
            _observe(child.durations, amount, done - 1)
            number, bound = _place(child.number._value), _places(child.durations)
            if number and bound and is_known:
                places[labels] = (child.by, number, *bound)
        except Exception:  # noqa: BLE001
            failed()
            return
        if trace():
            _keep(child.durations, amount, trace, failed)

    return measure


def _observe(child: Histogram, amount: float, done: int) -> None:
    """Do what is left of an observation, of which so many values have been written already."""
    if done < 1:
        child._sum.inc(amount)
    _bucket(child, amount).inc(1.0)


def _keep(child: Histogram, amount: float, trace: Trace, failed: Failed) -> None:
    """Let the trace that is running be the exemplar of the bucket that an amount is in."""
    try:
        _bucket(child, amount).set_exemplar(Exemplar({"trace_id": trace()}, amount, time.time()))
    except Exception:  # noqa: BLE001
        failed()


def _bucket(child: Histogram, amount: float) -> Any:
    return child._buckets[bisect_left(child._upper_bounds, amount)]


def _places(child: Histogram) -> tuple[tuple[float, ...], Place, tuple[Place, ...]] | None:
    """Return the edges of a histogram, and where its sum and its buckets are kept; None unless all of them are."""
    total = _place(child._sum)
    if total is None:
        return None
    buckets = tuple(filter(None, map(_place, child._buckets)))
    return (tuple(child._upper_bounds), total, buckets) if len(buckets) == len(child._buckets) else None


def _place(value: Any) -> Place | None:
    """Return where a value is kept for as long as this process has its files; None where a lock must be taken."""
    return value.place if _LINES_ARE_STEPS and type(value) is StoredValue else None
