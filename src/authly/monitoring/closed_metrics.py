"""Metrics that are safe to tell anything: a value outside the vocabulary of its label becomes ``other``.

What records is a function, made once for each metric, which is a recording call of its layer as it is
(docs/decisions/0092). What fails is reported, never raised.
"""

from collections.abc import Callable, Iterable
from functools import partial

from authly.monitoring.definitions import Definition
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import OTHER
from authly.monitoring.multiprocess.bound import Labels, counting, observing
from authly.monitoring.traceparent import CURRENT_TRACE


def closing(instruments: Instruments, definition: Definition) -> Callable[[Labels], Labels]:
    """Return what puts ``other`` in the place of values that are outside the vocabularies of a metric.

    Args:
        instruments: count such values.
        definition: of the metric. Labels that are not known in full are taken as they are.
    """
    vocabularies = [None if values.others else frozenset(values.known) for values in definition.labels.values()]
    overflow = instruments.overflow(definition)

    def close(labels: Labels) -> Labels:
        closed = tuple(
            value if known is None or value in known else OTHER
            for value, known in zip(labels, vocabularies, strict=True)
        )
        if closed != labels:
            overflow()
        return closed

    return close


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
        self._close = closing(instruments, definition)
        self._failed = partial(instruments.report, call)
        self.count = counting(self._close, lambda labels: self._counter.labels(*labels), self._failed)

    def add(self, number: int, *labels: str) -> None:
        """Count any number at once."""
        try:
            if number:
                self._counter.labels(*self._close(labels)).inc(number)
        except Exception:  # noqa: BLE001
            self._failed()


class ClosedHistogram:
    """Observes by a label of a closed vocabulary.

    Args:
        instruments: make the histogram.
        definition: what it is; its series exist from the start.
        call: how what failed is reported.
    """

    def __init__(self, instruments: Instruments, definition: Definition, call: str) -> None:
        trace = CURRENT_TRACE.get if definition.exemplars else str
        histogram = instruments.histogram(definition, definition.series())
        failed = partial(instruments.report, call)
        self.observe = observing(
            closing(instruments, definition), lambda labels: histogram.labels(*labels), failed, trace
        )
