"""What changed between two moments."""

import math
from typing import NamedTuple

from authly.monitoring.inspection.snapshot import Labels, Snapshot


class Change(NamedTuple):
    """A series that is not what it was.

    Args:
        name: of the sample.
        labels: in the order of their names.
        before: the value at the first moment; None where the series was not there.
        after: the value at the second; None where it is gone.
        per_second: how fast it grew, for what only grows; None for anything else.
        reset: whether something that only grows fell, because what counted it began anew.
    """

    name: str
    labels: Labels
    before: float | None
    after: float | None
    per_second: float | None = None
    reset: bool = False


def difference(before: Snapshot, after: Snapshot) -> list[Change]:
    """Return the series whose values differ, in the order of their names."""
    changes = []
    seconds = after.moment - before.moment
    for series in sorted(before.values.keys() | after.values.keys()):
        old, new = before.values.get(series), after.values.get(series)
        if old == new or (old is not None and new is not None and math.isnan(old) and math.isnan(new)):
            continue
        name, labels = series
        rate = None
        reset = False
        if name in after.cumulative and new is not None:
            reset = old is not None and new < old
            # What fell began again at 0, as Prometheus takes it.
            grown = new if old is None or reset else new - old
            rate = grown / seconds if seconds > 0 else None
        changes.append(Change(name, labels, old, new, rate, reset))
    return changes
