"""How finely histograms tell durations apart."""

import math
from collections.abc import Callable
from typing import Final, Literal

Resolution = Literal["low", "normal", "high"] | tuple[float, ...]
Edges = tuple[float, ...]

# Edges of every histogram, whatever its resolution: the service level objectives count on them.
OBJECTIVES: Final = (0.25, 1.0)


def edges_at(resolution: Resolution) -> Callable[[Edges], Edges]:
    """Return what turns the edges of a definition into those of its histogram.

    Args:
        resolution: low takes every second edge, normal all of them, high has one more between any two; or the edges of
            all histograms, in seconds.
    """

    def edges(defined: Edges) -> Edges:
        if resolution == "low":
            chosen = defined[::-2]
        elif resolution == "high":
            chosen = (*defined, *map(_between, defined, defined[1:]))
        else:
            chosen = defined if isinstance(resolution, str) else resolution
        return tuple(sorted({*chosen, *OBJECTIVES}))

    return edges


def _between(lower: float, upper: float) -> float:
    """Return the geometric mean of two edges, to two digits."""
    return float(f"{math.sqrt(lower * upper):.2g}")
