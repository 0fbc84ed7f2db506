"""The collectors that an operator named: loaded from elsewhere, and what they return made families."""

import importlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol, cast

from authly.monitoring.exporter.collectors.runner import MAX_SAMPLES, CollectorError, words
from authly.monitoring.multiprocess.families import Child, Family, Labels

# The suffixes by which the samples of a family are named, and the label that tells those of one set of labels apart.
# Whatever is of another type, or named otherwise, is a gauge: both formats have that.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
}
_INNER_LABELS = {"histogram": "le", "summary": "quantile"}


class CollectedSample(Protocol):
    """A sample as prometheus-client has it."""

    @property
    def name(self) -> str:
        """The family's name and, for some types, a suffix."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Names and values."""

    @property
    def value(self) -> float:
        """The number."""


class CollectedMetric(Protocol):
    """A metric as prometheus-client has it."""

    name: str
    type: str
    documentation: str

    @property
    def samples(self) -> Iterable[CollectedSample]:
        """All samples."""


class Collector(Protocol):
    """What a custom collector is, or makes."""

    def collect(self) -> Iterable[CollectedMetric]:
        """Return the metrics as they are now."""


class CustomCollector:
    """A collector that an operator named.

    Args:
        name: ``package.module:name`` of a class or function that makes a collector, or of one itself.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loading = threading.Lock()
        self._collector: Collector | None = None
        self._problem = ""

    def load(self) -> None:
        """Import it; a second call waits for the first one, and changes nothing."""
        with self._loading:
            if self._collector is None and not self._problem:
                try:
                    self._collector = _load(self.name)
                # One that wants to end the process costs no more than one that fails.
                except (Exception, SystemExit) as error:  # noqa: BLE001
                    self._problem = f"cannot be loaded, and is left out until the next start: {words(error)}"

    def collect(self) -> Iterator[Family]:
        """Return its metrics as they are now.

        Raises:
            CollectorError: it cannot be loaded.
        """
        self.load()
        if self._collector is None:
            raise CollectorError(self._problem)
        for metric in self._collector.collect():
            yield from families_of(metric)


def families_of(metric: CollectedMetric) -> list[Family]:
    """Return a metric as families: one, and a gauge for each name of samples that its type has no place for."""
    family = str(metric.name)
    if metric.type == "counter":
        family = family.removesuffix("_total")
    own = {family + suffix for suffix in _SUFFIXES.get(metric.type, ())}
    children: dict[str, dict[Labels, dict[tuple[str, Labels], float]]] = {}
    # One more than there may be: whoever counts them sees that there are too many.
    for sample in islice(metric.samples, MAX_SAMPLES + 1):
        name = str(sample.name)
        if name == family and own and name not in own:
            if metric.type != "counter":
                raise ValueError(f"a {metric.type} has no sample named {name}")
            name = f"{family}_total"
        labels = tuple(sorted((str(key), str(value)) for key, value in sample.labels.items()))
        inner = _INNER_LABELS.get(metric.type) if name in own else None
        outer = tuple(pair for pair in labels if pair[0] != inner)
        samples = children.setdefault(family if name in own else name, {}).setdefault(outer, {})
        # The first of several with the same name and labels counts: no sample is there twice.
        samples.setdefault((name, labels), float(sample.value))
    help_ = str(metric.documentation or "")
    return [
        Family(
            name,
            metric.type if own and name == family else "gauge",
            help_,
            [_child(f"{family}_created" if own else "", labels, samples) for labels, samples in found.items()],
        )
        for name, found in children.items()
    ]


def _child(created: str, labels: Labels, samples: dict[tuple[str, Labels], float]) -> Child:
    child = Child(labels, (key for key in samples if key[0] != created))
    child.values = tuple(samples[key] for key in child.names)
    child.created = samples.get((created, labels), 0.0)
    return child


def _load(name: str) -> Collector:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, type) or not hasattr(found, "collect"):
        found = found()
    if not callable(getattr(found, "collect", None)):
        raise TypeError("it has no method collect()")
    return cast("Collector", found)
