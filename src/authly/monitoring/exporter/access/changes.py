"""Notice that files have changed, by looking at them only."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

SETTLED = 1.0
"""Seconds a file has to stay as it is before it counts: whoever writes one may still be writing."""

_Look = tuple[int, int, int] | None


class Changes:
    """Tells whether any of some files is another than when they were read.

    Args:
        clock: the time, in seconds since the epoch, as the file system has it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[Path, _Look] | None = None

    def note(self, paths: Iterable[Path]) -> None:
        """Remember the files as they are; to be called before they are read."""
        self._seen = {path: _look(path) for path in paths}

    def note_too(self, paths: Iterable[Path]) -> None:
        """Remember more files as they are, and those that are remembered as they were."""
        assert self._seen is not None
        self._seen.update({path: _look(path) for path in paths if path not in self._seen})

    def found(self) -> bool:
        """Tell whether a file has changed since, and has come to rest; always so before the first ``note``."""
        if self._seen is None:
            return True
        changed = [look for path, seen in self._seen.items() if (look := _look(path)) != seen]
        if not changed:
            return False
        now = self._clock()
        # A time in the future is of another clock, and says nothing.
        return not any(0 <= now - look[0] / 1e9 < SETTLED for look in changed if look)


def _look(path: Path) -> _Look:
    try:
        # Follows links, because what is mounted from elsewhere is often replaced behind one.
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
