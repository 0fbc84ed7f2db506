"""An exposition as numbers by series, at one moment."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


class SnapshotError(ValueError):
    """What was given is no exposition; the message says why."""


class Snapshot(NamedTuple):
    """What an exposition said.

    Args:
        moment: when, in seconds on any clock that all snapshots to be compared share.
        values: by the name of a sample and its labels, which are in the order of their names.
        cumulative: the names of those samples that only grow while what counts them lives.
    """

    moment: float
    values: Mapping[Series, float]
    cumulative: frozenset[str]

    def find(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield labels and value of each series of a name."""
        for (found, labels), value in self.values.items():
            if found == name:
                yield dict(labels), value


def parse(exposition: bytes, moment: float) -> Snapshot:
    """Read an exposition in either format.

    Args:
        exposition: the text format or OpenMetrics.
        moment: when it was taken, in seconds.

    Raises:
        SnapshotError: it is neither.
    """
    values: dict[Series, float] = {}
    cumulative = set()
    try:
        text = exposition.decode()
        families = (parse_openmetrics if text.endswith("# EOF\n") else parse_text)(text)
        for family in families:
            for sample in family.samples:
                values[sample.name, tuple(sorted(sample.labels.items()))] = float(sample.value)
                if family.type == "counter" or (
                    family.type in {"histogram", "summary"} and "quantile" not in sample.labels
                ):
                    cumulative.add(sample.name)
    # The parsers say what is wrong in half a dozen ways.
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SnapshotError(f"not an exposition ({error})") from error
    if not values and text.strip() and not text.lstrip().startswith("#"):
        raise SnapshotError("not an exposition (no sample in it)")
    return Snapshot(moment, values, frozenset(cumulative))
