"""The read side in one object: a directory's families, at each scrape anew."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.multiprocess.aggregation import Aggregation, Family
from authly.monitoring.multiprocess.reader import Reader, Reading


class Collection(NamedTuple):
    """What one scrape found.

    Args:
        families: in the order of their names.
        reading: the files they came from, and how many were left out.
        conflicts: how many entries were left out; see :class:`~.aggregation.Aggregate`.
        read_seconds: how long reading took.
        aggregate_seconds: how long merging took.
    """

    families: list[Family]
    reading: Reading
    conflicts: int
    read_seconds: float
    aggregate_seconds: float


class DirectoryCollector:
    """Collects the metrics of all processes that write to a directory.

    Not for several threads at once: what it returns changes at the next collection.

    Args:
        directory: where the files are.
        clock: what to time the phases with, in seconds.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._aggregation = Aggregation()
        self._reader = Reader(directory, self._aggregation)

    def collect(self) -> Collection:
        """Read and merge.

        Raises:
            OSError: the directory itself cannot be read.
        """
        started = self._clock()
        reading = self._reader.read()
        read = self._clock()
        families, conflicts = self._aggregation.combine(reading.files)
        return Collection(families, reading, conflicts, read - started, self._clock() - read)

    def close(self) -> None:
        """Let go of all files."""
        self._reader.close()
