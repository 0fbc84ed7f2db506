"""The exporter's own metrics: how its scrapes go, and what it found in the directory."""

import os
import platform
from itertools import accumulate
from pathlib import Path

from authly import __version__
from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.multiprocess.collector import Collection
from authly.monitoring.multiprocess.families import Family, Labels
from authly.monitoring.multiprocess.reader import SKIP_REASONS

OUTCOMES = ("success", "partial", "directory_error", "rate_limited")
PHASES = ("read", "aggregate", "render")
_EDGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, float("inf"))
_FILE_TYPES = ("counter", "gauge", "histogram", "summary")

BUILD_INFO = Definition(
    "authly_exporter_build_info",
    "gauge",
    "The exporter's version; always 1.",
    {"version": described("Authly's version"), "python_version": described("Python's version")},
    example="count by (version) (authly_exporter_build_info)",
)
SCRAPES = Definition(
    "authly_exporter_scrapes_total",
    "counter",
    "Scrapes answered, by how they went.",
    {"outcome": closed(OUTCOMES)},
    detail="`partial`: the metrics of a collector are missing. `directory_error`: only the exporter's own metrics "
    "could be given.",
    example='rate(authly_exporter_scrapes_total{outcome!="success"}[5m]) > 0',
)
SCRAPE_DURATION = Definition(
    "authly_exporter_scrape_duration_seconds",
    "histogram",
    "How long the phases of answering a scrape took.",
    {"phase": closed(PHASES)},
    buckets=_EDGES[:-1],
    example="sum by (phase) (rate(authly_exporter_scrape_duration_seconds_sum[5m]))",
)
DIRECTORY_UP = Definition(
    "authly_exporter_directory_up",
    "gauge",
    "Whether the directory of the metric files could be read at this scrape.",
    example="authly_exporter_directory_up == 0",
)
DIRECTORY_BYTES = Definition(
    "authly_exporter_directory_bytes",
    "gauge",
    "Size of the metric files that were read.",
    example="deriv(authly_exporter_directory_bytes[1h])",
)
DIRECTORY_FREE_BYTES = Definition(
    "authly_exporter_directory_free_bytes",
    "gauge",
    "Free space on the file system of the metric files.",
    example="authly_exporter_directory_free_bytes < 1048576",
)
FILES = Definition(
    "authly_exporter_files",
    "gauge",
    "Metric files that were read, by type.",
    {"type": closed(_FILE_TYPES)},
    example="sum(authly_exporter_files)",
)
SERIES = Definition(
    "authly_exporter_series",
    "gauge",
    "Samples collected from the metric files.",
    example="authly_exporter_series > 50000",
)
SKIPPED_FILES = Definition(
    "authly_exporter_skipped_files",
    "gauge",
    "Metric files left out of this scrape, by reason.",
    {"reason": closed(SKIP_REASONS)},
    example="authly_exporter_skipped_files > 0",
)
SKIPPED_ENTRIES = Definition(
    "authly_exporter_skipped_entries",
    "gauge",
    "Entries left out because an earlier file gave their metric another type, or because their key is broken.",
    example="authly_exporter_skipped_entries > 0",
)


class _Histogram:
    """Observations in buckets that the exporter keeps for itself; it writes no files."""

    def __init__(self) -> None:
        self.buckets = [0] * len(_EDGES)
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        self.sum += amount
        self.buckets[next(index for index, edge in enumerate(_EDGES) if amount <= edge)] += 1

    def values(self) -> list[float]:
        counts = list(map(float, accumulate(self.buckets)))
        return [*counts, counts[-1], self.sum]


def _names(name: str, label: tuple[str, str]) -> list[tuple[str, Labels]]:
    """Return the names and labels of what a histogram has for values."""
    buckets = [(f"{name}_bucket", (("le", "+Inf" if edge == _EDGES[-1] else repr(edge)), label)) for edge in _EDGES]
    return [*buckets, (f"{name}_count", (label,)), (f"{name}_sum", (label,))]


_DURATION_NAMES = tuple(named for phase in sorted(PHASES) for named in _names(SCRAPE_DURATION.name, ("phase", phase)))


class OwnCollector:
    """Keeps and collects the exporter's own metrics."""

    def __init__(self) -> None:
        self._scrapes = dict.fromkeys(OUTCOMES, 0)
        self._durations = {phase: _Histogram() for phase in PHASES}

    def count_scrape(self, outcome: str) -> None:
        """Count a scrape by its outcome, one of :data:`OUTCOMES`."""
        self._scrapes[outcome] += 1

    def observe_phase(self, phase: str, seconds: float) -> None:
        """Record how long a phase of a scrape took, one of :data:`PHASES`."""
        self._durations[phase].observe(seconds)

    def collect(self, collection: Collection | None, directory: Path | None) -> list[Family]:
        """Return the families.

        Args:
            collection: what was found in the directory; None if it could not be read.
            directory: the directory; None if metrics have none.
        """
        info = (("python_version", platform.python_version()), ("version", __version__))
        durations = [value for phase in sorted(PHASES) for value in self._durations[phase].values()]
        families = [
            Family.defined(BUILD_INFO, [(info, 1.0)]),
            Family.defined(DIRECTORY_UP, [((), 0.0 if collection is None else 1.0)]),
            Family.named(SCRAPE_DURATION, _DURATION_NAMES, durations),
            Family.defined(SCRAPES, [((("outcome", each),), self._scrapes[each]) for each in sorted(OUTCOMES)]),
        ]
        if collection is not None:
            families += _found(collection, directory)
        return families


def _found(collection: Collection, directory: Path | None) -> list[Family]:
    reading = collection.reading
    files = dict.fromkeys(_FILE_TYPES, 0)
    for file in reading.files:
        files[file.name.type] += 1
    return [
        Family.defined(DIRECTORY_BYTES, [((), sum(file.size for file in reading.files))]),
        Family.defined(DIRECTORY_FREE_BYTES, [((), _free_bytes(directory))]),
        Family.defined(FILES, [((("type", type_),), files[type_]) for type_ in _FILE_TYPES]),
        Family.defined(SERIES, [((), sum(family.size for family in collection.families))]),
        Family.defined(SKIPPED_ENTRIES, [((), collection.conflicts)]),
        Family.defined(SKIPPED_FILES, [((("reason", reason),), reading.skipped[reason]) for reason in SKIP_REASONS]),
    ]


def _free_bytes(directory: Path | None) -> float:
    try:
        space = os.statvfs(directory or "/")
    except OSError:
        return float("nan")
    return float(space.f_bavail * space.f_frsize)
