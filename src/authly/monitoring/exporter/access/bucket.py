"""A token bucket: a limit to how often something may happen."""

from collections.abc import Callable


class Bucket:
    """Lets something happen once in an interval, and so many times at once.

    Args:
        interval: seconds; 0 sets no limit.
        burst: how many times at once.
        monotonic: the clock, in seconds.
    """

    def __init__(self, interval: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._interval = interval
        self._room = interval * max(burst - 1, 0)
        self._monotonic = monotonic
        # The moment at which it is full again.
        self._full_at = 0.0

    def take(self) -> bool:
        """Count once more, if there is room."""
        if not self._interval:
            return True
        now = self._monotonic()
        full_at = max(self._full_at, now)
        # The sum of many intervals is off by a little.
        if full_at - now > self._room + 1e-9:
            return False
        self._full_at = full_at + self._interval
        return True
