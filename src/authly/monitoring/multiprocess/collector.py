"""The read side in one object: a directory's families, at each scrape anew."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.multiprocess import retention
from authly.monitoring.multiprocess.aggregation import Aggregation
from authly.monitoring.multiprocess.exemplars import ExemplarReader
from authly.monitoring.multiprocess.families import Family
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
        clock: what to time the phases with, in seconds; it never goes back.
        ttl: seconds after which a series that nobody updates is left out; 0 keeps all.
    """

    def __init__(self, directory: Path, clock: Callable[[], float], ttl: float = 0.0) -> None:
        self._directory = directory
        self._clock = clock
        self._ttl = ttl
        self._expired: dict[str, list[str]] = {}
        self._aggregation = Aggregation(ttl)
        self._reader = Reader(directory, self._aggregation)
        self._exemplars = ExemplarReader(directory)

    def collect(self, *, exemplars: bool = False) -> Collection:
        """Read and merge.

        Args:
            exemplars: whether the exemplars are wanted too; without them, those of an earlier time stay.

        Raises:
            OSError: the directory itself cannot be read.
        """
        started = self._clock()
        reading = self._reader.read()
        slots = {file.name.slot for file in reading.files if file.name.slot is not None} if exemplars else ()
        records = self._exemplars.read(slots)
        read = self._clock()
        families, conflicts = self._aggregation.combine(reading.files, read)
        if exemplars:
            self._aggregation.attach(records)
        if self._ttl:
            self._note_expired()
        return Collection(families, reading, conflicts, read - started, self._clock() - read)

    def _note_expired(self) -> None:
        expired = self._aggregation.expired()
        if expired != self._expired:
            # Without room for the note nothing is dropped from disk; it is tried again when more has expired.
            with contextlib.suppress(OSError):
                retention.write(self._directory, expired)
            self._expired = expired

    def close(self) -> None:
        """Let go of all files."""
        self._reader.close()
