"""The master of an instance, and its successors: upgrades (SIGUSR2)."""

import contextlib
import os
import signal
import time

from loadtests import watch

_PATIENCE = 20.0


def send(pid: int, number: int) -> bool:
    """Send a signal; tell whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Masters:
    """Who is in charge.

    Args:
        first: the process id of the master that was started.
        workers: how many each of them has.
    """

    def __init__(self, first: int, workers: int) -> None:
        self.now = first
        self._first = first
        self._workers = workers
        self._is_upgrading = False

    @property
    def all(self) -> list[int]:
        """The master, and the next one while both are there."""
        return [self.now, *watch.next_masters(self.now)]

    def workers(self) -> list[int]:
        """Return the process ids of the workers of all masters."""
        return [pid for master in self.all for pid in watch.workers(master)]

    def exporters(self) -> list[int]:
        """Return the process ids of their exporters."""
        return [pid for master in self.all for pid in watch.exporters(master)]

    def memory(self) -> float:
        """Return the memory of all of them, in megabytes."""
        return sum(watch.memory(master) for master in self.all)

    def are_complete(self) -> bool:
        """Tell whether there is one master, with all its workers."""
        return not self._is_upgrading and len(watch.workers(self.now)) == self._workers

    def upgrade(self) -> bool:
        """Let the master start the next one; tell whether that was possible."""
        if self._is_upgrading:
            return False
        self._is_upgrading = send(self.now, signal.SIGUSR2)
        return self._is_upgrading

    def settle(self) -> None:
        """End the old master once the next one has its workers. Call it again and again."""
        if not self._is_upgrading:
            return
        for new in watch.next_masters(self.now):
            if len(watch.workers(new)) == self._workers:
                old, self.now, self._is_upgrading = self.now, new, False
                send(old, signal.SIGTERM)

    def end(self) -> None:
        """End whoever was not the first, for whom nobody else cares, and wait for that."""
        for master in self.all:
            if master == self._first:
                continue
            send(master, signal.SIGTERM)
            deadline = time.monotonic() + _PATIENCE
            while watch.is_alive(master) and time.monotonic() < deadline:
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(master, signal.SIGKILL)
