"""Metrics that are safe to tell anything: a value outside the vocabulary of its label becomes ``other``.

Children are looked for once, and what fails is reported, never raised.
"""

from collections.abc import Iterable
from functools import partial

from authly.monitoring.definitions import Definition
from authly.monitoring.instruments import Instruments, Lookup, traced
from authly.monitoring.labels import OTHER
from authly.monitoring.multiprocess.bound import Increment, Observation, increment, observation

Labels = tuple[str, ...]


class _Vocabularies:
    """Knows what the labels of a metric can be.

    Args:
        instruments: count values outside their vocabulary.
        definition: of the metric. Labels that are not known in full are taken as they are.
    """

    def __init__(self, instruments: Instruments, definition: Definition) -> None:
        self._known = [None if values.others else frozenset(values.known) for values in definition.labels.values()]
        self._overflow = instruments.overflow(definition)

    def close(self, labels: Labels) -> Labels:
        """Return labels with ``other`` in the place of what is outside its vocabulary."""
        closed = tuple(
            value if known is None or value in known else OTHER
            for value, known in zip(labels, self._known, strict=True)
        )
        if closed != labels:
            self._overflow()
        return closed


class ClosedCounter:
    """Counts by labels of closed vocabularies.

    Args:
        instruments: make the counter.
        definition: what it is.
        series: which of its series exist from the start.
        call: how what failed is reported.
    """

    def __init__(self, instruments: Instruments, definition: Definition, series: Iterable[Labels], call: str) -> None:
        self._counter = instruments.counter(definition, series)
        self._vocabularies = _Vocabularies(instruments, definition)
        self._failed = partial(instruments.report, call)
        self._children = Lookup[Labels, Increment](self._find)

    def count(self, *labels: str) -> None:
        """Count one."""
        self._children[labels]()

    def add(self, number: int, *labels: str) -> None:
        """Count any number at once."""
        try:
            if number:
                self._counter.labels(*self._vocabularies.close(labels)).inc(number)
        except Exception:  # noqa: BLE001
            self._failed()

    def _find(self, labels: Labels) -> Increment:
        try:
            closed = self._vocabularies.close(labels)
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
        instruments: make the histogram.
        definition: what it is; its series exist from the start.
        call: how what failed is reported.
    """

    def __init__(self, instruments: Instruments, definition: Definition, call: str) -> None:
        self._keeps_traces = definition.exemplars
        self._histogram = instruments.histogram(definition, definition.series())
        self._vocabularies = _Vocabularies(instruments, definition)
        self._failed = partial(instruments.report, call)
        self._children = Lookup[Labels, Observation](self._find)

    def observe(self, amount: float, *labels: str) -> None:
        """Observe an amount."""
        try:
            self._children[labels](amount)
        except Exception:  # noqa: BLE001
            self._failed()

    def _find(self, labels: Labels) -> Observation:
        closed = self._vocabularies.close(labels)
        child = self._histogram.labels(*closed)
        made = observation(child, self._failed)
        if self._keeps_traces:
            made = traced(made, child, self._failed)
        if closed == labels:
            self._children[labels] = made
        return made


def _count_nothing() -> None:
    """Do nothing."""
