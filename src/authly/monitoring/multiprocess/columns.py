"""From the keys of metric files to the arrangement of an exposition.

Every distinct key of a kind of file (``counter``, ``gauge_max``, ...) is a *column*, for as long as some file has it.
Owns what a key says, and how the columns of a family become children: which buckets, in which order, with which count.
"""

import json
import math
from collections.abc import Callable
from itertools import accumulate
from operator import itemgetter
from sys import intern
from typing import NamedTuple

from authly.monitoring.multiprocess.exemplars import checksum_of_key
from authly.monitoring.multiprocess.families import Child, Family, Labels, Numbers
from authly.monitoring.multiprocess.reader import File
from authly.monitoring.multiprocess.totals import Totals

# What may follow a family's name in the names of its entries. The count of a histogram is not stored: it is what its
# buckets come to.
_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum"),
    "summary": ("_count", "_sum"),
}
# Without what json.loads does besides, which is most of what it does for texts as short as keys.
_decode = json.JSONDecoder().raw_decode
# The types whose samples have exemplars, and the end of such a sample's name.
EXEMPLIFIED = {"counter": "_total", "histogram": "_bucket"}


class Key(NamedTuple):
    """What a key says; ``labels`` without ``le``, which is a number, or None; ``checksum`` is the key's own."""

    family: str
    sample: str
    labels: Labels
    le: float | None
    help: str
    checksum: int


class Kind:
    """The files of one type and mode, live or not, and the columns of their keys."""

    def __init__(self, type_: str, mode: str) -> None:
        self.type = type_
        self.mode = mode
        self.columns: dict[bytes, int] = {}
        self.keys: list[Key] = []
        # Where values are chosen rather than added, the column of each series.
        self.series: dict[tuple[str, str, Labels], int] = {}
        # For each file the column of each of its entries.
        self.files: dict[File, list[int]] = {}
        # Where values are added up.
        self.totals = Totals()
        self.families: dict[str, Arrangement] = {}
        # Families that new columns made incomplete, and what they were.
        self.incomplete: dict[str, Arrangement | None] = {}
        # The files that counted at the last time, and what was in them.
        self.present: list[File] = []
        self.signature: tuple[bytes, ...] | None = None
        # Whether series came, went or came back since.
        self.stamps_changed = False
        # What becomes of each column, and where its exemplars are shown; None when that must be found out anew.
        self.uses: list[Use] | None = None
        self.targets: list[Target | None] | None = None

    @property
    def adds_up(self) -> bool:
        """Whether values of different files are simply added."""
        return self.type != "gauge" or self.mode == "sum"


class Arrangement(NamedTuple):
    """A family under construction: what it is, and for each child how its values come about."""

    family: Family
    sources: "list[Source]"


class Source(NamedTuple):
    """How the values of a child come about: which totals, for which of its samples, and what is made of them."""

    child: Child
    columns: tuple[int, ...]
    samples: tuple[int, ...]
    take: Callable[[list[float]], Numbers]
    finish: Callable[[Numbers], Numbers]


class Use(NamedTuple):
    """What becomes of a column."""

    family: Family
    source: Source


class Target(NamedTuple):
    """A sample that can have an exemplar."""

    family: str
    child: Child
    sample: int


def arrange(kind: Kind, name: str, columns: list[int], former: Arrangement | None) -> Arrangement:
    """Arrange the columns of a family into children; those that were there before stay who they are."""
    family = Family(name, kind.type, kind.keys[columns[0]].help)
    children: dict[Labels, dict[tuple[str, float | None], list[int]]] = {}
    for column in columns:
        key = kind.keys[column]
        children.setdefault(key.labels, {}).setdefault((key.sample, key.le), []).append(column)
    known = {child.labels: child for child in former.family.children} if former else {}
    sources = [_source(name, kind.type, labels, children[labels], known.get(labels)) for labels in sorted(children)]
    # In the mode all, the children are not the columns' but those of each file; see _update_all.
    family.children = former.family.children if former and kind.mode == "all" else [each.child for each in sources]
    return Arrangement(family, sources)


def _source(
    name: str, type_: str, labels: Labels, samples: dict[tuple[str, float | None], list[int]], known: Child | None
) -> Source:
    bounds = sorted(le for sample, le in samples if le is not None)
    names: list[tuple[str, Labels]] = []
    groups: list[list[int]] = []
    bucket = f"{name}_bucket"
    for bound in bounds:
        names.append((bucket, tuple(sorted((*labels, ("le", _bound(bound)))))))
        groups.append(samples[bucket, bound])
    if bounds:
        names.append((f"{name}_count", labels))
    for sample, le in sorted(samples, key=lambda pair: pair[0]):
        if le is None:
            names.append((sample, labels))
            groups.append(samples[sample, None])
    columns = tuple(column for group in groups for column in group)
    sizes = [len(group) for group in groups]
    # The count, which follows the buckets, has no columns of its own.
    shown = tuple(number + (0 < len(bounds) <= number) for number, size in enumerate(sizes) for _ in range(size))
    child = known if known is not None and known.names == tuple(names) else Child(labels, names)
    # Room may have run out between the entries of a histogram, or not all of them been written yet.
    child.partial = type_ == "histogram" and not (bounds and math.isinf(bounds[-1]))
    child.below_zero = bool(bounds) and bounds[0] < 0
    steps: list[Callable[[Numbers], Numbers]] = []
    if any(size > 1 for size in sizes):
        steps.append(lambda raw: _added(raw, sizes))
    if bounds:
        steps.append(lambda raw: _cumulated(raw, len(bounds)))
    finish: Callable[[Numbers], Numbers]
    if not steps:
        finish = tuple
    elif len(steps) == 1:
        finish = steps[0]
    else:
        finish = lambda raw: steps[1](steps[0](raw))  # noqa: E731
    take: Callable[[list[float]], Numbers]
    if len(columns) == 1:
        (only,) = columns
        take = lambda totals: (totals[only],)  # noqa: E731
    else:
        take = itemgetter(*columns)
    return Source(child, columns, shown, take, finish)


def _added(raw: Numbers, sizes: list[int]) -> Numbers:
    """Add up the columns of one sample: several keys that differ in their help text alone."""
    numbers = iter(raw)
    return tuple(sum(next(numbers) for _ in range(size)) for size in sizes)


def _cumulated(raw: Numbers, buckets: int) -> Numbers:
    """Return cumulative buckets, the count, and the rest: files hold what each bucket got for itself."""
    cumulative = tuple(accumulate(raw[:buckets]))
    return (*cumulative, cumulative[-1], *raw[buckets:])


def _bound(bound: float) -> str:
    """Return a bucket's bound as prometheus-client writes it, which is as Go does."""
    if math.isinf(bound):
        return "+Inf" if bound > 0 else "-Inf"
    text = repr(bound)
    dot = text.find(".")
    if bound > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return text


def parse_key(key: bytes, type_: str) -> Key | None:
    """Take a key apart; None for one that prometheus-client could not have written."""
    try:
        text = key.decode()
        (family, sample, labels, help_), end = _decode(text)
        if text[end:].strip():
            return None
        if not (isinstance(family, str) and isinstance(sample, str) and isinstance(help_, str) and family and sample):
            return None
        if not sample.startswith(family) or sample[len(family) :] not in _SUFFIXES[type_]:
            return None
        le = None
        if type_ == "histogram" and sample == f"{family}_bucket":
            bound = labels.pop("le")
            le = float(bound)
            if not isinstance(bound, str) or math.isnan(le):
                return None
        pairs = []
        for name, value in sorted(labels.items()):
            if not isinstance(value, str):
                return None
            # The same few strings again and again: each once in memory.
            pairs.append((intern(name), intern(value)))
        return Key(intern(family), intern(sample), tuple(pairs), le, intern(help_), checksum_of_key(key))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def uses_of(kind: Kind) -> list[Use]:
    """Return for each column what becomes of it."""
    uses: dict[int, Use] = {}
    for family, sources in kind.families.values():
        for source in sources:
            uses.update(dict.fromkeys(source.columns, Use(family, source)))
    return [uses[column] for column in range(len(kind.keys))]


def targets_of(kind: Kind) -> list[Target | None]:
    """Return for each column the sample whose exemplars it has."""
    targets: list[Target | None] = [None] * len(kind.keys)
    for name, (_, sources) in kind.families.items():
        for source in sources:
            for column, sample in zip(source.columns, source.samples, strict=True):
                if source.child.names[sample][0] == name + EXEMPLIFIED[kind.type]:
                    targets[column] = Target(name, source.child, sample)
    return targets
