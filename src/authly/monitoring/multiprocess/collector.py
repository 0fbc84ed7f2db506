"""The read side in one object: a directory's families, at each scrape anew."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.multiprocess import reader
from authly.monitoring.multiprocess.aggregation import Family, KeyCache, aggregate
from authly.monitoring.multiprocess.reader import Snapshot


class Collection(NamedTuple):
    """What one scrape found.

    Args:
        families: in the order of their names.
        snapshot: the files they came from, and how many were left out.
        conflicts: how many entries were left out; see :class:`~.aggregation.Aggregate`.
        read_seconds: how long reading took.
        aggregate_seconds: how long merging took.
    """

    families: list[Family]
    snapshot: Snapshot
    conflicts: int
    read_seconds: float
    aggregate_seconds: float


class DirectoryCollector:
    """Collects the metrics of all processes that write to a directory.

    Args:
        directory: where the files are.
        clock: what to time the phases with, in seconds.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._keys = KeyCache()

    def collect(self) -> Collection:
        """Read and merge.

        Raises:
            OSError: the directory itself cannot be read.
        """
        started = self._clock()
        snapshot = reader.read(self._directory)
        read = self._clock()
        families, conflicts = aggregate(snapshot.files, self._keys)
        self._keys.forget_unused()
        return Collection(families, snapshot, conflicts, read - started, self._clock() - read)
