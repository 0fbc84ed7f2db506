"""Writes bound to children: what they record, from many threads, in a forked child, and where there is no room."""

import contextlib
import dis
import sys
import threading
from collections.abc import Callable, Iterator
from inspect import getclosurevars
from itertools import groupby
from pathlib import Path
from types import CodeType
from typing import Any
from uuid import uuid4

import prometheus_client.values
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from authly.monitoring.multiprocess import bound
from authly.monitoring.multiprocess.values import Store, value_class
from tests.unit.monitoring.multiprocess.support import Console

THREADS, ROUNDS = 4, 4000


class Bound:
    """A counter, a gauge and a histogram, and what is bound to them."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.failures = 0
        self.counter = Counter("c", "Help.", registry=registry)
        self.gauge = Gauge("g", "Help.", multiprocess_mode="livesum", registry=registry)
        self.histogram = Histogram("h", "Help.", buckets=(1.0, 2.0), registry=registry)
        counted = bound.Measured(self.counter, 1.0, self.histogram)
        ended = bound.Measured(self.gauge, -1.0, self.histogram)
        self.functions: dict[str, Callable[..., None]] = {
            "count": bound.counting(_same, lambda _: self.counter, self._fail),
            "begin": bound.counting(_same, lambda _: self.gauge, self._fail),
            "end": bound.measuring(_same, lambda _: ended, self._fail, self._trace),
            "observe": bound.observing(_same, lambda _: self.histogram, self._fail, self._trace),
            "tally": bound.measuring(_same, lambda _: counted, self._fail, self._trace),
        }
        self.trace = ""

    def _fail(self) -> None:
        self.failures += 1

    def _trace(self) -> str:
        return self.trace

    def count(self) -> None:
        """Count one."""
        self.functions["count"]()

    def begin(self) -> None:
        """Add 1 to the gauge."""
        self.functions["begin"]()

    def end(self, amount: float) -> None:
        """Take 1 from the gauge, and observe an amount."""
        self.functions["end"]("GET", "/", amount)

    def observe(self, amount: float) -> None:
        """Observe an amount."""
        self.functions["observe"]("GET", amount)

    def tally(self, amount: float) -> None:
        """Count one, and observe an amount."""
        self.functions["tally"]("GET", "/", amount)

    def numbers(self) -> tuple[float, float, float, list[float]]:
        """Return the numbers of the counter, the gauge, the sum and the buckets."""
        return (
            self.counter._value.get(),
            self.gauge._value.get(),
            self.histogram._sum.get(),
            [bucket.get() for bucket in self.histogram._buckets],
        )


def _same(labels: bound.Labels) -> bound.Labels:
    return labels


@contextlib.contextmanager
def stored_in(directory: Path, max_bytes: int = 0) -> Iterator[Store]:
    """Let metrics that are made meanwhile keep their values in a directory."""
    store = Store(directory, max_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prometheus_client.values, "ValueClass", value_class(store))
        yield store
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store in a directory of its own, which the metrics of the test are kept in."""
    with stored_in(tmp_path) as made:
        yield made


@pytest.fixture
def metrics(store: Store) -> Bound:
    """Return metrics and what is bound to them."""
    return Bound()


def test_what_is_bound_does_what_the_metrics_own_calls_do(metrics: Bound) -> None:
    """Counted, begun and ended: the same numbers as by ``inc``, ``dec`` and ``observe``."""
    metrics.count()
    metrics.begin()
    metrics.begin()
    metrics.end(1.0)
    assert metrics.numbers() == (1.0, 1.0, 1.0, [1.0, 0.0, 0.0])
    metrics.counter.inc()
    metrics.gauge.inc()
    metrics.histogram.observe(3.0)
    metrics.end(3.0)
    assert metrics.numbers() == (2.0, 1.0, 7.0, [1.0, 0.0, 2.0])
    metrics.tally(2.0)
    assert metrics.numbers() == (3.0, 1.0, 9.0, [1.0, 1.0, 2.0])


def test_threads_lose_nothing(metrics: Bound) -> None:
    """Threads that are switched as often as can be, some by the bound calls and some by the metrics', lose no write."""

    def by_bound_calls() -> None:
        for _ in range(ROUNDS):
            metrics.count()
            metrics.begin()
            metrics.end(1.0)
            metrics.tally(1.0)

    def by_the_metrics_calls() -> None:
        for _ in range(ROUNDS):
            metrics.counter.inc()
            metrics.gauge.inc()
            metrics.gauge.dec()
            metrics.histogram.observe(1.0)
            metrics.counter.inc()
            metrics.histogram.observe(1.0)

    _compete([by_bound_calls, by_the_metrics_calls] * (THREADS // 2))
    total = 2.0 * THREADS * ROUNDS
    assert metrics.numbers() == (total, 0.0, total, [total, 0.0, 0.0])


def test_threads_lose_nothing_while_values_find_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that have no room at first, and find it while threads write to them, have every write in the end."""
    with stored_in(tmp_path, max_bytes=1) as store:
        monkeypatch.setattr(store, "_monotonic", lambda: 0.0)
        metrics = Bound()
        assert store._homeless

        def write() -> None:
            for number in range(ROUNDS):
                metrics.count()
                metrics.begin()
                metrics.end(1.0)
                if number == ROUNDS // 2:
                    store._max_bytes = 0
                    store._monotonic = lambda: 1e9

        _compete([write] * THREADS)
        assert not store._homeless
        total = float(THREADS * ROUNDS)
        assert metrics.numbers() == (total, 0.0, total, [total, 0.0, 0.0])


def test_a_forked_child_writes_to_its_own_place(tmp_path: Path) -> None:
    """The first writes after a fork find new places, and none of them is done twice or left out."""
    with Console(f"""
import os
from pathlib import Path
from tests.unit.monitoring.multiprocess.test_bound import Bound, stored_in
stored = stored_in(Path({str(tmp_path)!r}))
stored.__enter__()
metrics = Bound()
metrics.begin()
""") as console:
        child = console.run("""
pid = os.fork()
if pid == 0:
    metrics.end(1.0)
    metrics.count()
    os._exit(0 if metrics.numbers() == (1.0, -1.0, 1.0, [1.0, 0.0, 0.0]) else 1)
answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""")
        assert child == 0
        assert console.run("answer = metrics.numbers()") == [0.0, 1.0, 0.0, [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_place_lost_half_way_costs_no_observation(metrics: Bound, lost: int) -> None:
    """Of the two writes of an observation each is done once, whichever finds its cell gone."""
    with _losing([metrics.histogram._sum, metrics.histogram._buckets[0]][lost - 1]):
        metrics.observe(1.0)
    for _ in range(3):
        metrics.observe(1.0)
    assert metrics.failures == 0
    once = 3.0, 4.0
    assert metrics.numbers() == (0.0, 0.0, once[lost != 1], [once[lost != 2], 0.0, 0.0])


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_place_lost_half_way_costs_no_write(metrics: Bound, lost: int) -> None:
    """Of the writes of an end each is done once, whichever of them is the first to find its cell gone."""
    with _losing([metrics.gauge._value, metrics.histogram._sum, metrics.histogram._buckets[0]][lost - 1]):
        metrics.end(1.0)
    for _ in range(3):
        metrics.end(1.0)
    assert metrics.failures == 0
    once = 3.0, 4.0
    assert metrics.numbers() == (0.0, -once[lost != 1], once[lost != 2], [once[lost != 3], 0.0, 0.0])


@contextlib.contextmanager
def _losing(value: Any) -> Iterator[None]:
    """Let a value be in a place of its own meanwhile, which is gone afterwards with what was written to it."""
    cells = memoryview(bytearray(8)).cast("d")
    value._cells, value._index = cells, 0
    yield
    cells.release()


@pytest.mark.parametrize("steps", [True, False], ids=["without a lock", "with a lock"])
@pytest.mark.parametrize("name", ["observe", "end", "tally"])
def test_a_trace_is_the_exemplar_of_its_bucket(
    metrics: Bound, monkeypatch: pytest.MonkeyPatch, name: str, *, steps: bool
) -> None:
    """Whatever observes keeps the trace that is running, at first and later; without one nothing is kept."""
    monkeypatch.setattr(bound, "_LINES_ARE_STEPS", steps)
    bucket = metrics.histogram._buckets[1]
    for _ in range(2):
        metrics.trace = uuid4().hex
        getattr(metrics, name)(2.0)
        found = bucket.get_exemplar()
        assert found is not None
        assert (found.labels, found.value) == ({"trace_id": metrics.trace}, 2.0)
        metrics.trace = ""
        getattr(metrics, name)(2.0)
        assert bucket.get_exemplar() == found
    assert metrics.failures == 0
    assert metrics.numbers()[2:] == (8.0, [0.0, 4.0, 0.0])


def test_labels_that_are_closed_are_asked_about_each_time(store: Store) -> None:
    """What is written under other labels than it was called with is remembered under these alone."""
    counter = Counter("c", "Help.", ["kind"], registry=CollectorRegistry())
    asked: list[bound.Labels] = []

    def close(labels: bound.Labels) -> bound.Labels:
        asked.append(labels)
        return labels if labels == ("known",) else ("other",)

    count = bound.counting(close, lambda labels: counter.labels(*labels), pytest.fail)
    for kind in ("known", "strange", "strange", "known", "other"):
        count(kind)
    assert asked == [("known",), ("strange",), ("strange",)]
    assert counter.labels("known")._value.get() == 2.0
    assert counter.labels("other")._value.get() == 3.0
    assert set(getclosurevars(count).nonlocals["places"]) == {("known",), ("other",)}


def test_what_cannot_be_written_is_told_and_raises_nothing(metrics: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that fails for a reason of its own fails no request."""

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    for value in (metrics.counter._value, metrics.gauge._value):
        value._cells = None
    monkeypatch.setattr(type(metrics.counter._value), "inc", broken)
    metrics.count()
    metrics.end(1.0)
    metrics.tally(1.0)
    assert metrics.failures == 3


@pytest.mark.parametrize(("name", "writes"), [("count", 1), ("begin", 1), ("end", 3), ("observe", 2), ("tally", 3)])
def test_nothing_runs_between_reading_a_cell_and_storing_to_it(metrics: Bound, name: str, writes: int) -> None:
    """A line that writes, to a cell of either file, has no call, no jump back and no wait."""
    code: CodeType = metrics.functions[name].__code__
    stores = 0
    for _, steps in groupby(dis.get_instructions(code), lambda step: step.positions and step.positions.lineno):
        names = [step.opname for step in steps]
        if "STORE_SUBSCR" in names:
            assert names.count("STORE_SUBSCR") == 2
            assert not [name for name in names if name.startswith(("CALL", "PRECALL", "JUMP_BACK", "RESUME", "SEND"))]
            stores += 1
    assert stores == writes


def test_without_the_global_lock_the_lock_is_taken(metrics: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a line is no step for other threads, what takes the lock is called each time."""
    monkeypatch.setattr(bound, "_LINES_ARE_STEPS", False)
    for _ in range(2):
        metrics.begin()
        metrics.end(1.0)
        metrics.count()
    assert metrics.numbers() == (2.0, 0.0, 2.0, [2.0, 0.0, 0.0])
    assert [getclosurevars(metrics.functions[name]).nonlocals["places"] for name in ("begin", "end")] == [{}, {}]


def _compete(calls: list[Callable[[], None]]) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
