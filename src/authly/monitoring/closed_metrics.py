"""Metrics that are safe to tell anything: a value outside the vocabulary of its label becomes ``other``.

They are mappings, so that recording something is a look-up and a call, and nothing between them (docs/decisions/0091).
Children are looked for once, and what fails is reported, never raised.
"""

from collections.abc import Iterable
from functools import partial

from authly.monitoring.definitions import Definition
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import OTHER
from authly.monitoring.multiprocess.bound import Increment, Observation, increment, observation
from authly.monitoring.traceparent import CURRENT_TRACE

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


class ClosedCounter(dict[Labels, Increment]):
    """Counts by labels of closed vocabularies: for any labels it has what counts one.

    Args:
        instruments: make the counter.
        definition: what it is.
        series: which of its series exist from the start.
        call: how what failed is reported.
    """

    def __init__(self, instruments: Instruments, definition: Definition, series: Iterable[Labels], call: str) -> None:
        super().__init__()
        self._counter = instruments.counter(definition, series)
        self._vocabularies = _Vocabularies(instruments, definition)
        self._failed = partial(instruments.report, call)

    def add(self, number: int, *labels: str) -> None:
        """Count any number at once."""
        try:
            if number:
                self._counter.labels(*self._vocabularies.close(labels)).inc(number)
        except Exception:  # noqa: BLE001
            self._failed()

    def __missing__(self, labels: Labels) -> Increment:
        """Find what counts one."""
        try:
            closed = self._vocabularies.close(labels)
            made = increment(self._counter.labels(*closed), self._failed)
            # Whatever is outside is counted as such each time, and remembered nowhere.
            if closed == labels:
                self[labels] = made
        except Exception:  # noqa: BLE001
            self._failed()
            return _count_nothing
        return made


class ClosedHistogram(dict[Labels, Observation]):
    """Observes by labels of closed vocabularies: for any labels it has what observes an amount.

    Args:
        instruments: make the histogram.
        definition: what it is; its series exist from the start.
        call: how what failed is reported.
    """

    def __init__(self, instruments: Instruments, definition: Definition, call: str) -> None:
        super().__init__()
        self._trace = CURRENT_TRACE.get if definition.exemplars else str
        self._histogram = instruments.histogram(definition, definition.series())
        self._vocabularies = _Vocabularies(instruments, definition)
        self._failed = partial(instruments.report, call)

    def __missing__(self, labels: Labels) -> Observation:
        """Find what observes an amount."""
        try:
            closed = self._vocabularies.close(labels)
            made = observation(self._histogram.labels(*closed), self._failed, self._trace)
            if closed == labels:
                self[labels] = made
        except Exception:  # noqa: BLE001
            self._failed()
            return _observe_nothing
        return made


def _count_nothing() -> None:
    """Do nothing."""


def _observe_nothing(_: float) -> None:
    """Do nothing."""
