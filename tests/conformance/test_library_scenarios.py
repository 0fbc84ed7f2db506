"""What prometheus-client promises of metrics that several processes write, kept with our value class and reader.

Real processes construct real metrics; a collector that lives through each scenario, and one that is new, must show the
same. Where prometheus-client's own collector shows something else, and ours means to, the test says so.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess import exposition
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.values import DROPPED_SERIES
from tests.unit.monitoring.multiprocess.support import Console

Series = dict[str, float]
PRELUDE = """
import gc, os, time
from pathlib import Path
from authly.monitoring.multiprocess import values
store = values.install(Path({directory!r}))
now = [1000.5]
store._clock = lambda: now[0]
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
registry = CollectorRegistry()
"""
MODES = ["all", "max", "min", "mostrecent", "sum"]


def series(metrics: Any) -> Series:
    """Return all samples, by name and sorted labels as text; none may be there twice."""
    found: Series = {}
    for metric in metrics:
        for sample in metric.samples:
            if not sample.name.startswith(DROPPED_SERIES):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                shown = f"{sample.name}{{{labels}}}" if labels else sample.name
                assert shown not in found, f"twice: {shown}"
                found[shown] = sample.value
    return found


class Scene:
    """A directory, the processes that write to it, and a collector that sees all of it.

    Args:
        directory: where the metric files are.
        stack: what ends the processes.
    """

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self._collector = DirectoryCollector(directory, time.monotonic)
        stack.callback(self._collector.close)

    def start(self, code: str = "") -> Console:
        """Start a process that keeps its metrics in the directory, with code that it executes first."""
        return self._stack.enter_context(Console(PRELUDE.format(directory=str(self.directory)) + code))

    def text(self, *, openmetrics: bool = False) -> str:
        """Return the exposition, which must be the same for the collector that lives on and for a new one."""
        new = DirectoryCollector(self.directory, time.monotonic)
        with contextlib.closing(new):
            texts = []
            for collector in (self._collector, new):
                collection = collector.collect()
                assert collection.conflicts == 0
                assert not any(collection.reading.skipped.values())
                texts.append(exposition.render(collection.families, openmetrics=openmetrics).decode())
        assert texts[0] == texts[1]
        return texts[0]

    def show(self) -> Series:
        """Return what our side shows, in the text format and, apart from times of creation, in OpenMetrics."""
        found = series(text_string_to_metric_families(self.text()))
        assert {name: value for name, value in self.openmetrics().items() if "_created" not in name} == found
        return found

    def openmetrics(self) -> Series:
        """Return what our side shows in OpenMetrics."""
        strict: Any = openmetrics_parser.text_string_to_metric_families
        return series(strict(self.text(openmetrics=True)))

    def stock(self) -> Series:
        """Return what prometheus-client's own collector shows."""
        registry = CollectorRegistry()
        collector: Any = MultiProcessCollector
        collector(registry, str(self.directory))
        return series(text_string_to_metric_families(generate_latest(registry).decode()))

    def lines(self, *, openmetrics: bool = False) -> list[str]:
        """Return the lines of the exposition, without those of our own family."""
        found = self.text(openmetrics=openmetrics).splitlines()
        return [line for line in found if DROPPED_SERIES not in line]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Return a directory without metrics."""
    with contextlib.ExitStack() as stack:
        yield Scene(tmp_path, stack)


@pytest.mark.parametrize("live", ["", "live"])
@pytest.mark.parametrize(
    ("mode", "three", "two"),
    [
        ("all", {"{pid=s0}": 3.0, "{pid=s1}": 1.0, "{pid=s2}": 2.0}, {"{pid=s0}": 3.0, "{pid=s2}": 2.0}),
        ("max", {"": 3.0}, {"": 3.0}),
        ("min", {"": 1.0}, {"": 2.0}),
        ("mostrecent", {"": 1.0}, {"": 2.0}),
        ("sum", {"": 6.0}, {"": 5.0}),
    ],
)
def test_gauge_modes(scene: Scene, live: str, mode: str, three: Series, two: Series) -> None:
    """Each of the ten modes is what it says, over three processes and after one of them was killed."""
    code = (
        f"g = Gauge('g', 'Help.', multiprocess_mode='{live}{mode}', registry=registry)\n"
        f"l = Gauge('l', 'Help.', ['a'], multiprocess_mode='{live}{mode}', registry=registry)\n"
    )
    processes = [scene.start(code) for _ in range(3)]
    for process in processes:
        process.run("g.inc(0) if 'most' not in g._multiprocess_mode else g.set(0)")
    # The second, which sets the last value, is the one that is killed.
    for number in (0, 2, 1):
        value = (3, 1, 2)[number]
        processes[number].run(f"g.set({value}); l.labels('x').set({value}); l.labels('own {number}').set(7)")

    def expected(values: Series, numbers: tuple[int, ...]) -> Series:
        found = {f"g{labels}": value for labels, value in values.items()}
        found |= {f"l{{a=x{',' + labels[1:-1] if labels else ''}}}": value for labels, value in values.items()}
        own = ",pid=s{}" if mode == "all" else ""
        return found | {f"l{{a=own {number}{own.format(number)}}}": 7.0 for number in numbers}

    assert scene.show() == scene.stock() == expected(three, (0, 1, 2))
    processes[1].kill()
    if live:
        assert scene.show() == expected(two, (0, 2))
    else:
        assert scene.show() == scene.stock() == expected(three, (0, 1, 2))


def test_counters_add_up(scene: Scene) -> None:
    """A counter is the sum over all processes, those that died included; one that was never incremented is 0."""
    code = "c = Counter('c', 'Help.', registry=registry); n = Counter('never', 'Help.', registry=registry)"
    first, second = scene.start(code), scene.start(code)
    assert scene.show() == scene.stock() == {"c_total": 0.0, "never_total": 0.0}
    first.run("c.inc()")
    second.run("c.inc(2.5)")
    assert scene.show() == scene.stock() == {"c_total": 3.5, "never_total": 0.0}
    first.kill()
    second.close()
    assert scene.show() == scene.stock() == {"c_total": 3.5, "never_total": 0.0}


def test_summaries_add_up(scene: Scene) -> None:
    """Count and sum of a summary are sums over all processes."""
    code = "s = Summary('s', 'Help.', registry=registry)"
    first, second = scene.start(code), scene.start(code)
    assert scene.show() == scene.stock() == {"s_count": 0.0, "s_sum": 0.0}
    first.run("s.observe(1); s.observe(4)")
    second.run("s.observe(0.5)")
    assert scene.show() == scene.stock() == {"s_count": 3.0, "s_sum": 5.5}


def test_histograms_add_up(scene: Scene) -> None:
    """Buckets are cumulative over the sum of all processes, and the count is the greatest bucket."""
    code = "h = Histogram('h', 'Help.', ['a'], buckets=[1, 5, float('inf')], registry=registry)"
    first, second = scene.start(code), scene.start(code)
    assert scene.show() == {}
    first.run("h.labels('x').observe(1); h.labels('x').observe(9)")
    second.run("h.labels('x').observe(4); h.labels('y').observe(0)")
    expected = {
        "h_bucket{a=x,le=1.0}": 1.0,
        "h_bucket{a=x,le=5.0}": 2.0,
        "h_bucket{a=x,le=+Inf}": 3.0,
        "h_count{a=x}": 3.0,
        "h_sum{a=x}": 14.0,
        "h_bucket{a=y,le=1.0}": 1.0,
        "h_bucket{a=y,le=5.0}": 1.0,
        "h_bucket{a=y,le=+Inf}": 1.0,
        "h_count{a=y}": 1.0,
        "h_sum{a=y}": 0.0,
    }
    assert scene.show() == scene.stock() == expected
    assert scene.show() == expected


def test_processes_with_different_series_are_merged(scene: Scene) -> None:
    """A series is there if any process has it; equal labels are one series, and nothing is mixed up."""
    code = "c = Counter('c', 'Help.', ['a', 'b'], registry=registry)\n"
    scene.start(code).run("c.labels('1', '2').inc(1); c.labels('', '12').inc(8)")
    scene.start(code).run("c.labels('1', '2').inc(2); c.labels('12', '').inc(16)")
    scene.start("o = Counter('o', 'Help.', registry=registry)").run("o.inc(4)")
    expected = {"c_total{a=1,b=2}": 3.0, "c_total{a=,b=12}": 8.0, "c_total{a=12,b=}": 16.0, "o_total": 4.0}
    assert scene.show() == scene.stock() == expected


def test_collecting_again_repeats_nothing(scene: Scene) -> None:
    """However often it is collected, each family and each sample is there once, with the same value."""
    code = "h = Histogram('h', 'Help.', buckets=[1], registry=registry); h.observe(0.5)"
    processes = [scene.start(code) for _ in range(2)]
    shown = scene.lines()
    for _ in range(5):
        assert scene.lines() == shown
    assert len(shown) == len(set(shown)) == 6
    processes[0].run("h.observe(2)")
    for _ in range(5):
        assert scene.show() == {"h_bucket{le=1.0}": 2.0, "h_bucket{le=+Inf}": 3.0, "h_count": 3.0, "h_sum": 3.0}


def test_a_missing_file_is_missing_alone(scene: Scene) -> None:
    """A file that was deleted takes its numbers along, and nothing else."""
    code = (
        "c = Counter('c', 'Help.', registry=registry); c.inc(1)\n"
        "g = Gauge('g', 'Help.', multiprocess_mode='livesum', registry=registry); g.set(5)\n"
    )
    scene.start(code), scene.start(code)
    assert scene.show() == {"c_total": 2.0, "g": 10.0}
    (scene.directory / "gauge_livesum_s0.db").unlink()
    assert scene.show() == {"c_total": 2.0, "g": 5.0}
    (scene.directory / "gauge_livesum_s1.db").unlink()
    assert scene.show() == {"c_total": 2.0}
    (scene.directory / "counter_s1.db").unlink()
    assert scene.show() == {"c_total": 1.0}


@pytest.mark.parametrize("mode", MODES)
def test_a_live_gauge_may_be_deleted_while_it_is_collected(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """The file of a live gauge that is there when files are listed and gone when it is opened is no error."""
    code = f"g = Gauge('g', 'Help.', multiprocess_mode='live{mode}', registry=registry); g.set(5)\n"
    scene.start(code + "c = Counter('c', 'Help.', registry=registry); c.inc()")
    opening = os.open
    victim = scene.directory / f"gauge_live{mode}_s0.db"
    assert len(scene.show()) == 2

    def delete_first(path: Any, *arguments: Any, **keywords: Any) -> int:
        if Path(path) == victim:
            victim.unlink()
        return opening(path, *arguments, **keywords)

    collector = DirectoryCollector(scene.directory, time.monotonic)
    with contextlib.closing(collector):
        monkeypatch.setattr(os, "open", delete_first)
        collection = collector.collect()
        assert not victim.exists()
        assert not any(collection.reading.skipped.values())
        assert "c" in {family.name for family in collection.families}
        assert "g" not in {family.name for family in collection.families}


def test_namespace_subsystem_and_unit_make_the_name(scene: Scene) -> None:
    """Names are put together as in one process, and OpenMetrics alone names the unit."""
    scene.start(
        "keywords = dict(namespace='n', subsystem='s', registry=registry)\n"
        "Counter('read', 'Help.', unit='bytes', **keywords).inc(3)\n"
        "Gauge('age', 'Help.', unit='seconds', multiprocess_mode='max', **keywords).set(4)\n"
        "Histogram('took', 'Help.', unit='seconds', buckets=[1], **keywords).observe(2)\n"
        "Summary('plain', 'Help.', ['a'], **keywords).labels('x').observe(2)\n"
    )
    expected = {
        "n_s_read_bytes_total": 3.0,
        "n_s_age_seconds": 4.0,
        "n_s_took_seconds_bucket{le=1.0}": 0.0,
        "n_s_took_seconds_bucket{le=+Inf}": 1.0,
        "n_s_took_seconds_count": 1.0,
        "n_s_took_seconds_sum": 2.0,
        "n_s_plain_count{a=x}": 1.0,
        "n_s_plain_sum{a=x}": 2.0,
    }
    assert scene.show() == scene.stock() == expected
    assert [line for line in scene.lines(openmetrics=True) if line.startswith("# UNIT")] == [
        "# UNIT n_s_age_seconds seconds",
        "# UNIT n_s_read_bytes bytes",
        "# UNIT n_s_took_seconds seconds",
    ]
    assert "# UNIT" not in scene.text()


def test_the_order_of_labels_makes_no_difference(scene: Scene) -> None:
    """A series is told by its labels, whatever their order in the definition and in the call; they are shown sorted."""
    scene.start("c = Counter('c', 'Help.', ['b', 'a', 'C'], registry=registry)").run(
        "c.labels(C='3', a='1', b='2').inc(1); c.labels('2', '1', '3').inc(2)"
    )
    scene.start("c = Counter('c', 'Help.', ['a', 'C', 'b'], registry=registry)").run("c.labels('1', '3', '2').inc(4)")
    assert scene.show() == scene.stock() == {"c_total{C=3,a=1,b=2}": 7.0}
    assert 'c_total{C="3",a="1",b="2"} 7.0' in scene.lines()


def test_a_registry_can_be_restricted(scene: Scene) -> None:
    """Within a process the registry works as ever, restricted to some names too, with the process's own numbers."""
    code = (
        "c = Counter('c', 'Help.', registry=registry); g = Gauge('g', 'Help.', registry=registry)\nc.inc(2); g.set(3)"
    )
    scene.start(code)
    process = scene.start(code)
    answer = process.run(
        "process = generate_latest(registry.restricted_registry(['c_total'])).decode()\n"
        "answer = [process, registry.get_sample_value('g'), registry.get_sample_value('c_total')]"
    )
    assert series(text_string_to_metric_families(answer[0])) == {"c_total": 2.0}
    assert answer[1:] == [3.0, 2.0]
    assert scene.show() == {"c_total": 4.0, "g{pid=s0}": 3.0, "g{pid=s1}": 3.0}


@pytest.mark.parametrize(("mode", "value"), [("min", 5.0), ("max", -5.0), ("livemin", 5.0), ("livemax", -5.0)])
def test_an_unset_gauge_is_neither_least_nor_greatest(scene: Scene, mode: str, value: float) -> None:
    """A gauge that a process only constructed takes no part, where prometheus-client takes it for a 0."""
    code = f"g = Gauge('g', 'Help.', multiprocess_mode='{mode}', registry=registry)\n"
    scene.start(code)
    assert scene.show() == {"g": 0.0}  # as in a single process
    process = scene.start(code)
    process.run(f"g.set({value})")
    assert scene.show() == {"g": value}
    assert scene.stock() == {"g": 0.0}
    # A 0 that was set is one like any other.
    process.run("g.set(0)")
    assert scene.show() == {"g": 0.0}
    process.run(f"g.inc({2 * value}); g.dec({value})")
    assert scene.show() == {"g": value}


def test_families_stand_in_order_and_help_texts_do_not_contend(scene: Scene) -> None:
    """Families stand in the order of their names, and of several help texts one is shown, once."""
    first = scene.start(
        "Summary('b', 'First.', registry=registry).observe(1)\n"
        "Counter('z', 'First.', registry=registry).inc(1); Counter('a', 'First.', registry=registry).inc(2)"
    )
    scene.start("Counter('z', 'Second.', registry=registry).inc(4); Counter('k', 'Only.', registry=registry).inc()")
    assert scene.lines() == [
        "# HELP a_total First.",
        "# TYPE a_total counter",
        "a_total 2.0",
        "# HELP b First.",
        "# TYPE b summary",
        "b_count 1.0",
        "b_sum 1.0",
        "# HELP k_total Only.",
        "# TYPE k_total counter",
        "k_total 1.0",
        "# HELP z_total First.",
        "# TYPE z_total counter",
        "z_total 5.0",
    ]
    first.close()
    assert scene.show() == {"a_total": 2.0, "b_count": 1.0, "b_sum": 1.0, "k_total": 1.0, "z_total": 5.0}


@pytest.mark.parametrize("mode", ["all", "liveall"])
def test_the_mode_all_names_the_writer(scene: Scene, mode: str) -> None:
    """Each process's gauge is told by the label pid, which is the slot; a label of that name gives way to it."""
    code = f"g = Gauge('g', 'Help.', ['pid', 'a'], multiprocess_mode='{mode}', registry=registry)\n"
    for number in range(2):
        scene.start(code).run(f"g.labels('mine', 'x').set({number})")
    assert scene.show() == {"g{a=x,pid=s0}": 0.0, "g{a=x,pid=s1}": 1.0}


METRICS = (
    "c = Counter('c', 'Help.', ['a', 'b'], registry=registry)\n"
    "h = Histogram('h', 'Help.', ['a', 'b'], buckets=[1], registry=registry)\n"
    "s = Summary('s', 'Help.', ['a', 'b'], registry=registry)\n"
    "g = Gauge('g', 'Help.', ['a', 'b'], multiprocess_mode='sum', registry=registry)\n"
    "m = Gauge('m', 'Help.', ['a', 'b'], multiprocess_mode='max', registry=registry)\n"
    "e = Gauge('e', 'Help.', ['a', 'b'], registry=registry)\n"
    "def write(*labels):\n"
    "    c.labels(*labels).inc(2); h.labels(*labels).observe(3); s.labels(*labels).observe(4)\n"
    "    g.labels(*labels).set(5); m.labels(*labels).set(6); e.labels(*labels).set(7)\n"
)


def written(a: str, b: str, times: int = 1, slots: tuple[int, ...] = (0,)) -> Series:
    """Return what ``write`` makes in so many processes."""
    at = f"a={a},b={b}"
    return {
        f"c_total{{{at}}}": 2.0 * times,
        f"h_bucket{{{at},le=1.0}}": 0.0,
        f"h_bucket{{{at},le=+Inf}}": 1.0 * times,
        f"h_count{{{at}}}": 1.0 * times,
        f"h_sum{{{at}}}": 3.0 * times,
        f"s_count{{{at}}}": 1.0 * times,
        f"s_sum{{{at}}}": 4.0 * times,
        f"g{{{at}}}": 5.0 * times,
        f"m{{{at}}}": 6.0,
        **{f"e{{{at},pid=s{slot}}}": 7.0 for slot in slots},
    }


@pytest.mark.parametrize(
    ("removal", "left"),
    [
        ("remove('1', 'x')", [("1", "y"), ("2", "x")]),
        ("remove_by_labels({'a': '1'})", [("2", "x")]),
        ("remove_by_labels({'b': 'x'})", [("1", "y")]),
        ("remove_by_labels({'a': '2', 'b': 'y'})", [("1", "x"), ("1", "y"), ("2", "x")]),
        ("clear()", []),
    ],
)
def test_removed_series_are_gone(scene: Scene, removal: str, left: list[tuple[str, str]]) -> None:
    """What remove(), remove_by_labels() and clear() remove is not shown, and begins anew when it is added again."""
    process = scene.start(METRICS)
    pairs = [("1", "x"), ("1", "y"), ("2", "x")]
    process.run("\n".join(f"write{pair!r}" for pair in pairs))
    everything = {name: value for pair in pairs for name, value in written(*pair).items()}
    assert scene.show() == scene.stock() == everything
    process.run(f"for metric in (c, h, s, g, m, e): metric.{removal}")
    remaining = {name: value for pair in left for name, value in written(*pair).items()}
    assert scene.show() == remaining
    # prometheus-client's own collector knows no removal, and finds a 0.
    assert scene.stock() == {**dict.fromkeys(everything, 0.0), **remaining}
    process.run("write('1', 'x')" if ("1", "x") not in left else "pass")
    assert scene.show() == {**remaining, **written("1", "x")}
    assert {name: value for name, value in scene.stock().items() if value} == {
        name: value for name, value in scene.show().items() if value
    }


def test_other_processes_parts_of_a_removed_series_remain(scene: Scene) -> None:
    """A process removes its own part of a series: it is gone when all have removed theirs."""
    first, second = scene.start(METRICS), scene.start(METRICS)
    for process in (first, second):
        process.run("write('1', 'x')")
    assert scene.show() == written("1", "x", times=2, slots=(0, 1))
    first.run("for metric in (c, h, s, g, m, e): metric.remove('1', 'x')")
    assert scene.show() == written("1", "x", times=1, slots=(1,))
    second.kill()
    assert scene.show() == written("1", "x", times=1, slots=(1,))
    third = scene.start(METRICS)
    assert third.run("answer = store.slot") is None
    third.run("write('1', 'x'); answer = store.slot")
    again = written("1", "x", times=2, slots=(1,)) | {"g{a=1,b=x}": 5.0}
    assert scene.show() == again
    third.run("for metric in (c, h, s, g, m, e): metric.clear()")
    assert scene.show() == {}


def test_a_removed_child_that_is_still_held_does_not_remove_its_successor(scene: Scene) -> None:
    """Who keeps a child beyond its removal and lets go of it later takes nothing from the series that began anew."""
    process = scene.start("c = Counter('c', 'Help.', ['a'], registry=registry)\n")
    process.run("old = c.labels('x'); old.inc(5); c.remove('x'); c.labels('x').inc(2)")
    process.run("del old; gc.collect()")
    process.run("c.labels('x').inc(1)")
    # The old child, which lived when the new one was made, may still be counted in; the new one may not be lost.
    found = scene.show()
    assert found.get("c_total{a=x}") in {3.0, 8.0}, found


def test_a_metric_that_goes_takes_nothing_from_another_of_its_name(scene: Scene) -> None:
    """Metrics of one name in two registries share their series, which remains as long as one of them is there."""
    process = scene.start(
        "one = Counter('c', 'Help.', registry=CollectorRegistry())\n"
        "two = Counter('c', 'Help.', registry=CollectorRegistry())\n"
        "one.inc(5); two.inc(1)\n"
    )
    assert scene.show() == {"c_total": 6.0}
    process.run("del one; gc.collect(); two.inc(2)")
    assert scene.show() == {"c_total": 8.0}
    process.run("del two; gc.collect()")
    assert scene.show() == {}


def test_resetting_a_counter_sets_it_to_zero(scene: Scene) -> None:
    """reset() sets this process's part to 0, and it counts on from there."""
    code = "c = Counter('c', 'Help.', ['a'], registry=registry)\n"
    first, second = scene.start(code), scene.start(code)
    first.run("c.labels('x').inc(5)")
    second.run("c.labels('x').inc(3)")
    first.run("c.labels('x').reset()")
    assert scene.show() == scene.stock() == {"c_total{a=x}": 3.0}
    first.run("c.labels('x').inc(1)")
    assert scene.show() == scene.stock() == {"c_total{a=x}": 4.0}


CREATED = (
    "c = Counter('c', 'Help.', ['a'], registry=registry)\n"
    "h = Histogram('h', 'Help.', buckets=[1], registry=registry); s = Summary('s', 'Help.', registry=registry)\n"
    "g = Gauge('g', 'Help.', multiprocess_mode='sum', registry=registry)\n"
    "h.observe(1); s.observe(1); c.labels('x').inc(); g.set(1)\n"
)


def created(scene: Scene) -> Series:
    """Return the times of creation that OpenMetrics shows."""
    assert "_created" not in scene.text()
    return {name: value for name, value in scene.openmetrics().items() if "_created" in name}


def test_openmetrics_says_since_when_a_series_counts(scene: Scene) -> None:
    """All but gauges have the earliest time of all processes, kept across SIGKILL; the text format has none."""
    first = scene.start("now[0] = 2000.25\n" + CREATED)
    assert created(scene) == {"c_created{a=x}": 2000.25, "h_created": 2000.25, "s_created": 2000.25}
    scene.start("now[0] = 1500.5\n" + CREATED + "now[0] = 1600; c.labels('y').inc()")
    expected = {"c_created{a=x}": 1500.5, "c_created{a=y}": 1600.0, "h_created": 1500.5, "s_created": 1500.5}
    assert created(scene) == expected
    first.run("now[0] = 1000; h.observe(1); c.labels('x').inc()")
    first.kill()
    assert created(scene) == expected


def test_a_new_holder_of_a_slot_keeps_the_times(scene: Scene) -> None:
    """What a killed process counted is counted on, and so the time remains; removed series begin anew."""
    first = scene.start("now[0] = 2000.25\n" + CREATED)
    first.kill()
    second = scene.start("now[0] = 3000\n" + CREATED + "c.labels('y').inc()")
    assert second.run("answer = store.slot") == 0
    expected = {"c_created{a=x}": 2000.25, "c_created{a=y}": 3000.0, "h_created": 2000.25, "s_created": 2000.25}
    assert created(scene) == expected
    assert scene.show()["c_total{a=x}"] == 2.0
    second.run("c.remove('x')")
    del expected["c_created{a=x}"]
    assert created(scene) == expected
    second.run("now[0] = 4000; c.labels('x').inc(7)")
    assert created(scene) == {**expected, "c_created{a=x}": 4000.0}
    assert scene.show()["c_total{a=x}"] == 7.0


def test_decorators_and_context_managers(scene: Scene) -> None:
    """What wraps a function or a block counts and times as in one process, exceptions included."""
    process = scene.start(
        "c = Counter('c', 'Help.', registry=registry); k = Counter('k', 'Help.', registry=registry)\n"
        "h = Histogram('h', 'Help.', ['a'], buckets=[60], registry=registry)\n"
        "s = Summary('s', 'Help.', registry=registry)\n"
        "g = Gauge('g', 'Help.', multiprocess_mode='livesum', registry=registry)\n"
        "t = Gauge('t', 'Help.', multiprocess_mode='max', registry=registry)\n"
    )
    inside = process.run(
        "@c.count_exceptions()\n"
        "@h.labels('x').time()\n"
        "@s.time()\n"
        "@g.track_inprogress()\n"
        "def work(fail):\n"
        "    inside.append(registry.get_sample_value('g'))\n"
        "    if fail: raise KeyError(fail)\n"
        "inside = []\n"
        "for fail in (0, 1, 1):\n"
        "    try: work(fail)\n"
        "    except KeyError: pass\n"
        "for error in (ValueError, KeyError):\n"
        "    try:\n"
        "        with k.count_exceptions(ValueError), t.time(), h.labels('y').time(): raise error()\n"
        "    except error: pass\n"
        "answer = inside"
    )
    assert inside == [1.0, 1.0, 1.0]
    found = scene.show()
    assert found == scene.stock()
    assert {name: found[name] for name in ("c_total", "k_total", "g", "s_count")} == {
        "c_total": 2.0,
        "k_total": 1.0,
        "g": 0.0,
        "s_count": 3.0,
    }
    assert (found["h_count{a=x}"], found["h_count{a=y}"]) == (3.0, 2.0)
    for name in ("h_sum{a=x}", "h_sum{a=y}", "s_sum", "t"):
        assert 0 < found[name] < 60, name
    process.run("t.set_to_current_time()")
    assert abs(scene.show()["t"] - time.time()) < 60
