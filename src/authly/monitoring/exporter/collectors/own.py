"""The exporter's own metrics: how its scrapes go, and what it found in the directory."""

import os
import platform
from pathlib import Path

from authly import __version__
from authly.monitoring.multiprocess.collector import Collection
from authly.monitoring.multiprocess.families import Family, Sample
from authly.monitoring.multiprocess.reader import SKIP_REASONS

OUTCOMES = ("success", "partial", "directory_error", "rate_limited")
PHASES = ("read", "aggregate", "render")
_EDGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, float("inf"))
_FILE_TYPES = ("counter", "gauge", "histogram", "summary")


class _Histogram:
    """Observations in buckets that the exporter keeps for itself; it writes no files."""

    def __init__(self) -> None:
        self.buckets = [0] * len(_EDGES)
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        self.sum += amount
        self.buckets[next(index for index, edge in enumerate(_EDGES) if amount <= edge)] += 1

    def samples(self, name: str, label: tuple[str, str]) -> list[Sample]:
        samples = []
        count = 0
        for edge, got in zip(_EDGES, self.buckets, strict=True):
            count += got
            le = "+Inf" if edge == _EDGES[-1] else repr(edge)
            samples.append(Sample(f"{name}_bucket", (("le", le), label), float(count)))
        samples.append(Sample(f"{name}_count", (label,), float(count)))
        samples.append(Sample(f"{name}_sum", (label,), self.sum))
        return samples


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
        duration = "authly_exporter_scrape_duration_seconds"
        families = [
            _gauge(
                "authly_exporter_build_info",
                "The exporter's version; always 1.",
                [((("python_version", platform.python_version()), ("version", __version__)), 1.0)],
            ),
            _gauge(
                "authly_exporter_directory_up",
                "Whether the directory of the metric files could be read at this scrape.",
                [((), 0.0 if collection is None else 1.0)],
            ),
            Family.of(
                duration,
                "histogram",
                "How long the phases of answering a scrape took.",
                [
                    sample
                    for phase in sorted(PHASES)
                    for sample in self._durations[phase].samples(duration, ("phase", phase))
                ],
            ),
            Family.of(
                "authly_exporter_scrapes",
                "counter",
                "Scrapes answered, by how they went.",
                [
                    Sample("authly_exporter_scrapes_total", (("outcome", outcome),), float(self._scrapes[outcome]))
                    for outcome in sorted(OUTCOMES)
                ],
            ),
        ]
        if collection is not None:
            families += _found(collection, directory)
        return families


def _found(collection: Collection, directory: Path | None) -> list[Family]:
    reading = collection.reading
    files = dict.fromkeys(_FILE_TYPES, 0)
    for file in reading.files:
        files[file.name.type] += 1
    skipped = {**reading.skipped, "conflict": collection.conflicts}
    return [
        _gauge(
            "authly_exporter_directory_bytes",
            "Size of the metric files that were read.",
            [((), float(sum(file.size for file in reading.files)))],
        ),
        _gauge(
            "authly_exporter_directory_free_bytes",
            "Free space on the file system of the metric files.",
            [((), _free_bytes(directory))],
        ),
        _gauge(
            "authly_exporter_files",
            "Metric files that were read, by type.",
            [((("type", type_),), float(files[type_])) for type_ in _FILE_TYPES],
        ),
        _gauge(
            "authly_exporter_series",
            "Samples collected from the metric files.",
            [((), float(sum(family.size for family in collection.families)))],
        ),
        _gauge(
            "authly_exporter_skipped_entries",
            "Entries left out because an earlier file gave their metric another type, or because their key is broken.",
            [((), float(skipped["conflict"]))],
        ),
        _gauge(
            "authly_exporter_skipped_files",
            "Metric files left out of this scrape, by reason.",
            [((("reason", reason),), float(skipped[reason])) for reason in SKIP_REASONS],
        ),
    ]


def _free_bytes(directory: Path | None) -> float:
    try:
        space = os.statvfs(directory or "/")
    except OSError:
        return float("nan")
    return float(space.f_bavail * space.f_frsize)


def _gauge(name: str, help_: str, values: list[tuple[tuple[tuple[str, str], ...], float]]) -> Family:
    return Family.of(name, "gauge", help_, [Sample(name, labels, value) for labels, value in values])
