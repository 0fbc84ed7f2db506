"""From the numbers of many files to the families of one exposition.

No files and no clock: only arithmetic. Knows what each type and each gauge mode means, as prometheus-client's
multiprocess collector defines it, and does better where that one is wrong: a gauge that a process never set takes no
part in ``min`` and ``max``, a removed series is gone, and no family and no sample is ever there twice.

Numbers are put in the order of the columns of their kind (see ``columns``); all series are added up in one go.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from authly.monitoring.multiprocess import dense_file
from authly.monitoring.multiprocess.columns import EXEMPLIFIED, Kind, Source, arrange, parse_key, targets_of, uses_of
from authly.monitoring.multiprocess.exemplars import Exemplar, Record
from authly.monitoring.multiprocess.families import Child, Family, Labels
from authly.monitoring.multiprocess.reader import File
from authly.monitoring.multiprocess.totals import ABSENT


class Aggregate(NamedTuple):
    """The result of an aggregation.

    Args:
        families: in the order of their names.
        conflicts: how many entries are left out, because an earlier file gave their metric another type or mode, or
            because their key is not one that prometheus-client could have written.
    """

    families: list[Family]
    conflicts: int


class Aggregation:
    """Merges files into families, remembering what they had in common with the last time.

    It is the :class:`~.reader.Plan` of a reader.

    Args:
        ttl: seconds after which a series that nobody updates is left out; 0 keeps all.
    """

    def __init__(self, ttl: float = 0.0) -> None:
        self._ttl = ttl
        self._kinds: dict[tuple[str, str], Kind] = {}
        # Which kind of file a family belongs to: the first that named it.
        self._owners: dict[str, Kind] = {}
        self._conflicts: dict[File, int] = {}
        # The children that have exemplars, and the names of their families.
        self._exemplified: dict[Child, str] = {}
        self._all: list[Family] = []
        self._order_changed = False

    # A reader's plan

    def add_entries(self, file: File, keys: list[bytes]) -> None:
        """Give each new entry of a file a column."""
        kind = self._kinds.setdefault(_kind_of(file), Kind(*_kind_of(file)))
        columns = kind.files.setdefault(file, [])
        taken = set(columns) - {ABSENT}
        known = kind.columns
        for key in keys:
            column = known.get(key)
            if column is None or (column in taken and kind.adds_up):
                column = self._column(kind, file, key, taken)
            columns.append(column)
            if column != ABSENT:
                taken.add(column)
        if kind.adds_up:
            kind.totals.place(file, columns, len(kind.keys))
        kind.stamps_changed = True

    def update_stamps(self, file: File) -> None:
        """Note that series were removed or came back."""
        self._kinds[_kind_of(file)].stamps_changed = True

    def remove_file(self, file: File) -> None:
        """Forget a file, and the columns that only it had."""
        self._conflicts.pop(file, None)
        kind = self._kinds.get(_kind_of(file))
        if kind is None or kind.files.pop(file, None) is None:
            return
        kind.totals.remove(file)
        kept = sorted({column for columns in kind.files.values() for column in columns} - {ABSENT})
        if len(kept) == len(kind.keys):
            return
        renumbered = {old: new for new, old in enumerate(kept)}
        renumbered[ABSENT] = ABSENT
        kind.columns = {key: renumbered[old] for key, old in kind.columns.items() if old in renumbered}
        kind.keys = [kind.keys[old] for old in kept]
        kind.series = {series: renumbered[old] for series, old in kind.series.items() if old in renumbered}
        for other, columns in kind.files.items():
            columns[:] = [renumbered[old] for old in columns]
            if kind.adds_up:
                kind.totals.place(other, columns, len(kept))
        self._rebuild(kind)

    def _column(self, kind: Kind, file: File, key: bytes, taken: set[int]) -> int:
        """Return a column for a key that has none, or whose column the file has given already.

        Returns:
            The column; :data:`ABSENT` for a key that is left out.
        """
        parsed = parse_key(key, kind.type)
        if parsed is None or self._owners.setdefault(parsed.family, kind) is not kind:
            self._conflicts[file] = self._conflicts.get(file, 0) + 1
            return ABSENT
        if not kind.adds_up:
            # Keys that differ in their help text alone are one series, of which one number is chosen.
            series = parsed.family, parsed.sample, parsed.labels
            same = kind.series.get(series)
            if same is not None:
                kind.columns[key] = same
                return same
            kind.series[series] = len(kind.keys)
        # An intact file has a key once; a second entry of one counts too, as it does for prometheus-client. No key
        # that was written begins with a space.
        while kind.columns.get(key, ABSENT) in taken:
            key = b" " + key
        column = kind.columns.get(key)
        if column is None:
            column = kind.columns[key] = len(kind.keys)
            kind.keys.append(parsed)
            if parsed.family not in kind.incomplete:
                kind.incomplete[parsed.family] = kind.families.pop(parsed.family, None)
        return column

    # An exposition's families

    def combine(self, files: Iterable[File], now: float = 0.0) -> Aggregate:
        """Merge the files that count.

        Args:
            files: what a reader found; each of them it has told this aggregation about.
            now: seconds on a clock that never goes back.
        """
        present: dict[Kind, list[File]] = {kind: [] for kind in self._kinds.values()}
        conflicts = 0
        for file in files:
            conflicts += self._conflicts.get(file, 0)
            kind = self._kinds.get(_kind_of(file))
            if kind is not None and file in kind.files:
                present[kind].append(file)
        for kind, members in present.items():
            # By identity: a file's numbers are another object when they have changed.
            signature = tuple(file.data for file in members)
            missing = self._complete(kind)
            if (
                not missing
                and not kind.stamps_changed
                and kind.signature is not None
                and len(signature) == len(kind.signature)
                and all(new is old for new, old in zip(signature, kind.signature, strict=True))
            ):
                continue
            kind.stamps_changed = kind.stamps_changed or members != kind.present
            kind.present, kind.signature = members, signature
            if missing:
                kind.totals.forget_values()
            self._update(kind, members, now)
        if self._ttl:
            self._expire(now)
        if self._order_changed:
            self._order_changed = False
            self._all = sorted(
                (built.family for kind in self._kinds.values() for built in kind.families.values()),
                key=lambda family: family.name,
            )
        return Aggregate([family for family in self._all if family.size], conflicts)

    def _complete(self, kind: Kind) -> bool:
        """Build the families that new columns made incomplete; tell whether there were any."""
        if not kind.incomplete:
            return False
        kind.uses = kind.targets = None
        columns: dict[str, list[int]] = {name: [] for name in kind.incomplete}
        for column, key in enumerate(kind.keys):
            if key.family in columns:
                columns[key.family].append(column)
        for name, members in columns.items():
            if members:
                kind.families[name] = arrange(kind, name, members, kind.incomplete[name])
        kind.incomplete.clear()
        self._order_changed = True
        return True

    def _rebuild(self, kind: Kind) -> None:
        left = {key.family for key in kind.keys}
        for name in kind.families.keys() - left:
            if self._owners.get(name) is kind:
                del self._owners[name]
        for name in left:
            kind.incomplete.setdefault(name, kind.families.get(name))
        for name in kind.incomplete.keys() - left:
            del kind.incomplete[name]
        kind.families.clear()
        kind.uses = kind.targets = None
        kind.signature = None
        kind.stamps_changed = True
        self._order_changed = True

    def expired(self) -> dict[str, list[str]]:
        """Return the keys of the series that nobody has updated for too long, by the kind of their files."""
        keys: dict[str, list[str]] = {}
        for kind in self._kinds.values():
            late = {
                column
                for _, sources in kind.families.values()
                for source in sources
                if source.child.expired
                for column in source.columns
            }
            if late:
                prefix = f"{kind.type}_{kind.mode}" if kind.mode else kind.type
                keys[prefix] = [key.decode() for key, column in kind.columns.items() if column in late]
        return keys

    def _expire(self, now: float) -> None:
        for kind in self._kinds.values():
            for family, _ in kind.families.values():
                for child in family.children:
                    expired = now - child.changed > self._ttl
                    if expired != child.expired:
                        child.expired = expired
                        family.changed()

    def _update(self, kind: Kind, files: list[File], now: float) -> None:
        if kind.stamps_changed:
            self._update_lives(kind, files)
            kind.stamps_changed = False
        if kind.mode == "all":
            self._update_all(kind, files, now)
            return
        changed: Iterable[int] | None = None
        if kind.adds_up:
            changed = kind.totals.update(files, len(kind.keys))
            totals = kind.totals.values
        else:
            totals = _chosen(kind, files)
        for family, (child, _, _, take, finish) in _uses(kind, changed):
            raw = take(totals)
            if raw == child.raw:
                continue
            child.raw = raw
            child.values = finish(raw)
            child.changed = now
            child.texts.clear()
            family.changed()
            if kind.mode == "mostrecent":
                child.removed = raw[0] is _NOTHING

    def _update_all(self, kind: Kind, files: list[File], now: float) -> None:
        """Give each file's gauges to children of its own, told apart by the label ``pid``."""
        found: dict[str, dict[Labels, float]] = {name: {} for name in kind.families}
        for file in files:
            numbers = file.numbers()
            for number, column in enumerate(kind.files[file]):
                if column == ABSENT or file.stamps[number] < 0:
                    continue
                key = kind.keys[column]
                # In place of a label of that name, should the gauge have one of its own: no sample has a name twice.
                labels = tuple(sorted({**dict(key.labels), "pid": file.name.writer}.items()))
                found[key.family][labels] = numbers[dense_file.FRONT + number]
        for name, (family, _) in kind.families.items():
            family.changed()
            known = {child.labels: child for child in family.children}
            family.children = []
            for labels, value in sorted(found[name].items()):
                child = known.get(labels) or Child(labels, [(name, labels)])
                if child.values != (value,):
                    child.values = (value,)
                    child.changed = now
                    child.texts.clear()
                family.children.append(child)

    def _update_lives(self, kind: Kind, files: list[File]) -> None:
        """Find out when each child came into being, and whether it has been removed everywhere."""
        created = [math.inf] * len(kind.keys)
        alive = [False] * len(kind.keys)
        for file in files:
            for column, stamp in zip(kind.files[file], file.stamps, strict=True):
                if column == ABSENT:
                    continue
                if stamp >= 0:
                    alive[column] = True
                    if 0 < stamp < created[column]:
                        created[column] = stamp
        for family, sources in kind.families.values():
            for child, columns, _, _, _ in sources:
                first = min([created[column] for column in columns])
                since = first if math.isfinite(first) and kind.type != "gauge" else 0.0
                # Of the most recent of several, its value tells: there may be none in spite of all entries.
                removed = child.removed if kind.mode == "mostrecent" else not any(alive[column] for column in columns)
                if since != child.created or removed != child.removed:
                    child.created, child.removed = since, removed
                    child.templates.clear()
                    child.texts.clear()
                    family.changed()

    # Exemplars

    def attach(self, records: Mapping[int, Iterable[Record]]) -> None:
        """Give each counter and each bucket its most recent exemplar, and only that.

        Args:
            records: what each slot has; they are about the files that were combined last.
        """
        found: dict[Child, dict[int, Exemplar]] = {child: {} for child in self._exemplified}
        names = self._exemplified
        self._exemplified = {}
        for kind in self._kinds.values():
            if not records or kind.type not in EXEMPLIFIED:
                continue
            if kind.targets is None:
                kind.targets = targets_of(kind)
            for column, exemplar in _latest(kind, records).items():
                target = kind.targets[column]
                if target is None:
                    continue
                self._exemplified[target.child] = names[target.child] = target.family
                shown = found.setdefault(target.child, {})
                # Keys that differ in their help text alone have one sample.
                if target.sample not in shown or shown[target.sample].timestamp < exemplar.timestamp:
                    shown[target.sample] = exemplar
        changed = set()
        for child, exemplars in found.items():
            if exemplars != child.exemplars:
                child.exemplars = exemplars
                child.texts.clear()
                changed.add(names[child])
        if changed:
            for family in self._all:
                if family.name in changed:
                    family.changed()


def _uses(kind: Kind, columns: Iterable[int] | None) -> Iterable[tuple[Family, Source]]:
    """Return what becomes of some columns, or of all of them; each child once."""
    if columns is None:
        return ((family, source) for family, sources in kind.families.values() for source in sources)
    if kind.uses is None:
        kind.uses = uses_of(kind)
    uses = kind.uses
    return {id(uses[column].source): uses[column] for column in columns}.values()


def _latest(kind: Kind, records: Mapping[int, Iterable[Record]]) -> dict[int, Exemplar]:
    """Return the most recent exemplar of each column that has one."""
    latest: dict[int, Exemplar] = {}
    type_, keys = kind.type, kind.keys
    for file in kind.present:
        if file.name.slot is None:
            continue
        columns, positions, stamps = kind.files[file], file.positions, file.stamps
        for _, prefix, position, checksum, exemplar in records.get(file.name.slot, ()):
            if prefix != type_:
                continue
            entry = bisect_left(positions, position // 8)
            if entry == len(positions) or 8 * positions[entry] != position:
                continue
            column = columns[entry]
            # Where the key is another, the record is about a file that was there before. And an exemplar from before
            # the series was removed, or began anew, is about numbers that are gone.
            if column == ABSENT or keys[column].checksum != checksum or not 0 <= stamps[entry] <= exemplar.timestamp:
                continue
            if column not in latest or latest[column].timestamp < exemplar.timestamp:
                latest[column] = exemplar
    return latest


def _kind_of(file: File) -> tuple[str, str]:
    return file.name.type, file.name.mode.removeprefix("live")


# Stands for the number of a gauge that nobody has set.
_NOTHING = float("nan")


def _chosen(kind: Kind, files: list[File]) -> list[float]:
    """Return the value of each column by the kind's mode; :data:`_NOTHING` where the mode leaves none."""
    found: list[float] = [_NOTHING] * len(kind.keys)
    unset: list[float] = [_NOTHING] * len(kind.keys)
    latest = [0.0] * len(kind.keys)
    for file in files:
        numbers = iter(file.numbers()[dense_file.FRONT :])
        ours = file.name.slot is not None
        for column, value, stamp in zip(kind.files[file], numbers, numbers, strict=True):
            if column == ABSENT or stamp < 0:
                continue
            before = found[column]
            if kind.mode == "mostrecent":
                # A gauge that was never set has no time, and says nothing.
                if stamp > latest[column]:
                    latest[column], found[column] = stamp, value
            elif ours and stamp == 0:
                unset[column] = value
            elif before is _NOTHING or (value < before if kind.mode == "min" else value > before):
                found[column] = value
    if kind.mode == "mostrecent":
        return found
    # Set by nobody at all: as in a single process, it is what it was constructed with.
    return [unset[column] if value is _NOTHING else value for column, value in enumerate(found)]
