"""From the entries of many files to the families of one exposition.

Pure: no files, no clock. Knows what each type and each gauge mode means, as prometheus-client's multiprocess
collector defines it.
"""

import json
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from authly.monitoring.multiprocess.reader import File

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line of an exposition.

    Args:
        name: the family's name and, for some types, a suffix.
        labels: names and values, in the order in which they are shown.
        value: the number.
    """

    name: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """A metric with all its samples.

    Args:
        name: without the ``_total`` of a counter, as OpenMetrics has it.
        type: counter, gauge, histogram or summary.
        help: the help text, not escaped.
        samples: samples with the same labels stand together; buckets stand in ascending order.
    """

    name: str
    type: str
    help: str
    samples: list[Sample]


class Aggregate(NamedTuple):
    """The result of an aggregation.

    Args:
        families: in the order of their names.
        conflicts: how many entries were left out, because an earlier file gave their metric another type, or because
            their key was not one that prometheus-client could have written.
    """

    families: list[Family]
    conflicts: int


# Where a sample of a family goes: the labels of its series first, so that a series stands together, then what orders
# the samples of one series.
_Place = tuple[Labels, float, str, Labels]


class _Accumulator:
    """The samples of one family while files are being added."""

    def __init__(self, name: str, type_: str, mode: str, help_: str) -> None:
        self.name = name
        self.type = type_
        self.mode = mode.removeprefix("live")
        self.help = help_
        self.values: dict[_Place, float] = {}
        self.timestamps: dict[_Place, float] = {}

    def add(self, sample: str, labels: Labels, writer: str, value: float, timestamp: float) -> None:
        if self.type == "gauge":
            self._add_to_gauge(sample, labels, writer, value, timestamp)
        elif self.type == "histogram" and sample == f"{self.name}_bucket":
            series = tuple(pair for pair in labels if pair[0] != "le")
            self._sum((series, float(dict(labels)["le"]), sample, labels), value)
        else:
            self._sum((labels, math.inf, sample, labels), value)

    def _add_to_gauge(self, sample: str, labels: Labels, writer: str, value: float, timestamp: float) -> None:
        if self.mode == "all":
            labels = tuple(sorted((*labels, ("pid", writer))))
        place: _Place = (labels, 0.0, sample, labels)
        if self.mode == "sum":
            self._sum(place, value)
        elif self.mode == "min":
            self.values[place] = min(self.values.get(place, math.inf), value)
        elif self.mode == "max":
            self.values[place] = max(self.values.get(place, -math.inf), value)
        elif self.mode == "mostrecent":
            # A gauge that was never set has no time, and says nothing.
            if timestamp > self.timestamps.get(place, 0.0):
                self.timestamps[place] = timestamp
                self.values[place] = value
        else:
            self.values[place] = value

    def _sum(self, place: _Place, value: float) -> None:
        self.values[place] = self.values.get(place, 0.0) + value

    def family(self) -> Family:
        samples = []
        bucket = f"{self.name}_bucket"
        series: Labels | None = None
        count = 0.0
        for (labels, _, name, shown), value in sorted(self.values.items()):
            if labels != series:
                series, count = labels, 0.0
            if name == bucket and self.type == "histogram":
                # Files hold what each bucket got for itself; an exposition is cumulative (and ends with the count).
                count += value
                samples.append(Sample(name, shown, count))
                if dict(shown)["le"] == "+Inf":
                    samples.append(Sample(f"{self.name}_count", labels, count))
            else:
                samples.append(Sample(name, shown, value))
        return Family(self.name, self.type, self.help, samples)


def _parse_key(key: bytes) -> tuple[str, str, Labels, str] | None:
    try:
        metric, sample, labels, help_ = json.loads(key)
        if not (isinstance(metric, str) and isinstance(sample, str) and isinstance(help_, str)):
            return None
        pairs = tuple(sorted(labels.items()))
        if not all(isinstance(value, str) for _, value in pairs):
            return None
        if sample.endswith("_bucket") and "le" in labels:
            float(labels["le"])
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return metric, sample, pairs, help_


def aggregate(
    files: Iterable[File], parse: Callable[[bytes], tuple[str, str, Labels, str] | None] = _parse_key
) -> Aggregate:
    """Merge files into families.

    Args:
        files: what a reader found; the first file that names a metric decides its type and help text.
        parse: takes a key apart; replaced by one that remembers, where keys come again and again.
    """
    accumulators: dict[str, _Accumulator] = {}
    conflicts = 0
    for file in files:
        type_, mode, writer, _ = file.name
        for key, value, timestamp in file.entries:
            parsed = parse(key)
            if parsed is None:
                conflicts += 1
                continue
            metric, sample, labels, help_ = parsed
            accumulator = accumulators.get(metric)
            if accumulator is None:
                accumulator = accumulators[metric] = _Accumulator(metric, type_, mode, help_)
            elif accumulator.type != type_ or accumulator.mode != mode.removeprefix("live"):
                conflicts += 1
                continue
            accumulator.add(sample, labels, writer, value, timestamp)
    families = [accumulators[name].family() for name in sorted(accumulators)]
    return Aggregate(families, conflicts)


class KeyCache:
    """Takes keys apart, each once.

    A key is written by every process, and is there again at every scrape; it never changes.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, str, Labels, str] | None] = {}
        self._used: dict[bytes, tuple[str, str, Labels, str] | None] = {}

    def __call__(self, key: bytes) -> tuple[str, str, Labels, str] | None:
        """Return the parts of a key, or None for one that is not a key."""
        try:
            parts = self._known[key]
        except KeyError:
            parts = _parse_key(key)
        self._used[key] = parts
        return parts

    def forget_unused(self) -> None:
        """Drop what has not been asked for since the last call, so that memory is bounded by what exists."""
        self._known, self._used = self._used, {}
