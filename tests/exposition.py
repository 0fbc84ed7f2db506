"""What rose between two scrapes, in words short enough to be written down in a test."""

from prometheus_client import CollectorRegistry

from authly.monitoring.definitions import Definition
from authly.monitoring.instruments import Instruments
from authly.monitoring.metrics import compose
from tests.instance import Series

Rise = dict[str, float]


def definitions() -> dict[str, Definition]:
    """Return what workers measure, by name."""
    instruments = Instruments("authly", CollectorRegistry())
    compose(instruments=instruments)
    return {definition.name: definition for definition in instruments.definitions}


def numbers(series: Series) -> Rise:
    """Return what was counted, clients taken together, as ``name value value``: the labels in the order of their names.

    Of a histogram, how often something was observed.
    """
    found: Rise = {}
    for (name, has), value in series.items():
        kept = name.removeprefix("authly_")
        if kept.endswith("_total"):
            kept = kept.removesuffix("_total")
        elif kept.endswith("_seconds_count"):
            kept = kept.removesuffix("_seconds_count")
        else:
            continue
        labels = [text for label, text in sorted(has) if label != "client_id"]
        key = " ".join([kept, *labels])
        found[key] = found.get(key, 0.0) + value
    return found


def rise(before: Series, after: Series, *families: str) -> Rise:
    """Return what rose, and by how much, of families whose names begin so (without ``authly_``)."""
    first = numbers(before)
    return {
        key: value - first.get(key, 0.0)
        for key, value in numbers(after).items()
        if value != first.get(key, 0.0) and key.startswith(families)
    }
