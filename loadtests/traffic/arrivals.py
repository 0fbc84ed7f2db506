"""An open loop: flows begin when they are due, whether or not earlier ones have ended.

Users of a closed loop wait for an answer before they ask again. A server that stalls is then asked less, and the
requests that would have met the stall are never measured (coordinated omission). Here a request's time counts from the
moment at which it was due.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from random import Random

import gevent
from gevent.pool import Pool

from loadtests.traffic.flows import FLOWS, Flow
from loadtests.traffic.options import Options
from loadtests.traffic.shapes import share
from loadtests.traffic.wire import UnexpectedAnswerError

# Whoever is due while so many wait comes late, and the time until then counts too.
_MOST_AT_ONCE = 500


class Arrivals:
    """Lets flows begin at random moments at a given rate, as people who know nothing of each other do.

    Args:
        options: rate, mix and shape.
        make: makes somebody who performs a flow.
    """

    def __init__(self, options: Options, make: Callable[[type[Flow], Random], Flow]) -> None:
        self._options = options
        self._make = make
        # Of its own: what is due when must not depend on what is answered.
        self._random = Random(options.random_seed)
        self._idle: dict[str, list[Flow]] = defaultdict(list)
        self._made = 0

    def run(self) -> None:
        """Go on until the time is over, and all that began has ended."""
        options = self._options
        names = list(options.mix)
        weights = list(options.mix.values())
        pool = Pool(_MOST_AT_ONCE)
        start = time.perf_counter()
        due = start
        while True:
            now_share = share(options.shape, due - start, options.seconds)
            if now_share is None:
                break
            due += self._random.expovariate(options.arrivals * now_share)
            name = self._random.choices(names, weights)[0]
            gevent.sleep(max(0.0, due - time.perf_counter()))
            pool.spawn(self._perform, name, due)
        pool.join()

    def _perform(self, name: str, due: float) -> None:
        idle = self._idle[name]
        if idle:
            flow = idle.pop()
        else:
            self._made += 1
            flow = self._make(FLOWS[name], Random(f"{self._options.random_seed} {self._made}"))
        flow.wire.due = due
        # An unexpected answer has been told already.
        with suppress(UnexpectedAnswerError):
            flow.perform()
        idle.append(flow)
