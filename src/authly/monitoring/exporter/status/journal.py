"""What the status page remembers from one look to the next: a few bounded rings, below 100 KB when they are full.

Whoever looks anyway feeds them: a scrape, or somebody at the page. Nothing runs in the background. A scrape pays for a
note at most once in :data:`INTERVAL` seconds.
"""

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple

from authly.monitoring.exporter.collectors.gunicorn import Snapshot, Worker
from authly.monitoring.exporter.status.lookup import Lookup, all_buckets
from authly.monitoring.master_facts import EXIT_REASONS
from authly.monitoring.multiprocess.families import Family

INTERVAL: Final = 5.0
"""Seconds between two notes, at least."""

SPAN: Final = 900.0
"""Seconds that are looked back."""

_NOTES: Final = int(SPAN / INTERVAL) + 1
_MENTIONS: Final = 20
_LONGEST: Final = 500
_FAILING: Final = 10
# The label of a status, which other libraries name otherwise.
_STATUS: Final = frozenset({"code", "status", "status_code"})


class Note(NamedTuple):
    """What was so at one moment; counters and buckets as they stood. NaN is what could not be known.

    Args:
        at: on the monotonic clock, in seconds.
        requests: answered so far.
        failures: of these, answered with 5xx.
        edges: of the buckets of their duration.
        buckets: how many took no longer, for each edge.
        memory: resident bytes of all workers.
        waiting: connections in the fullest listen queue.
        exits: of workers so far, in the order of :data:`~authly.monitoring.master_facts.EXIT_REASONS`.
        dropped: series whose values could not be stored, so far.
        failing: answers with 5xx so far, by method, endpoint and status in one string; those with most.
    """

    at: float
    requests: float
    failures: float
    edges: tuple[float, ...]
    buckets: "array[float]"
    memory: float
    waiting: float
    exits: "array[float]"
    dropped: float
    failing: dict[str, float]


class Mention(NamedTuple):
    """Something that was said.

    Args:
        at: when, in seconds since the epoch; of what is said again and again, the last time.
        words: what.
    """

    at: float
    words: str


class Journal:
    """Remembers.

    Args:
        monotonic: a clock that never goes back, in seconds.
        clock: the time, in seconds since the epoch.
    """

    def __init__(self, monotonic: Callable[[], float], clock: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._clock = clock
        self.began = monotonic()
        self.notes: deque[Note] = deque(maxlen=_NOTES)
        self.problems: deque[Mention] = deque(maxlen=_MENTIONS)
        # When a scrape was last answered, on the monotonic clock, and how long it took.
        self.scraped: tuple[float, float] | None = None
        self._skipped: dict[tuple[str, str], float] = {}
        # What is the same from note to note takes room once.
        self._edges: tuple[float, ...] = ()
        self._failing: dict[str, float] = {}
        # Of each worker: when it was looked at, and the CPU time it had used then; at the last note and the one before.
        self._cpu: dict[tuple[int, int], tuple[float, float]] = {}
        self._cpu_before: dict[tuple[int, int], tuple[float, float]] = {}

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed for another note."""
        return not self.notes or self._monotonic() - self.notes[-1].at >= INTERVAL

    def note(self, families: Iterable[Family], snapshot: Snapshot) -> None:
        """Remember what was found."""
        found = Lookup(families)
        counts = all_buckets(found.ending("http_request_duration_seconds"))
        edges = tuple(sorted(counts))
        self._edges = self._edges if edges == self._edges else edges
        exits = found.by("gunicorn_worker_exits", "reason")
        requests, failures, failing = _requests(found.ending("http_requests"))
        self._failing = self._failing if failing == self._failing else failing
        now = self._monotonic()
        self.notes.append(
            Note(
                at=now,
                requests=requests,
                failures=failures,
                edges=self._edges,
                buckets=array("d", (counts[edge] for edge in self._edges)),
                memory=_sum([worker.process.resident_bytes for worker in snapshot.workers if worker.process]),
                waiting=max((float(listener.waiting) for listener in snapshot.listeners), default=math.nan),
                exits=array("d", (exits.get(reason, 0.0) for reason in EXIT_REASONS)) if exits else array("d"),
                dropped=found.value("authly_metrics_dropped_series") or 0.0,
                failing=self._failing,
            )
        )
        self._cpu_before = self._cpu
        self._cpu = {
            (worker.pid, worker.process.started): (now, worker.process.cpu_seconds)
            for worker in snapshot.workers
            if worker.process is not None
        }

    def scrape(self, began: float) -> None:
        """Remember that a scrape was answered.

        Args:
            began: when, on the monotonic clock.
        """
        now = self._monotonic()
        self.scraped = (now, now - began)

    def problem(self, words: str) -> None:
        """Remember what the log was told."""
        self.problems.append(Mention(self._clock(), words[:_LONGEST]))

    def skip(self, files: Iterable[tuple[str, str]]) -> None:
        """Remember files that were left out.

        Args:
            files: the name and the reason of each.
        """
        for file in files:
            # Again at the end: the first are those not seen for longest.
            self._skipped.pop(file, None)
            self._skipped[file] = self._clock()
        while len(self._skipped) > _MENTIONS:
            del self._skipped[next(iter(self._skipped))]

    @property
    def skipped(self) -> list[tuple[str, str, float]]:
        """The name and the reason of files that were left out, and when they last were; the latest first."""
        return [(name, reason, at) for (name, reason), at in reversed(self._skipped.items())]

    def recent(self, seconds: float) -> list[Note]:
        """Return the notes of the last so many seconds, and the one before them unless it is twice as old."""
        since = self._monotonic() - seconds
        notes = list(self.notes)
        first = next((index for index, note in enumerate(notes) if note.at >= since), len(notes))
        return notes[first - 1 if first and notes[first - 1].at >= since - seconds else first :]

    def cpu_share(self, worker: Worker) -> float | None:
        """Return how much of one processor a worker has been using; None where that cannot be known."""
        if worker.process is None:
            return None
        key = (worker.pid, worker.process.started)
        now = self._monotonic()
        at, seconds = self._cpu.get(key, (now, 0.0))
        if now - at < INTERVAL / 2:
            # Of so short a time the kernel's clock ticks say little.
            at, seconds = self._cpu_before.get(key, (now - max(worker.age, INTERVAL / 2), 0.0))
        return max(0.0, worker.process.cpu_seconds - seconds) / (now - at)


def increases(notes: Iterable[Note], of: Callable[[Note], float]) -> list[tuple[float, float]]:
    """Return by how much a counter rose each second between two notes, with the moment of the later one.

    A counter that fell began anew. What could not be known is left out.
    """
    return [
        (later.at, max(0.0, of(later) - of(earlier)) / (later.at - earlier.at))
        for earlier, later in pairwise(notes)
        if later.at > earlier.at and not math.isnan(of(later) - of(earlier))
    ]


def latencies(earlier: Note, later: Note) -> dict[float, float]:
    """Return the cumulative buckets of the requests between two notes; empty where they cannot be compared."""
    if earlier.edges != later.edges:
        return {}
    differences = (b - a for a, b in zip(earlier.buckets, later.buckets, strict=True))
    found = dict(zip(later.edges, differences, strict=True))
    return found if all(value >= 0 for value in found.values()) else {}


def exits(notes: list[Note]) -> dict[str, float]:
    """Return how many workers ended from the first of these notes to the last, by reason."""
    known = [note.exits for note in notes if note.exits]
    if not known:
        return {}
    return {
        reason: max(0.0, last - first) for reason, first, last in zip(EXIT_REASONS, known[0], known[-1], strict=True)
    }


def _requests(family: Family | None) -> tuple[float, float, dict[str, float]]:
    """Return how many requests were answered, how many of them with 5xx, and which these were."""
    if family is None:
        return math.nan, math.nan, {}
    requests = failures = 0.0
    failing: dict[str, float] = {}
    place = -1
    for child in family.children:
        if child.hidden:
            continue
        for (_, labels), value in zip(child.names, child.values, strict=True):
            requests += value
            # Nearly all series of a family have their labels at the same places.
            if not (0 <= place < len(labels) and labels[place][0] in _STATUS):
                place = next((at for at, (name, _) in enumerate(labels) if name in _STATUS), -1)
            if place < 0 or not labels[place][1].startswith("5") or not value:
                continue
            failures += value
            # The template of a route; other libraries have what clients wrote, under other names.
            has = dict(labels)
            if "endpoint" in has:
                where = f"{has.get('method', '')} {has['endpoint']} ({labels[place][1]})".lstrip()
                failing[where] = failing.get(where, 0.0) + value
    most = sorted(failing, key=failing.__getitem__, reverse=True)[:_FAILING]
    return requests, failures, {where: failing[where] for where in most}


def _sum(values: list[int]) -> float:
    return float(sum(values)) if values else math.nan
