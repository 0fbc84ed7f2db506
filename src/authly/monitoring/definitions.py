"""What a metric family is, said in one place: its name, its type, its help text, and what its labels can be.

A definition is what a worker makes its metrics from, what the exporter names its own families by, and what the
catalogue is printed from. Imports nothing but the standard library: the exporter stays small.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, NamedTuple

Type = Literal["counter", "gauge", "histogram"]
Mode = Literal["", "livesum", "livemax", "livemin", "mostrecent", "max", "min"]


class Values(NamedTuple):
    """What a label can be.

    Args:
        known: values that are known in advance.
        others: in words, what else it can be, and what bounds that; empty where there is nothing else.
    """

    known: tuple[str, ...] = ()
    others: str = ""


def closed(values: Iterable[str]) -> Values:
    """Return a vocabulary that has these values and no others."""
    return Values(tuple(map(str, values)))


def described(others: str, *known: str) -> Values:
    """Return a vocabulary that is not known in full; what bounds it is said in words."""
    return Values(known, others)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric family.

    Args:
        name: as it is in an exposition, with ``_total`` where it is a counter.
        type: counter, gauge or histogram.
        help: one sentence, as an exposition has it.
        labels: what each label can be, in their order.
        mode: of a gauge, how the values of several processes become one; empty for what the exporter says itself.
        buckets: of a histogram, the upper edges at normal resolution.
        exemplars: of a histogram, whether requests that are part of a trace leave its id.
        detail: what else there is to know, for the catalogue.
        example: a query, for the catalogue.
    """

    name: str
    type: Type
    help: str
    labels: Mapping[str, Values] = field(default_factory=dict)
    mode: Mode = ""
    buckets: tuple[float, ...] = ()
    exemplars: bool = False
    detail: str = ""
    example: str = ""

    @property
    def family(self) -> str:
        """The name of the family as OpenMetrics has it, without the suffix of a counter."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    def series(self) -> Iterator[tuple[str, ...]]:
        """Yield every combination of the values that are known in advance."""
        return product(*(values.known for values in self.labels.values()))
