"""What a measurement is: numbers of several rounds, and rows that compare two sides."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Takes a line about what is being done.
Progress = Callable[[str], None]

BEST = "best case"
USUAL = "usual"
WORST = "worst case"
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the range of the half of them in the middle.

    Args:
        median: of all rounds.
        low: the lower quartile.
        high: the upper quartile.
        rounds: how many there were.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """Summarize the numbers of all rounds."""
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0], 1)
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(median, low, high, len(numbers))


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        benchmark: what was measured, such as ``scrape``.
        case: under which circumstances.
        kind: whether it is the best case, a usual one or the worst.
        unit: of both measurements.
        subject: what is on trial.
        measured: its numbers.
        reference: what it is compared with; empty where a number stands alone.
        reference_measured: the reference's numbers; None where it stands alone or is not installed.
        ratio: the reference's number divided by the subject's, round by round.
        missing: why there is no comparison.
    """

    benchmark: str
    case: str
    kind: str
    unit: str
    subject: str
    measured: Spread
    reference: str = ""
    reference_measured: Spread | None = None
    ratio: Spread | None = None
    missing: str = ""


def compare(
    benchmark: str,
    case: str,
    kind: str,
    unit: str,
    subject: tuple[str, Sequence[float]],
    reference: tuple[str, Sequence[float]],
) -> Row:
    """Return the row that compares two sides, round by round."""
    # A difference of two timings can come out as zero or less; such a round says nothing about a ratio.
    ratios = [theirs / ours for ours, theirs in zip(subject[1], reference[1], strict=True) if ours > 0]
    return Row(
        benchmark,
        case,
        kind,
        unit,
        subject[0],
        Spread.of(subject[1]),
        reference[0],
        Spread.of(reference[1]),
        Spread.of(ratios) if ratios else None,
    )


def alone(benchmark: str, case: str, kind: str, unit: str, subject: tuple[str, Sequence[float]]) -> Row:
    """Return the row of numbers that are compared with nothing."""
    return Row(benchmark, case, kind, unit, subject[0], Spread.of(subject[1]))
