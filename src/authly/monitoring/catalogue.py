"""Every metric that an instance can show, from the definitions that it is made by.

What the page docs/metrics.md and ``authly metrics catalog`` are made from. Makes no metrics: to look at the catalogue
of a running instance changes nothing in its directory.
"""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple

from authly.monitoring.definitions import Definition
from authly.monitoring.exporter import ratios
from authly.monitoring.exporter.access import guard
from authly.monitoring.exporter.collectors import gunicorn, own, runner, system
from authly.monitoring.gunicorn import recorder
from authly.monitoring.instruments import overflow_definition
from authly.monitoring.labels import Group
from authly.monitoring.metrics import LAYERS
from authly.monitoring.multiprocess import values
from authly.monitoring.request_metrics import request_definitions

Process = Literal["worker", "master", "exporter"]

NAMESPACE: Final = "authly"


class Section(NamedTuple):
    """Metrics that belong together.

    Args:
        name: the group that switches them, or another word for what cannot be switched.
        recorded_by: the kind of process whose numbers they are, and of which kind each is.
    """

    name: str
    definitions: tuple[tuple[Definition, Process], ...]


def catalogue() -> Iterator[Section]:
    """Yield all metrics, those first that groups switch."""
    for group in Group:
        yield Section(group, tuple((definition, "worker") for definition in definitions_of(group)))
    foundation = overflow_definition(NAMESPACE), *_definitions_in(values)
    yield Section("foundation", tuple((definition, "worker") for definition in foundation))
    yield Section(
        "gunicorn",
        (
            *((definition, "exporter") for definition in _definitions_in(gunicorn)),
            *((definition, "master") for definition in _definitions_in(recorder)),
        ),
    )
    yield Section("processes", tuple((definition, "exporter") for definition in _definitions_in(system)))
    yield Section(
        "exporter",
        tuple(
            (definition, "exporter")
            for module in (own, runner, guard, ratios)
            for definition in _definitions_in(module)
        ),
    )


def definitions_of(group: Group) -> tuple[Definition, ...]:
    """Return the metrics of a group."""
    if group is Group.HTTP:
        return request_definitions(NAMESPACE)
    return _definitions_in(sys.modules[LAYERS[group].real.__module__])


def records() -> Iterator[dict[str, Any]]:
    """Yield each metric as a record for programs."""
    for section in catalogue():
        for definition, process in section.definitions:
            yield {
                "name": definition.name,
                "type": definition.type,
                "help": definition.help,
                "group": section.name,
                "process": process,
                "labels": {
                    label: {"values": list(of.known), "others": of.others or None}
                    for label, of in definition.labels.items()
                },
                "multiprocess_mode": definition.mode or None,
                "buckets": list(definition.buckets) or None,
                "exemplars": definition.exemplars,
                "detail": definition.detail or None,
                "example": definition.example or None,
            }


def _definitions_in(module: ModuleType) -> tuple[Definition, ...]:
    """Return what a module defines, in its order."""
    return tuple(each for each in vars(module).values() if isinstance(each, Definition))
