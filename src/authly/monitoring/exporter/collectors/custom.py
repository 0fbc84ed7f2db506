"""The collectors that an operator named: loaded from elsewhere, asked at each scrape, never trusted to work."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

from authly.monitoring.multiprocess.families import Child, Family, Labels, Sample

DURATION = "authly_exporter_collector_duration_seconds"
SUCCESS = "authly_exporter_collector_success"

# The suffixes by which the samples of a family are named, and the label that tells those of one set of labels apart.
# Whatever is of another type, or named otherwise, is a gauge: both formats have that.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
}
_INNER_LABELS = {"histogram": "le", "summary": "quantile"}
# A collector that wants to end the process costs no more than one that fails.
_FAILURES = (Exception, SystemExit)


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


class CustomCollectors:
    """Asks custom collectors, each at its own risk.

    Args:
        names: ``package.module:name`` of each: a class or function that makes a collector, or one itself.
        monotonic: the clock, in seconds.
        report: takes a line about something an operator should know.
    """

    def __init__(self, names: Sequence[str], monotonic: Callable[[], float], report: Callable[[str], None]) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._clock = monotonic
        self._report = report
        self._collectors: dict[str, Collector] | None = None
        self._failing: set[str] = set()

    def load(self) -> dict[str, Collector]:
        """Import the collectors, at the first call; say which of them cannot be."""
        if self._collectors is None:
            self._collectors = {}
            for name in self._names:
                try:
                    self._collectors[name] = _load(name)
                except _FAILURES as error:
                    self._report(
                        f"The collector {name} cannot be loaded, and is left out until the next start: {_words(error)}."
                    )
        return self._collectors

    def collect(self) -> list[Family]:
        """Return the families of all collectors that work, and how each of them did."""
        if not self._names:
            return []
        collectors = self.load()
        families: list[Family] = []
        durations, successes = [], []
        for name in self._names:
            labels = (("collector", name),)
            started = self._clock()
            found = self._ask(name, collectors[name]) if name in collectors else None
            durations.append(Sample(DURATION, labels, self._clock() - started))
            successes.append(Sample(SUCCESS, labels, 0.0 if found is None else 1.0))
            families += found or ()
        return [
            Family.of(DURATION, "gauge", "How long a custom collector took at this scrape.", durations),
            Family.of(SUCCESS, "gauge", "Whether a custom collector worked at this scrape.", successes),
            *families,
        ]

    def _ask(self, name: str, collector: Collector) -> list[Family] | None:
        """Return the families of a collector; None, and a line when it begins to fail, if it failed."""
        try:
            found = [family for metric in collector.collect() for family in families_of(metric)]
        except _FAILURES as error:
            if name not in self._failing:
                self._failing.add(name)
                self._report(f"The collector {name} failed, and its metrics are missing: {_words(error)}.")
            return None
        if name in self._failing:
            self._failing.remove(name)
            self._report(f"The collector {name} works again.")
        return found


def families_of(metric: CollectedMetric) -> list[Family]:
    """Return a metric as families: one, and a gauge for each name of samples that its type has no place for."""
    family = str(metric.name)
    if metric.type == "counter":
        family = family.removesuffix("_total")
    own = {family + suffix for suffix in _SUFFIXES.get(metric.type, ())}
    children: dict[str, dict[Labels, dict[tuple[str, Labels], float]]] = {}
    for sample in metric.samples:
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


def _words(error: BaseException) -> str:
    """Return an exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(".")
