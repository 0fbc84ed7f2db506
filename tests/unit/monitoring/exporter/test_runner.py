"""How collectors are run: beside the scrape, one thread each at most, and none of them at the cost of the others."""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.collectors.runner import (
    MAX_CHARACTERS,
    MAX_SAMPLES,
    Collected,
    CollectorError,
    Round,
    Runner,
    Status,
    families_of,
)
from authly.monitoring.exporter.negotiation import DEFAULT_PATIENCE, MAX_PATIENCE, patience
from authly.monitoring.multiprocess.families import Family, Sample
from tests.processes import wait_until

PATIENCE = 20.0


def gauge(name: str, value: float = 1.0, label: str = "") -> Family:
    """Return a family of one sample."""
    return Family.of(name, "gauge", "Help.", [Sample(name, (("label", label),) if label else (), value)])


class One:
    """A collector that calls a function."""

    def __init__(self, name: str, collect: Callable[[], Iterable[Family]]) -> None:
        self.name = name
        self.collect = collect


class Held:
    """A collector that answers when it is let, and counts how often it was asked."""

    def __init__(self, name: str = "held") -> None:
        self.name = name
        self.asked = 0
        self.threads: set[int] = set()
        self.permits = threading.Semaphore(0)

    def collect(self) -> list[Family]:
        """Wait."""
        self.asked += 1
        self.threads.add(threading.get_ident())
        self.permits.acquire(timeout=PATIENCE)
        return [gauge("held", self.asked)]

    def let_go(self) -> None:
        """Let it answer once."""
        self.permits.release()


@pytest.fixture
def held() -> Iterator[Held]:
    """Return a collector that ends with the test."""
    collector = Held()
    yield collector
    collector.let_go()


def runner_of(*collectors: One | Held, lines: list[str] | None = None) -> Runner:
    """Return what runs these."""
    return Runner(collectors, time.monotonic, pytest.fail if lines is None else lines.append)


def finished(round_: Round) -> Collected:
    """Wait for all collectors of a round."""
    round_.wait(time.monotonic() + PATIENCE)
    return round_.finish()


def successes(collected: Collected) -> dict[str, bool]:
    """Return how each collector did."""
    return {status.name: status.success for status in collected.statuses}


def test_each_collector_runs_in_a_thread_of_its_own() -> None:
    """All run at the same time: each waits for the other, and both answer."""
    barrier = threading.Barrier(2, timeout=PATIENCE)

    def meet() -> list[Family]:
        return [gauge(f"of_{barrier.wait()}")]

    found = finished(runner_of(One("a", meet), One("b", meet)).begin())
    assert successes(found) == {"a": True, "b": True}
    assert {family.name for families in found.families.values() for family in families} == {"of_0", "of_1"}
    assert not found.is_partial


def test_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that do not take long run one after the other."""
    monkeypatch.setattr("authly.monitoring.exporter.collectors.runner.TURN_SECONDS", PATIENCE)
    running: list[str] = []
    seen: list[list[str]] = []

    def collect(name: str) -> list[Family]:
        running.append(name)
        for _ in range(20):
            # Whoever waits for the interpreter gets it.
            time.sleep(0)
            seen.append(running.copy())
        running.remove(name)
        return [gauge(name)]

    found = finished(runner_of(*(One(name, functools.partial(collect, name)) for name in "abc")).begin())
    assert successes(found) == dict.fromkeys("abc", True)
    assert sorted(map(tuple, seen)) == [(name,) for name in "abc" for _ in range(20)]


def test_one_that_stalls_is_left_behind_at_the_deadline(held: Held) -> None:
    """The others are there, it is not, and it is reported once."""
    lines: list[str] = []
    runner = runner_of(held, One("good", lambda: [gauge("good")]), lines=lines)
    for _ in range(2):
        round_ = runner.begin()
        wait_until(lambda: [run.ended.is_set() for _, run in round_._runs] == [False, True])  # noqa: B023
        round_.wait(time.monotonic())
        found = round_.finish()
        assert successes(found) == {"held": False, "good": True}
        assert found.families["held"] == []
        assert [family.name for family in found.families["good"]] == ["good"]
        assert found.is_partial
    (line,) = lines
    assert line.startswith("The collector held did not answer within ")


def test_one_that_stalls_is_not_started_again_and_holds_up_no_other_scrape(held: Held) -> None:
    """There is one thread however often it is scraped, and only the first scrape waits."""
    lines: list[str] = []
    runner = runner_of(held, lines=lines)
    first = runner.begin()
    wait_until(lambda: held.asked == 1)
    assert not first.ready
    assert successes(first.finish()) == {"held": False}
    durations = []
    for _ in range(20):
        round_ = runner.begin()
        assert round_.ready
        (status,) = finished(round_).statuses
        assert not status.success
        durations.append(status.seconds)
    assert durations == sorted(durations)
    assert held.asked == 1
    held.let_go()
    wait_until(lambda: first.ready)
    # What it measured for a scrape that is long over is shown by none; it is asked again, and works.
    again = runner.begin()
    wait_until(lambda: held.asked == 2)
    held.let_go()
    found = finished(again)
    assert found.families["held"][0].samples[0].value == 2
    assert len(held.threads) == 1
    assert lines[1:] == ["The collector held works again."]


def test_what_ends_after_a_scrape_began_without_it_is_not_of_that_scrape(held: Held) -> None:
    """A stalled run that ends while another scrape is under way was begun for an earlier one."""
    runner = runner_of(held, lines=[])
    runner.begin().finish()
    later = runner.begin()
    held.let_go()
    assert successes(later.finish()) == {"held": False}


def test_two_scrapes_at_the_same_moment_share_a_run(held: Held) -> None:
    """The second one waits for what the first one has begun."""
    runner = runner_of(held)
    rounds = [runner.begin(), runner.begin()]
    assert [round_.ready for round_ in rounds] == [False, False]
    held.let_go()
    found = [finished(round_) for round_ in rounds]
    assert [successes(one) for one in found] == [{"held": True}] * 2
    assert held.asked == 1


def test_whoever_waits_is_woken(held: Held) -> None:
    """The wake is called by the thread that ends, when the round is ready."""
    woken = threading.Event()
    round_ = runner_of(held).begin()
    seen: list[bool] = []

    def wake() -> None:
        seen.append(round_.ready)
        woken.set()

    round_.notify(wake)
    held.let_go()
    assert woken.wait(PATIENCE)
    assert seen == [True]


class UnwordableError(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ValueError("two\nlines."), "failed, and its metrics are missing: ValueError: two lines"),
        (SystemExit(3), "failed, and its metrics are missing: SystemExit: 3"),
        (UnwordableError(), "failed, and its metrics are missing: UnwordableError: it has no words for itself"),
        (KeyboardInterrupt(), "failed, and its metrics are missing: KeyboardInterrupt:"),
        (CollectorError("is not what it was"), "is not what it was"),
        (ValueError("x" * 10_000), f"failed, and its metrics are missing: ValueError: {'x' * 488}..."),
    ],
)
def test_one_that_raises_costs_itself_alone(failure: BaseException, words: str) -> None:
    """It is reported when it begins to fail and when it works again, in a line of bounded length."""
    lines: list[str] = []
    failures = [failure, failure]

    def collect() -> Iterator[Family]:
        yield gauge("first")
        if failures:
            raise failures.pop()
        yield gauge("second")

    runner = runner_of(One("bad", collect), One("good", lambda: [gauge("good")]), lines=lines)
    for _ in range(2):
        found = finished(runner.begin())
        assert successes(found) == {"bad": False, "good": True}
        assert found.families["bad"] == []
    assert [family.name for family in finished(runner.begin()).families["bad"]] == ["first", "second"]
    assert lines == [f"The collector bad {words}.", "The collector bad works again."]


def endless_families() -> Iterator[Family]:
    """Return ever more families."""
    for number in itertools.count():
        yield gauge(f"leak_{number}")


def a_large_family() -> list[Family]:
    """Return one family of too many samples."""
    return [Family.of("leak", "gauge", "", [Sample("leak", (("n", str(n)),), 0.0) for n in range(MAX_SAMPLES + 1)])]


@pytest.mark.parametrize(
    ("collect", "words"),
    [
        (endless_families, "gave more than 10,000 samples"),
        (a_large_family, "gave more than 10,000 samples"),
        (lambda: [gauge("a", label="x" * MAX_CHARACTERS)], "gave more than 4,000,000 characters"),
    ],
)
def test_what_one_collector_may_return_is_bounded(collect: Callable[[], Iterable[Family]], words: str) -> None:
    """One that returns ever more is left out, and the others are not."""
    lines: list[str] = []
    found = finished(runner_of(One("leak", collect), One("good", lambda: [gauge("good")]), lines=lines).begin())
    assert successes(found) == {"leak": False, "good": True}
    assert found.families["leak"] == []
    assert lines == [f"The collector leak {words}, and its metrics are missing."]


def test_a_process_that_may_have_no_more_threads_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collectors fail, and say why."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    lines: list[str] = []
    runner = runner_of(One("any", lambda: [gauge("any")]), lines=lines)
    runner.load()
    found = finished(runner.begin())
    assert successes(found) == {"any": False}
    assert lines == ["The collector any failed, and its metrics are missing: RuntimeError: can't start new thread."]


def test_how_the_collectors_did_are_metrics() -> None:
    """Each has its duration and success, in the order of their names."""
    families = families_of([Status("b", 0.5, False), Status("a", 0.25, True)])
    assert [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples] == [
        ("authly_exporter_collector_duration_seconds", (("collector", "a"),), 0.25),
        ("authly_exporter_collector_duration_seconds", (("collector", "b"),), 0.5),
        ("authly_exporter_collector_success", (("collector", "a"),), 1.0),
        ("authly_exporter_collector_success", (("collector", "b"),), 0.0),
        ("authly_exporter_scrape_partial", (), 1.0),
    ]


# How long a scrape may wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("10", 9.0),
        ("10.000", 9.0),
        ("3", 2.5),
        ("1", 0.5),
        ("0.2", 0.1),
        ("1e9", MAX_PATIENCE),
        (None, DEFAULT_PATIENCE),
        ("", DEFAULT_PATIENCE),
        ("0", DEFAULT_PATIENCE),
        ("-5", DEFAULT_PATIENCE),
        ("nan", DEFAULT_PATIENCE),
        ("inf", DEFAULT_PATIENCE),
        ("10, 10", DEFAULT_PATIENCE),
        ("ten", DEFAULT_PATIENCE),
    ],
)
def test_the_deadline_leaves_time_for_the_answer(header: str | None, seconds: float) -> None:
    """A tenth of Prometheus's timeout, at least half a second of it, is kept."""
    assert patience(header) == pytest.approx(seconds)


@given(st.text() | st.floats().map(str))
def test_the_deadline_is_before_the_timeout_whatever_the_header(header: str) -> None:
    """A wait is always of some length, and shorter than the client's."""
    seconds = patience(header)
    assert 0 < seconds <= MAX_PATIENCE
    try:
        timeout = float(header)
    except ValueError:
        timeout = float("inf")
    assert seconds < timeout or seconds == DEFAULT_PATIENCE
