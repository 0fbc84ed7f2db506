"""How a load changes with time: a share of its peak for each moment."""

import math


def share(shape: str, at: float, seconds: float) -> float | None:
    """Return the share of the peak, from 0 to 1; None when it is over.

    ``step`` climbs in five steps, to see where it breaks. ``spike`` is a tenth of the peak, and all of it for a fifth
    of the time. ``soak`` rises and falls between two fifths and all of the peak, as days do, six times. None is steady.

    Args:
        shape: its name; empty for a steady load.
        at: seconds from the start.
        seconds: that all of it takes.
    """
    if at >= seconds:
        return None
    moment = at / seconds
    if shape == "step":
        return (1 + math.floor(5 * moment)) / 5
    if shape == "spike":
        return 1.0 if 0.4 <= moment < 0.6 else 0.1
    if shape == "soak":
        return 0.7 - 0.3 * math.cos(2 * math.pi * 6 * moment)
    return 1.0
