"""Makes the metrics of prometheus-client from their definitions, and swallows what goes wrong with them.

What all layers share: where metrics are registered, the count of label values outside their vocabulary, and the report
of a recording call that failed.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from authly.monitoring.client_labels import ClientLabels, NoClientLabels
from authly.monitoring.definitions import Definition, described
from authly.monitoring.multiprocess.bound import counting
from authly.monitoring.resolution import Resolution, edges_at

_P = ParamSpec("_P")

_log = logging.getLogger(__name__)


def overflow_definition(namespace: str = "") -> Definition:
    """Return the family that counts label values outside their vocabulary.

    Args:
        namespace: what its name begins with; empty for nothing.
    """
    name = f"{namespace}_metrics_label_overflow_total".removeprefix("_")
    return Definition(
        name,
        "counter",
        "Label values that were outside their vocabulary and became other.",
        {"metric": described("the name of a metric")},
        detail="An unheard-of HTTP method, or a mistake in Authly.",
        example=f"sum by (metric) (increase({name}[1h])) > 0",
    )


class Instruments:
    """Makes metrics.

    Args:
        namespace: what the names of metrics begin with that any application can have; empty for nothing.
        registry: where metrics are registered.
        resolution: how finely histograms tell durations apart.
        client_labels: says how clients are called in labels.
    """

    def __init__(
        self,
        namespace: str = "",
        registry: CollectorRegistry = REGISTRY,
        resolution: Resolution = "normal",
        client_labels: ClientLabels = NoClientLabels(),  # noqa: B008
    ) -> None:
        self.client_labels = client_labels
        self.namespace = namespace
        self.definitions: list[Definition] = []
        self._registry = registry
        self._edges = edges_at(resolution)
        self._failures: set[str] = set()
        self._overflows = self.counter(overflow_definition(namespace))
        self._count_overflow = counting(
            lambda labels: labels, lambda labels: self._overflows.labels(*labels), partial(self.report, "overflow")
        )

    def counter(self, definition: Definition, series: Iterable[tuple[str, ...]] = ()) -> Counter:
        """Make a counter.

        Args:
            definition: what it is.
            series: which of its series exist from the start, so that the first event is an increase.
        """
        made = Counter(definition.name, definition.help, list(definition.labels), registry=self._registry)
        return self._made(definition, made, series)

    def gauge(self, definition: Definition, series: Iterable[tuple[str, ...]] = ()) -> Gauge:
        """Make a gauge; the arguments are those of :meth:`counter`."""
        made = Gauge(
            definition.name,
            definition.help,
            list(definition.labels),
            multiprocess_mode=definition.mode or "all",
            registry=self._registry,
        )
        return self._made(definition, made, series)

    def histogram(self, definition: Definition, series: Iterable[tuple[str, ...]] = ()) -> Histogram:
        """Make a histogram; the arguments are those of :meth:`counter`."""
        edges = self._edges(definition.buckets)
        made = Histogram(
            definition.name, definition.help, list(definition.labels), buckets=edges, registry=self._registry
        )
        return self._made(definition, made, series)

    def overflow(self, definition: Definition) -> Callable[[], None]:
        """Return what counts a label value of a metric that is outside its vocabulary."""
        self._overflows.labels(definition.name)
        return partial(self._count_overflow, definition.name)

    def report(self, call: str) -> None:
        """Say once for each call that it fails, with the exception that is being handled."""
        if call not in self._failures:
            self._failures.add(call)
            _log.exception("A metric could not be recorded (%s); this is said once", call)

    def _made(self, definition: Definition, metric: "_M", series: Iterable[tuple[str, ...]]) -> "_M":
        self.definitions.append(definition)
        for labels in series:
            if labels:
                metric.labels(*labels)
        return metric


_M = TypeVar("_M", Counter, Gauge, Histogram)


class Layer:
    """What the metrics of a layer are built on.

    Args:
        instruments: make them.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._report = instruments.report


class _Reporting(Protocol):
    @property
    def _report(self) -> Callable[[str], None]: ...


_L = TypeVar("_L", bound=_Reporting)


def recording(call: Callable[Concatenate[_L, _P], None]) -> Callable[Concatenate[_L, _P], None]:
    """Keep a recording call of a layer from raising: what goes wrong with it is said once."""
    name = call.__name__

    @wraps(call)
    def record(self: _L, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            call(self, *args, **kwargs)
        except Exception:  # noqa: BLE001
            self._report(name)

    return record
