"""What the page remembers."""

import math
import sys
from array import array

import pytest

from authly.monitoring.exporter.collectors.gunicorn import Listener, Snapshot, Worker
from authly.monitoring.exporter.process_facts import ProcessFacts
from authly.monitoring.exporter.status.journal import INTERVAL, SPAN, Journal, Note, exits, increases, latencies
from authly.monitoring.multiprocess.families import Family, Sample

NOTHING = Snapshot([], [], [])


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what it was set to."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> Journal:
    """An empty journal."""
    return Journal(clock, clock)


def requests(**counts: float) -> list[Family]:
    """Return counted requests, by status."""
    samples = [
        Sample(
            "authly_http_requests_total",
            (("endpoint", "/x"), ("method", "GET"), ("status_code", status.removeprefix("s"))),
            count,
        )
        for status, count in counts.items()
    ]
    return [Family.of("authly_http_requests", "counter", "Help.", samples)]


def worker(pid: int = 7, cpu: float = 0.0, age: float = 100.0) -> Worker:
    """Return a worker."""
    return Worker(0, pid, False, age, 1.0, 0.0, ProcessFacts(1, False, cpu, 50_000_000))


def test_notes_are_taken_at_a_bounded_rate(journal: Journal, clock: Clock) -> None:
    """One is due at once, the next after the interval."""
    assert journal.is_due
    journal.note([], NOTHING)
    clock.now += INTERVAL - 0.1
    assert not journal.is_due
    clock.now += 0.1
    assert journal.is_due


def test_memory_is_bounded(journal: Journal, clock: Clock) -> None:
    """After a day of notes, problems and bad files, there is as much as after the span that is shown."""
    edges = [Sample("http_request_duration_seconds_bucket", (("le", str(edge)),), 1.0) for edge in range(14)]
    family = Family.of("http_request_duration_seconds", "histogram", "Help.", edges)
    for number in range(17_280):
        journal.note([family, *requests(s200=float(number), s500=1.0)], NOTHING)
        journal.problem("x" * 10_000)
        journal.skip([(f"counter_{number}.db", "corrupt")])
        clock.now += INTERVAL
    assert len(journal.notes) == SPAN / INTERVAL + 1
    assert len(journal.problems) == len(journal.skipped) == 20
    distinct = {
        id(part): sys.getsizeof(part) for note in journal.notes for part in (note, *note, *(note.failing or ()))
    }
    assert sum(distinct.values()) + sum(sys.getsizeof(mention.words) for mention in journal.problems) < 100_000


def test_rates_come_from_counters(journal: Journal, clock: Clock) -> None:
    """A rise is divided by its time; a counter that fell began anew; what is not known is left out."""
    for count in (0.0, 50.0, 10.0):
        journal.note(requests(s200=count), NOTHING)
        clock.now += 5
    journal.note([], NOTHING)
    assert [rate for _, rate in increases(journal.notes, lambda note: note.requests)] == [10.0, 0.0]
    assert math.isnan(journal.notes[-1].requests)


def test_failures_are_named_by_their_endpoint(journal: Journal) -> None:
    """5xx are counted apart; those of unknown libraries, which have other labels, are not named."""
    journal.note(requests(s200=5.0, s404=3.0, s503=2.0), NOTHING)
    assert (journal.notes[0].requests, journal.notes[0].failures) == (10.0, 2.0)
    assert journal.notes[0].failing == {"GET /x (503)": 2.0}
    other = Sample("http_requests_total", (("path", "/chosen/by/a/client"), ("status", "500")), 4.0)
    journal.note([Family.of("http_requests", "counter", "Help.", [other])], NOTHING)
    assert (journal.notes[1].failures, journal.notes[1].failing) == (4.0, {})


def test_the_recent_notes_begin_with_the_one_before(journal: Journal, clock: Clock) -> None:
    """So that what rose in the time asked for is seen in full; one of long ago says nothing of now."""
    for _ in range(10):
        journal.note([], NOTHING)
        clock.now += 5
    assert [note.at for note in journal.recent(20)] == [1025.0, 1030.0, 1035.0, 1040.0, 1045.0]
    assert [note.at for note in journal.recent(3)] == [1045.0]
    clock.now += 100
    assert journal.recent(20) == []


def test_memory_and_queue_are_of_the_snapshot(journal: Journal) -> None:
    """Resident memory is added up; of the queues the fullest counts."""
    listeners = [Listener("a", 3, 10), Listener("b", 5, 10)]
    journal.note([], Snapshot([], [worker(1), worker(2)], listeners))
    assert (journal.notes[0].memory, journal.notes[0].waiting) == (100e6, 5.0)


def test_a_processor_share_is_that_of_the_last_seconds(journal: Journal, clock: Clock) -> None:
    """Since the last note, or the one before if that is too short ago; of a new worker, since it began."""
    assert journal.cpu_share(worker(cpu=10.0, age=100.0)) == pytest.approx(0.1)
    journal.note([], Snapshot([], [worker(cpu=10.0)], []))
    clock.now += 5
    assert journal.cpu_share(worker(cpu=12.5)) == pytest.approx(0.5)
    journal.note([], Snapshot([], [worker(cpu=12.5)], []))
    clock.now += 1
    assert journal.cpu_share(worker(cpu=13.0)) == pytest.approx(0.5)
    assert journal.cpu_share(worker()._replace(process=None)) is None


def test_skipped_files_are_listed_once_the_latest_first(journal: Journal, clock: Clock) -> None:
    """A file that is left out again and again is one line, with the last time."""
    journal.skip([("a.db", "corrupt"), ("b.db", "unreadable")])
    clock.now += 5
    journal.skip([("a.db", "corrupt")])
    assert journal.skipped == [("a.db", "corrupt", 1005.0), ("b.db", "unreadable", 1000.0)]


def note(at: float, edges: tuple[float, ...], counts: list[float], ended: list[float]) -> Note:
    """Return a note."""
    return Note(at, 0.0, 0.0, edges, array("d", counts), 0.0, 0.0, array("d", ended), 0.0, {})


def test_latencies_are_of_the_requests_between_two_notes() -> None:
    """Where edges or counts cannot be compared, nothing is said."""
    first, second = note(0, (0.1, math.inf), [1, 2], []), note(5, (0.1, math.inf), [4, 9], [])
    assert latencies(first, second) == {0.1: 3.0, math.inf: 7.0}
    assert latencies(second, first) == latencies(first, note(5, (0.2, math.inf), [4, 9], [])) == {}


def test_exits_are_those_since_the_first_note_that_knows() -> None:
    """Notes from before a master had counted anything do not count."""
    ended = [0.0] * 9
    later = [0.0] * 8 + [2.0]
    assert exits([note(0, (), [], []), note(5, (), [], ended), note(10, (), [], later)])["timeout"] == 2.0
    assert exits([note(0, (), [], [])]) == {}
