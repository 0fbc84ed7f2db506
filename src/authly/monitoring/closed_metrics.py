"""Metrics whose labels are of closed vocabularies: counters and histograms that are safe to tell anything.

Every series that is known in advance exists from the start; a value outside its vocabulary becomes ``other`` and is
counted as such. Children are looked for once, and what fails is reported, never raised.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

from authly.monitoring.labels import OTHER
from authly.monitoring.multiprocess.bound import Failed, Increment, Observation, increment
from authly.monitoring.request_metrics import Lookup

Labels = tuple[str, ...]


class _Closed:
    """Knows which label values there are.

    Args:
        kinds: the sets of labels that are known in advance.
        free: how many of the last labels are taken as they are: their values are nobody's to choose.
        overflow: counts values outside their vocabulary.
    """

    def __init__(self, kinds: Iterable[Labels], free: int, overflow: Counter) -> None:
        columns = list(zip(*kinds, strict=True))
        self._vocabularies = [frozenset(column) for column in columns[: len(columns) - free]]
        self._overflow = overflow

    def close(self, labels: Labels) -> Labels:
        """Return labels with ``other`` in the place of what is outside its vocabulary."""
        closed = tuple(
            value if value in known else OTHER for value, known in zip(labels, self._vocabularies, strict=False)
        ) + labels[len(self._vocabularies) :]
        if closed != labels:
            self._overflow.inc()
        return closed


class ClosedCounter:
    """Counts by labels of closed vocabularies.

    Args:
        counter: a counter with labels.
        kinds: the sets of labels that are known in advance: their series exist from the start.
        overflow: counts values outside their vocabulary.
        failed: called where something cannot be counted, while the exception is handled.
        free: how many of the last labels are taken as they are.
    """

    def __init__(
        self, counter: Counter, kinds: Iterable[Labels], overflow: Counter, failed: Failed, *, free: int = 0
    ) -> None:
        kinds = list(kinds)
        self._counter = counter
        self._failed = failed
        self._closed = _Closed(kinds, free, overflow)
        self._children = Lookup[Labels, Increment](self._find)
        for kind in kinds:
            counter.labels(*kind)

    def count(self, *labels: str) -> None:
        """Count one."""
        self._children[labels]()

    def add(self, number: int, *labels: str) -> None:
        """Count any number at once."""
        try:
            if number:
                self._counter.labels(*self._closed.close(labels)).inc(number)
        except Exception:  # noqa: BLE001
            self._failed()

    def _find(self, labels: Labels) -> Increment:
        try:
            closed = self._closed.close(labels)
            made = increment(self._counter.labels(*closed), self._failed)
            # Whatever is outside is counted as such each time, and remembered nowhere.
            if closed == labels:
                self._children[labels] = made
        except Exception:  # noqa: BLE001
            self._failed()
            return _count_nothing
        return made


class ClosedHistogram:
    """Observes by labels of closed vocabularies.

    Args:
        histogram: a histogram with labels.
        kinds: the sets of labels that are known in advance: their series exist from the start.
        overflow: counts values outside their vocabulary.
        failed: called where something cannot be observed, while the exception is handled.
    """

    def __init__(self, histogram: Histogram, kinds: Iterable[Labels], overflow: Counter, failed: Failed) -> None:
        kinds = list(kinds)
        self._histogram = histogram
        self._failed = failed
        self._closed = _Closed(kinds, 0, overflow)
        self._children = Lookup[Labels, Observation](self._find)
        for kind in kinds:
            histogram.labels(*kind)

    def observe(self, amount: float, *labels: str) -> None:
        """Observe an amount."""
        try:
            self._children[labels](amount)
        except Exception:  # noqa: BLE001
            self._failed()

    def _find(self, labels: Labels) -> Observation:
        closed = self._closed.close(labels)
        made: Observation = self._histogram.labels(*closed).observe
        if closed == labels:
            self._children[labels] = made
        return made


def _count_nothing() -> None:
    """Do nothing."""
