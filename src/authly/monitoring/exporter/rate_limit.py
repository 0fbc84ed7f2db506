"""How often one client may ask.

One exporter answers for all workers of an instance, so a count kept here is exact without any shared storage.
"""

import math
from collections.abc import Callable

_MAX_CLIENTS = 4096


class RateLimit:
    """Lets each client through so many times a minute, and that many at once at most.

    The generic cell rate algorithm: for each client one moment, the one at which it would have used up nothing.

    Args:
        per_minute: how many; 0 lets everybody through.
        monotonic: the clock, in seconds.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._monotonic = monotonic
        self._clear_at: dict[str, float] = {}

    def seconds_to_wait(self, client: str) -> int:
        """Count a request of a client; return 0 if it may go on, else after how many seconds it may come again."""
        if not self._interval:
            return 0
        now = self._monotonic()
        # Taken out and put back in, so that the first in the dictionary is who has been silent longest.
        clear_at = max(self._clear_at.pop(client, now), now)
        wait = clear_at + self._interval - now - 60.0
        # The sum of many intervals is off by a little; a billionth of a second is nobody's wait.
        if wait > 1e-9:
            self._clear_at[client] = clear_at
            return math.ceil(wait)
        self._clear_at[client] = clear_at + self._interval
        if len(self._clear_at) > _MAX_CLIENTS:
            del self._clear_at[next(iter(self._clear_at))]
        return 0
