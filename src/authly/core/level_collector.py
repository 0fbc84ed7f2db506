"""How much there is of everything, counted at intervals by one worker of each instance.

Owns who counts and when, and that nothing ends it. Does not own what is counted, which is handed in.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from authly.core.cancellation import cancel
from authly.monitoring.multiprocess import ofd_lock
from authly.monitoring.multiprocess.directory import LEVELS_LOCK

_log = structlog.stdlib.get_logger(__name__)


class Office:
    """One process of an instance has it: who holds the lock of a file, for as long as it lives.

    Args:
        directory: of the metric files, which is the instance's own; None where each process is alone.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / LEVELS_LOCK if directory else None
        self._descriptor: int | None = None

    def is_held(self) -> bool:
        """Tell whether this process has it, taking it if nobody does.

        Raises:
            OSError: the lock cannot be asked for.
        """
        if self._path is None:
            return True
        if self._descriptor is None:
            descriptor = ofd_lock.open_lock_file(self._path)
            if ofd_lock.try_lock(descriptor):
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        return self._descriptor is not None

    def resign(self) -> None:
        """Leave it to another process."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class LevelCollector:
    """Counts while this worker has the office.

    Args:
        office: who counts.
        levels: what to count, each by a name for the log; they may fail, and take a while.
        interval: seconds from the end of one count to the next.
        timeout: seconds that each may take.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        office: Office,
        levels: Mapping[str, Callable[[], Awaitable[None]]],
        interval: float,
        timeout: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._office = office
        self._levels = levels
        self._interval = interval
        self._timeout = timeout
        self._sleep = sleep
        self._failing: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="authly-levels")

    async def stop(self) -> None:
        """End, and leave the office to another worker."""
        task, self._task = self._task, None
        if task is not None:
            await cancel([task])
        self._office.resign()

    async def _run(self) -> None:
        while True:
            await self.turn()
            await self._sleep(self._interval)

    async def turn(self) -> None:
        """Count everything if it is this worker's turn. Never raises."""
        if not await self._attempt("office", self._stand):
            return
        for name, count in self._levels.items():
            await self._attempt(name, count)

    async def _stand(self) -> None:
        if not self._office.is_held():
            raise _NotElectedError

    async def _attempt(self, name: str, act: Callable[[], Awaitable[None]]) -> bool:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                await act()
        except _NotElectedError:
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the next count may succeed
            # Once, until it succeeds again.
            if name not in self._failing:
                self._failing.add(name)
                seconds = round(time.monotonic() - began, 3)
                _log.warning("levels_not_counted", levels=name, seconds=seconds, reason=str(error) or repr(error))
            return False
        if name in self._failing:
            self._failing.discard(name)
            _log.info("levels_counted_again", levels=name)
        return True


class _NotElectedError(Exception):
    """Another worker counts."""
