"""What an exposition is made of: families, their children, samples.

Owns what is remembered of each between two scrapes, so that what did not change is not made again.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from authly.monitoring.definitions import Definition
from authly.monitoring.multiprocess.exemplars import Exemplar
from authly.monitoring.multiprocess.text import Text

Labels = tuple[tuple[str, str], ...]
Numbers = tuple[float, ...]


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


@lru_cache(maxsize=256)
def _templates(names: tuple[tuple[str, Labels], ...]) -> dict[str, str]:
    """Return where an exposition keeps what it made of the names of samples.

    Collectors make their families anew at each scrape, of the same names.
    """
    return {}


class Child:
    """The samples of one set of labels, which appear and disappear together.

    Args:
        labels: what all of them have.
        names: the name and labels of each sample, in the order in which they are shown.
    """

    __slots__ = (
        "below_zero",
        "changed",
        "created",
        "exemplars",
        "expired",
        "labels",
        "names",
        "partial",
        "raw",
        "removed",
        "templates",
        "texts",
        "values",
    )

    def __init__(self, labels: Labels, names: Iterable[tuple[str, Labels]] = ()) -> None:
        self.labels = labels
        self.names = tuple(names)
        self.values: Numbers = ()
        # The totals that they were made from.
        self.raw: Numbers = ()
        # Seconds since the epoch; 0 where it is not known.
        self.created = 0.0
        # When a value was last seen to change, on the clock of the collector.
        self.changed = 0.0
        # Whether it was removed everywhere, and whether nobody has updated it for too long.
        self.removed = False
        # Whether it is a histogram of which not all is known, and whether one that may observe negative amounts.
        self.partial = False
        self.below_zero = False
        self.expired = False
        # By the index of their sample.
        self.exemplars: dict[int, Exemplar] = {}
        # What an exposition made of all but the values, and of all of it, by format. The former is emptied when there
        # is another time of creation, the latter when a value changes.
        self.templates: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    @property
    def hidden(self) -> bool:
        """Whether it is left out of the exposition."""
        return self.removed or self.expired or self.partial

    def samples(self) -> list[Sample]:
        """Return the samples."""
        return [Sample(name, labels, value) for (name, labels), value in zip(self.names, self.values, strict=True)]


class Family:
    """A metric with all its samples.

    Args:
        name: without the ``_total`` of a counter, as OpenMetrics has it.
        type: counter, gauge, histogram or summary.
        help: the help text, not escaped.
        children: in the order of their labels.
    """

    __slots__ = ("_size", "children", "help", "name", "texts", "type")

    def __init__(self, name: str, type_: str, help_: str, children: Iterable[Child] = ()) -> None:
        self.name = name
        self.type = type_
        self.help = help_
        self.children = list(children)
        # What an exposition made of it, by format, and how many samples are shown; -1 where nobody has counted yet.
        self.texts: dict[str, Text] = {}
        self._size = -1

    def changed(self) -> None:
        """Forget what was made of it: to be called when anything in it changes."""
        self.texts.clear()
        self._size = -1

    @classmethod
    def of(cls, name: str, type_: str, help_: str, samples: Iterable[Sample]) -> "Family":
        """Return a family of given samples."""
        listed = list(samples)
        names = tuple([(sample.name, sample.labels) for sample in listed])
        return cls._of(name, type_, help_, names, [sample.value for sample in listed])

    @classmethod
    def defined(cls, definition: Definition, values: Iterable[tuple[Labels, float]]) -> "Family":
        """Return a family of one sample for each set of labels.

        Args:
            definition: of a counter or a gauge.
            values: labels and numbers.
        """
        name = definition.name
        pairs = [((name, labels), float(value)) for labels, value in values]
        return cls.named(definition, tuple([named for named, _ in pairs]), [value for _, value in pairs])

    @classmethod
    def named(cls, definition: Definition, names: tuple[tuple[str, Labels], ...], values: Iterable[float]) -> "Family":
        """Return a family of samples whose names are known.

        Args:
            definition: of the family.
            names: the name and labels of each sample, in the order in which they are shown.
            values: the number of each.
        """
        return cls._of(definition.family, definition.type, definition.help, names, values)

    @classmethod
    def _of(
        cls, name: str, type_: str, help_: str, names: tuple[tuple[str, Labels], ...], values: Iterable[float]
    ) -> "Family":
        child = Child((), names)
        child.values = tuple(values)
        child.templates = _templates(names)
        return cls(name, type_, help_, [child])

    @property
    def size(self) -> int:
        """How many samples are shown."""
        if self._size < 0:
            self._size = sum([len(child.names) for child in self.children if not child.hidden])
        return self._size

    @property
    def samples(self) -> list[Sample]:
        """All samples that are shown."""
        return [sample for child in self.children if not child.hidden for sample in child.samples()]
