"""From measurements in pairs to a verdict that noise cannot bring about.

Each measurement with metrics has a partner without, made a moment before or after it: what drifts meets both. The mean
of their differences has a confidence interval by Student's distribution, and the whole interval has to lie on one side
of the budget: below it, the budget is kept; above, it is exceeded; on both sides, nobody knows yet.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

CONFIDENCE = 0.95


class Verdict(StrEnum):
    """What is known of a budget."""

    KEPT = "kept"
    EXCEEDED = "exceeded"
    INCONCLUSIVE = "inconclusive"
    REPORTED = "reported"


@dataclass(frozen=True)
class Interval:
    """A mean, and between what it lies with 95 % confidence.

    Args:
        mean: of the differences.
        low: the lower bound.
        high: the upper bound.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, differences: Sequence[float]) -> "Interval":
        """Return the interval of the mean of some differences; of fewer than two nothing is known."""
        mean = statistics.fmean(differences)
        if len(differences) < 2:
            return cls(mean, -math.inf, math.inf)
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        reach = error * student_quantile((1 + CONFIDENCE) / 2, len(differences) - 1)
        return cls(mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class Measure:
    """What metrics add to something.

    Args:
        name: of what.
        unit: of differences, budget and goal.
        budget: what may be added; None where it is reported only.
        goal: what is wished for; None where there is no wish.
        differences: with metrics minus without, pair by pair.
        lower_is_better: False for what has to stay above its budget.
    """

    name: str
    unit: str
    budget: float | None
    goal: float | None
    interval: Interval
    differences: tuple[float, ...] = ()
    lower_is_better: bool = True

    @classmethod
    def of(
        cls, name: str, unit: str, budget: float | None, goal: float | None, differences: Sequence[float]
    ) -> "Measure":
        """Return what some pairs say."""
        return cls(name, unit, budget, goal, Interval.of(differences), tuple(differences))

    @property
    def verdict(self) -> Verdict:
        """What is known of the budget."""
        if self.budget is None:
            return Verdict.REPORTED
        low, high = self.interval.low, self.interval.high
        within, beyond = (high < self.budget, low > self.budget)
        if not self.lower_is_better:
            within, beyond = (low >= self.budget, high < self.budget)
        if within:
            return Verdict.KEPT
        return Verdict.EXCEEDED if beyond else Verdict.INCONCLUSIVE

    @property
    def reaches_goal(self) -> bool | None:
        """Whether the mean reaches the goal; None where there is none."""
        if self.goal is None:
            return None
        return self.interval.mean <= self.goal if self.lower_is_better else self.interval.mean >= self.goal


def availability(answered: int, asked: int) -> Interval:
    """Return the share of answered requests in percent, with the interval of Clopper and Pearson.

    Without a single loss about 3,000 requests say that 99.9 % are answered, and nothing less does.
    """
    if not asked:
        return Interval(0.0, 0.0, 100.0)
    tail = (1 - CONFIDENCE) / 2
    # A share of all has one bound only, and that may use all of the doubt.
    low = 0.0 if not answered else _share_with_tail(answered, asked, 2 * tail if answered == asked else tail)
    high = 1.0 if answered == asked else 1 - _share_with_tail(asked - answered, asked, tail)
    return Interval(100 * answered / asked, 100 * low, 100 * high)


def _share_with_tail(successes: int, trials: int, tail: float) -> float:
    """Return the share at which so many successes or more have the given probability."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        # Fewer failures than there may be: those are the short side of the sum.
        probability = sum(_binomial(trials, failures, 1 - share) for failures in range(trials - successes + 1))
        low, high = (share, high) if probability < tail else (low, share)
    return (low + high) / 2


def _binomial(trials: int, successes: int, share: float) -> float:
    if share in {0.0, 1.0}:
        return float(successes == trials * share)
    logarithm = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(share)
        + (trials - successes) * math.log1p(-share)
    )
    return math.exp(logarithm)


def student_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's distribution, for probabilities above a half."""
    low, high = 0.0, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _student(t: float, degrees: int) -> float:
    """Return the distribution function at t >= 0, by finite sums (Abramowitz and Stegun, 26.7.3)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    term, total = (cosine, 0.0) if degrees % 2 else (1.0, 0.0)
    for number in range(degrees // 2):
        total += term
        term *= cosine**2 * (
            (2 * number + 2) / (2 * number + 3) if degrees % 2 else (2 * number + 1) / (2 * number + 2)
        )
    within = 2 / math.pi * (angle + math.sin(angle) * total) if degrees % 2 else math.sin(angle) * total
    return (1 + within) / 2
