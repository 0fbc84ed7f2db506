"""How to be told of what Gunicorn's master does, where it has no hook: around methods of that one object.

Nothing of Gunicorn is copied, and no class of it is changed.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any


def at_each_turn(server: Any, call: Callable[[], None]) -> None:
    """Let the arbiter call something at each turn of its loop, and before it reaps.

    The loop turns at least once a second, and as soon as a child ends: a supervisor without a thread, a timer or a
    process of its own. Only this one object changes.

    Args:
        server: the arbiter.
        call: must be quick, and must not raise.
    """
    for name in ("manage_workers", "reap_workers"):
        setattr(server, name, _preceded(getattr(server, name), call))


def _preceded(method: Callable[[], None], first: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        method()

    return both


@contextlib.contextmanager
def watched_waits(ended: Callable[[int, int], None]) -> Iterator[None]:
    """Be told of each child that is waited for inside of the block, with its wait status.

    Gunicorn's ``reap_workers`` keeps the status to itself, and calls no hook where it stops the server. To look at
    the zombies before it does (``waitid`` with ``WNOWAIT``) would miss those that end meanwhile: several workers
    killed at once, of all cases. See docs/decisions/0011.

    Args:
        ended: takes the process id and the wait status, before Gunicorn sees either; must not raise.
    """
    waitpid = os.waitpid

    def told(pid: int, options: int) -> tuple[int, int]:
        found = waitpid(pid, options)
        if found[0]:
            ended(*found)
        return found

    os.waitpid = told
    try:
        yield
    finally:
        os.waitpid = waitpid
