"""The value class: what metrics write, who counts on, and what happens when a value cannot be stored.

The value class must be in place before the first metric is constructed, so nearly everything here happens in processes
of its own.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess import exposition, lease
from tests.unit.monitoring.multiprocess.support import (
    Console,
    ConsoleError,
    aggregate,
    fill,
    key,
    metric_file,
    read,
    read_only,
    small_disk,
)
from tests.vocabulary import observe

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]

PRELUDE = """
import os, threading
from pathlib import Path
from authly.monitoring.multiprocess import values
directory = Path({directory!r})
store = values.install(directory)
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
registry = CollectorRegistry()
def in_child(work):
    # Fork, let the child do the work, wait, and hand back what the work returned.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, 'rb') as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return eval(said)
"""
COUNTER = "counter = Counter('c', 'Help.', registry=registry)\n"
DROPPED = "authly_metrics_dropped_series_total"


def writer(directory: Path, metrics: str = COUNTER, environment: dict[str, str] | None = None) -> Console:
    """Start a process that keeps its metrics in a directory."""
    return Console(PRELUDE.format(directory=str(directory)) + metrics, environment)


def parsed(text: bytes, dropped: bool = False) -> Series:
    """Return the samples of an exposition, without those about series that could not be stored."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if dropped or sample.name != DROPPED
    }


def ours(directory: Path, *, dropped: bool = False) -> Series:
    """Return the samples that the read side finds."""
    families, conflicts = aggregate(read(directory).files)
    assert conflicts == 0
    return parsed(exposition.render(families, openmetrics=False), dropped)


def stock(directory: Path) -> Series:
    """Return the samples that prometheus-client's own collector finds."""
    registry = CollectorRegistry()
    collector: Any = MultiProcessCollector
    collector(registry, str(directory))
    return parsed(generate_latest(registry))


def drops(directory: Path) -> dict[str, float]:
    """Return how many series were counted as dropped, by reason."""
    found = ours(directory, dropped=True)
    observe({(name, frozenset(labels)): value for (name, labels), value in found.items()})
    return {dict(labels)["reason"]: value for (name, labels), value in found.items() if name == DROPPED and value}


def test_every_type_of_metric_round_trips_through_the_files(tmp_path: Path) -> None:
    """What is written to counters, gauges, histograms and summaries is what both read sides find."""
    metrics = (
        "counter = Counter('c', 'A counter.', ['code'], registry=registry)\n"
        "gauge = Gauge('g', 'A gauge.', registry=registry, multiprocess_mode='livesum')\n"
        "recent = Gauge('r', 'Most recent.', registry=registry, multiprocess_mode='mostrecent')\n"
        "every = Gauge('e', 'All.', registry=registry)\n"
        "histogram = Histogram('h', 'A histogram.', ['path'], registry=registry, buckets=[0.5, 1, 2])\n"
        "summary = Summary('s', 'A summary.', registry=registry)\n"
    )
    with writer(tmp_path, metrics) as process:
        process.run(
            "counter.labels('200').inc(); counter.labels('200').inc(2.5); counter.labels('a\"b\\\\c\\nd').inc(4)\n"
            "gauge.set(5); gauge.inc(2); gauge.dec(); recent.set(9); recent.set(3); every.set(-0.25)\n"
            "for value in (0.25, 1, 1.5, 4): histogram.labels('/x').observe(value)\n"
            "summary.observe(2); summary.observe(3)\n"
            "answer = [store.slot, counter.labels('200')._value.get()]"
        )
        expected = {
            ("c_total", (("code", "200"),)): 3.5,
            ("c_total", (("code", 'a"b\\c\nd'),)): 4.0,
            ("g", ()): 6.0,
            ("r", ()): 3.0,
            ("e", (("pid", "s0"),)): -0.25,
            ("h_bucket", (("le", "0.5"), ("path", "/x"))): 1.0,
            ("h_bucket", (("le", "1.0"), ("path", "/x"))): 2.0,
            ("h_bucket", (("le", "2.0"), ("path", "/x"))): 3.0,
            ("h_bucket", (("le", "+Inf"), ("path", "/x"))): 4.0,
            ("h_count", (("path", "/x"),)): 4.0,
            ("h_sum", (("path", "/x"),)): 6.75,
            ("s_count", ()): 2.0,
            ("s_sum", ()): 5.0,
        }
        assert ours(tmp_path) == expected
        assert stock(tmp_path) == expected
        assert drops(tmp_path) == {}


def test_a_new_holder_of_a_slot_counts_on(tmp_path: Path) -> None:
    """A worker that was killed loses nothing: the next holder of its slot begins with its values."""
    expected = 0
    for amount in (1, 10, 100):
        with writer(tmp_path) as process:
            process.run(f"counter.inc({amount})")
            expected += amount
            assert process.run("answer = [store.slot, counter._value.get()]") == [0, expected]
            process.kill()
        assert ours(tmp_path) == stock(tmp_path) == {("c_total", ()): expected}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_s0.db", "counter_s0.dense", "s0.lock"]


def test_two_processes_at_once_are_added_up(tmp_path: Path) -> None:
    """Each writes to files of its own, and an exposition shows the sum."""
    with writer(tmp_path) as first, writer(tmp_path) as second:
        first.run("counter.inc(1)")
        second.run("counter.inc(2)")
        assert [process.run("answer = store.slot") for process in (first, second)] == [0, 1]
        assert ours(tmp_path) == stock(tmp_path) == {("c_total", ()): 3.0}


@pytest.mark.parametrize("mode", ["all", "max", "min", "mostrecent", "sum"])
def test_live_gauges_of_the_last_holder_are_gone(tmp_path: Path, mode: str) -> None:
    """What a gauge said about a dead process is not said about the next one; other gauges stay."""
    metrics = (
        f"live = Gauge('live', 'Help.', ['worker'], registry=registry, multiprocess_mode='live{mode}')\n"
        f"other = Gauge('other', 'Help.', ['worker'], registry=registry, multiprocess_mode='{mode}')\n"
    )
    with writer(tmp_path, metrics) as process:
        process.run("live.labels('first').set(7); other.labels('first').set(8)")
        assert {(name, dict(labels)["worker"]) for name, labels in ours(tmp_path)} == {
            ("live", "first"),
            ("other", "first"),
        }
        process.kill()
    assert {name for name, _ in ours(tmp_path)} == {"other"}
    with writer(tmp_path, metrics) as process:
        process.run("other.labels('second').set(1)")
        assert {(name, dict(labels)["worker"]) for name, labels in ours(tmp_path)} == {
            ("other", "first"),
            ("other", "second"),
        }
        process.run("live.labels('second').set(9)")
        assert {(name, dict(labels)["worker"]): value for (name, labels), value in ours(tmp_path).items()} == {
            ("live", "second"): 9.0,
            ("other", "first"): 8.0,
            ("other", "second"): 1.0,
        }


def test_a_forked_child_leases_a_slot_of_its_own_and_counts_from_0(tmp_path: Path) -> None:
    """A child shares nothing with its parent: neither slot nor values nor files, and neither disturbs the other."""
    with writer(tmp_path) as parent:
        parent.run("counter.inc(5)")
        child = (
            "def work():\n"
            "    unused = store.slot\n"
            "    before = counter._value.get(); counter.inc(2)\n"
            "    return [unused, before, store.slot, counter._value.get()]\n"
            "answer = in_child(work)"
        )
        assert parent.run(child) == [None, 0.0, 1, 2.0]
        assert lease.held_slots(tmp_path) == [0]
        assert ours(tmp_path) == stock(tmp_path) == {("c_total", ()): 7.0}
        # The next child gets the slot of the first, and counts on.
        assert parent.run(child) == [None, 2.0, 1, 4.0]
        assert parent.run("counter.inc(); answer = [store.slot, counter._value.get()]") == [0, 6.0]
        assert ours(tmp_path) == stock(tmp_path) == {("c_total", ()): 10.0}


def test_a_child_that_writes_nothing_leases_nothing(tmp_path: Path) -> None:
    """Only writers take slots: a child on its way to another program leaves no trace."""
    with writer(tmp_path) as parent:
        parent.run("counter.inc()")
        assert parent.run("answer = in_child(lambda: (os.listdir(directory), store.slot))") == [
            os.listdir(tmp_path),
            None,
        ]
        assert sorted(os.listdir(tmp_path)) == ["counter_s0.db", "counter_s0.dense", "s0.lock"]


def test_a_grandchild_of_a_process_that_was_killed_keeps_its_own_slot(tmp_path: Path) -> None:
    """When the parent dies its slot is free, although its child lives on, and the child's is not."""
    with writer(tmp_path) as parent:
        parent.run(
            "counter.inc(1); reading, writing = os.pipe(); stopping, stop = os.pipe()\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    counter.inc(2); os.close(stop); os.write(writing, b'x'); os.read(stopping, 1); os._exit(0)\n"
            "os.close(stopping); os.read(reading, 1)"
        )
        assert lease.held_slots(tmp_path) == [0, 1]
        parent.run("store.close()")
        assert lease.held_slots(tmp_path) == [1]
        parent.run("os.close(stop); os.waitpid(child, 0)")
        assert lease.held_slots(tmp_path) == []


def test_forks_while_threads_write_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """A child forked in the middle of other threads' writes can write at once, and each write is counted once."""
    with writer(tmp_path) as parent:
        written, children = parent.run(
            "import sys; sys.setswitchinterval(1e-6); stop = False; written = [0, 0]\n"
            "def write(index):\n"
            "    while not stop:\n"
            "        counter.inc(); written[index] += 1\n"
            "threads = [threading.Thread(target=write, args=(index,)) for index in range(2)]\n"
            "for thread in threads: thread.start()\n"
            "def work():\n"
            "    for _ in range(10): counter.inc()\n"
            "    return store.slot\n"
            "children = [in_child(work) for _ in range(30)]\n"
            "stop = True\n"
            "for thread in threads: thread.join()\n"
            "answer = [sum(written), children]"
        )
        assert children == [1] * 30
        assert written > 0
        assert ours(tmp_path) == stock(tmp_path) == {("c_total", ()): written + 300.0}


def test_growth_keeps_the_cells_that_were_handed_out(tmp_path: Path) -> None:
    """Metrics from before a file grew beyond 16 KiB, several times, still count in it, as do new ones."""
    with writer(tmp_path, "counter = Counter('c', 'Help.', ['n'], registry=registry)\n") as process:
        sizes = process.run(
            "first = counter.labels('first'); first.inc(); sizes = set()\n"
            "many = []\n"
            "for number in range(2000):\n"
            "    many.append(counter.labels(str(number))); many[-1].inc(number); first.inc()\n"
            "    sizes.add((directory / 'counter_s0.db').stat().st_size)\n"
            "for child in many: child.inc()\n"
            "answer = sorted(sizes)"
        )
        assert sizes[:4] == [1 << 14, 1 << 15, 1 << 16, 1 << 17]
        expected = {("c_total", (("n", str(number)),)): number + 1.0 for number in range(2000)}
        expected["c_total", (("n", "first"),)] = 2001.0
        assert ours(tmp_path) == stock(tmp_path) == expected
        # The next holder finds everything in a file that is larger than a new one.
        process.kill()
    with writer(tmp_path, "counter = Counter('c', 'Help.', ['n'], registry=registry)\n") as process:
        process.run("counter.labels('first').inc(); counter.labels('1999').inc(); counter.labels('new').inc(3)")
        expected["c_total", (("n", "first"),)] += 1
        expected["c_total", (("n", "1999"),)] += 1
        expected["c_total", (("n", "new"),)] = 3.0
        assert ours(tmp_path) == stock(tmp_path) == expected


def test_an_entry_larger_than_the_file_fits(tmp_path: Path) -> None:
    """A single label value longer than the whole file makes it grow as often as it takes."""
    with writer(tmp_path, "counter = Counter('c', 'Help.', ['n'], registry=registry)\n") as process:
        process.run("counter.labels('small').inc(); counter.labels('x' * 200_000).inc(2)")
        assert ours(tmp_path) == {
            ("c_total", (("n", "small"),)): 1.0,
            ("c_total", (("n", "x" * 200_000),)): 2.0,
        }


RUBBISH = {
    "text": b"This is not a metric file, and it is longer than a header.",
    "short": b"12345",
    "used beyond the end": b"\xf8\xff\xff\x7f\0\0\0\0" + bytes(1 << 14),
    "used negative": b"\xf8\xff\xff\xff\0\0\0\0" + bytes(1 << 14),
    "length beyond what is used": b"\x28\0\0\0\0\0\0\0\xff\xff\0\0" + bytes(1 << 14),
    "truncated": metric_file([(key("h", "h_sum"), 5.0, 0.0)] * 600)[:-8],
}


@pytest.mark.produces("authly_metrics_dropped_series_total", reason=("corrupt_file",))
@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_corrupt_file_is_put_aside_and_counted(tmp_path: Path, rubbish: str) -> None:
    """A file that nobody could read does not keep a worker from counting, and stays for whoever wants to know why."""
    (tmp_path / "summary_s0.db").write_bytes(RUBBISH[rubbish])
    with writer(tmp_path, COUNTER + "summary = Summary('s', 'Help.', registry=registry)\n") as process:
        process.run("counter.inc(2); summary.observe(3)")
        assert process.run("answer = summary._sum.get()") == 3.0
        expected = {("c_total", ()): 2.0, ("s_count", ()): 1.0, ("s_sum", ()): 3.0}
        assert ours(tmp_path) == stock(tmp_path) == expected
        assert drops(tmp_path) == {"corrupt_file": 1.0}
        assert (tmp_path / "summary_s0.corrupt").read_bytes().startswith(RUBBISH[rubbish])


@pytest.mark.produces("authly_metrics_dropped_series_total", reason=("disk_full",))
def test_no_room_drops_nothing_that_was_counted(tmp_path: Path) -> None:
    """On a full disk the worker lives, the loss is counted, and when there is room the values appear, complete."""
    metrics = (
        "now = [1000.0]; store._monotonic = lambda: now[0]\n"
        + COUNTER
        + "gauge = Gauge('g', 'Help.', registry=registry, multiprocess_mode='mostrecent')\n"
        "histogram = Histogram('h', 'Help.', ['n'], registry=registry, buckets=[1, 2])\n"
    )
    with small_disk(tmp_path / "disk") as disk, writer(disk, metrics) as process:
        process.run("counter.inc(1); gauge.set(1)")
        fill(disk / "filler")
        process.run("for n in range(50): histogram.labels(str(n)).observe(1.5)")
        process.run("gauge.set(2); counter.inc(1)")
        stored = {("c_total", ()): 2.0, ("g", ()): 2.0}
        assert ours(disk) == stored
        assert drops(disk) == {"disk_full": 200.0}  # three buckets and a sum of each of 50 series
        # The process itself knows its values, and each series is counted once, however often it is written to.
        process.run("for n in range(50): histogram.labels(str(n)).observe(1.5)")
        assert process.run("answer = histogram.labels('0')._sum.get()") == 3.0
        process.run("now[0] += 10; histogram.labels('0').observe(1.5)")
        assert drops(disk) == {"disk_full": 200.0}
        assert ours(disk) == stored
        (disk / "filler").unlink()
        # Asking again is spaced out; then one write to each is enough.
        process.run("histogram.labels('0').observe(1.5)")
        assert ours(disk) == stored
        process.run(
            "now[0] += 10\nfor n in range(50):\n    for value in (0.5, 1.5, 4): histogram.labels(str(n)).observe(value)"
        )
        found = ours(disk)
        for number in range(50):
            before = 4 if number == 0 else 2
            series = ("n", str(number))
            assert found["h_sum", (series,)] == before * 1.5 + 6
            assert [found["h_bucket", (("le", le), series)] for le in ("1.0", "2.0", "+Inf")] == [
                1.0,
                before + 2.0,
                before + 3.0,
            ]
            assert found["h_count", (series,)] == before + 3.0
        # From now on they are like any other.
        assert process.run("histogram.labels('0').observe(1); answer = histogram.labels('0')._sum.get()") == 13.0
        assert ours(disk)["h_count", (("n", "0"),)] == 8.0
        assert ours(disk) == stock(disk)


def test_no_room_for_growth_keeps_what_is_stored(tmp_path: Path) -> None:
    """When a file cannot grow, the series in it go on, and those that found no room wait in memory."""
    metrics = "now = [0.0]; store._monotonic = lambda: now[0]\nc = Counter('c', 'Help.', ['n'], registry=registry)\n"
    with small_disk(tmp_path / "disk") as disk, writer(disk, metrics) as process:
        process.run("c.labels('first').inc()")
        fill(disk / "filler")
        process.run("for n in range(400): c.labels(str(n)).inc(n + 1)\nc.labels('first').inc()")
        before = ours(disk)
        assert before["c_total", (("n", "first"),)] == 2.0
        assert 0 < len(before) - 1 < 400
        assert drops(disk) == {"disk_full": 401.0 - len(before)}
        (disk / "filler").unlink()
        process.run("now[0] += 10\nfor n in range(400): c.labels(str(n)).inc()")
        found = ours(disk)
        assert {labels: value for (_, labels), value in found.items() if labels != (("n", "first"),)} == {
            (("n", str(number)),): number + 2.0 for number in range(400)
        }


def test_from_the_first_moment_on_a_full_disk(tmp_path: Path) -> None:
    """A worker that starts on a full disk serves, and stores all it counted when there is room."""
    with small_disk(tmp_path / "disk") as disk:
        fill(disk / "filler")
        with writer(disk, "now = [0.0]; store._monotonic = lambda: now[0]\n" + COUNTER) as process:
            assert process.run("for _ in range(7): counter.inc()\nanswer = counter._value.get()") == 7.0
            assert ours(disk) == {}
            (disk / "filler").unlink()
            process.run("now[0] += 10; counter.inc()")
            assert ours(disk) == {("c_total", ()): 8.0}


def test_memory_that_stood_in_is_the_parents_after_a_fork(tmp_path: Path) -> None:
    """A child does not store a second time what its parent counted while there was no room."""
    with small_disk(tmp_path / "disk") as disk:
        fill(disk / "filler")
        with writer(disk, "now = [0.0]; store._monotonic = lambda: now[0]\n" + COUNTER) as process:
            process.run("counter.inc(7)")
            (disk / "filler").unlink()
            process.run(
                "now[0] += 10\n"
                "def work():\n"
                "    before = counter._value.get(); counter.inc(1); return [before, counter._value.get()]\n"
            )
            assert process.run("answer = in_child(work)") == [0.0, 1.0]
            assert ours(disk) == {("c_total", ()): 1.0}
            # The child's slot was the first; the parent's own is the first again, where it counts on.
            process.run("counter.inc(1)")
            assert ours(disk) == {("c_total", ()): 9.0}


def test_what_stood_in_joins_what_an_earlier_holder_stored(tmp_path: Path) -> None:
    """A counter adds to the value in the file, and a gauge replaces it, when a file can be used again."""
    metrics = (
        "now = [0.0]; store._monotonic = lambda: now[0]\n"
        + COUNTER
        + "gauge = Gauge('g', 'Help.', registry=registry, multiprocess_mode='sum')\n"
    )
    with writer(tmp_path, metrics) as process:
        process.run("counter.inc(5); gauge.set(50)")
        process.kill()
    for name in ("counter", "gauge_sum"):
        (tmp_path / f"{name}_s0.db").rename(tmp_path / name)
        (tmp_path / f"{name}_s0.db").mkdir()
    with writer(tmp_path, metrics) as process:
        process.run("counter.inc(3); gauge.set(30)")
        for name in ("counter", "gauge_sum"):
            (tmp_path / f"{name}_s0.db").rmdir()
            (tmp_path / name).rename(tmp_path / f"{name}_s0.db")
        process.run("now[0] += 10; counter.inc(1); gauge.inc(1); answer = [counter._value.get(), gauge._value.get()]")
        assert ours(tmp_path) == stock(tmp_path) == {("c_total", ()): 9.0, ("g", ()): 31.0}


def test_the_stock_value_class_dies_on_a_full_disk(tmp_path: Path) -> None:
    """What the value class is for: in the same situation prometheus-client's own ends the worker by SIGBUS."""
    with (
        small_disk(tmp_path / "disk") as disk,
        Console(
            "from prometheus_client import CollectorRegistry, Counter, Histogram\n"
            "registry = CollectorRegistry()\n" + COUNTER + "counter.inc()",
            {"PROMETHEUS_MULTIPROC_DIR": str(disk)},
        ) as process,
    ):
        fill(disk / "filler")
        with pytest.raises(ConsoleError, match=f"^the process ended with -{int(signal.SIGBUS)}$"):
            process.run("h = Histogram('h', 'Help.', registry=registry); h.observe(1)")


# Few file systems have quotas, and those that do have to be told of each user first.
EXCEED_QUOTA = """
import errno
def exceed(*_):
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
os.posix_fallocate = exceed
"""


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(
            "os.setgid(65534); os.setuid(65534)",
            "no_permission",
            id="no permission",
            marks=pytest.mark.produces("authly_metrics_dropped_series_total", reason=("no_permission",)),
        ),
        pytest.param(
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')), 64))",
            "too_many_files",
            id="no descriptors left",
            marks=pytest.mark.produces("authly_metrics_dropped_series_total", reason=("too_many_files",)),
        ),
        pytest.param(
            "os.rename(directory, str(directory) + '.away')",
            "io_error",
            id="no directory",
            marks=pytest.mark.produces("authly_metrics_dropped_series_total", reason=("io_error",)),
        ),
        pytest.param(
            "store._max_bytes = 1",
            "budget",
            id="no budget left",
            marks=pytest.mark.produces("authly_metrics_dropped_series_total", reason=("budget",)),
        ),
        pytest.param(
            EXCEED_QUOTA,
            "quota",
            id="no quota left",
            marks=pytest.mark.produces("authly_metrics_dropped_series_total", reason=("quota",)),
        ),
    ],
)
def test_other_reasons_are_told_apart(tmp_path: Path, spoil: str, reason: str) -> None:
    """A series that cannot be stored is counted under what kept it from being stored."""
    if reason == "no_permission" and os.geteuid() != 0:
        spoil = "os.chmod(directory, 0o500)"
    directory = tmp_path / "metrics"
    directory.mkdir(0o700)
    with writer(directory) as process:
        process.run("counter.inc()")
        process.run(spoil)
        process.run("s = Summary('s', 'Help.', registry=registry); s.observe(2); counter.inc()")
        assert process.run("answer = [s._sum.get(), counter._value.get()]") == [2.0, 2.0]
        directory.chmod(0o700) if directory.exists() else (tmp_path / "metrics.away").rename(directory)
        assert ours(directory) == {("c_total", ()): 2.0}
        assert drops(directory) == {reason: 2.0}


@pytest.mark.produces("authly_metrics_dropped_series_total", reason=("read_only",))
def test_a_file_system_that_becomes_read_only(tmp_path: Path) -> None:
    """What is in its file goes on counting, and what would need another one is counted as dropped."""
    directory = tmp_path / "metrics"
    directory.mkdir(0o700)
    with writer(directory) as process:
        process.run("counter.inc()")
        with read_only(directory):
            process.run("s = Summary('s', 'Help.', registry=registry); s.observe(2); counter.inc()")
            assert process.run("answer = s._sum.get()") == 2.0
        assert ours(directory) == {("c_total", ()): 2.0}
        assert drops(directory) == {"read_only": 2.0}


def test_a_link_in_the_place_of_a_metric_file_is_not_followed(tmp_path: Path) -> None:
    """Nothing is written where a link points: the values stay in memory."""
    directory = tmp_path / "metrics"
    directory.mkdir(0o700)
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    (directory / "summary_s0.db").symlink_to(victim)
    with writer(directory) as process:
        process.run("s = Summary('s', 'Help.', registry=registry); s.observe(2); counter.inc()")
        assert process.run("answer = s._sum.get()") == 2.0
        assert victim.read_bytes() == b""
        assert drops(directory) == {"io_error": 2.0}


def test_without_a_directory_values_are_kept_in_memory(tmp_path: Path) -> None:
    """Metrics work where there is no directory at all, whatever PROMETHEUS_MULTIPROC_DIR says."""
    with Console(
        "from authly.monitoring.multiprocess import values\n"
        "store = values.install(None)\n"
        "from prometheus_client import CollectorRegistry, Counter, generate_latest\n"
        "registry = CollectorRegistry()\n" + COUNTER,
        {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")},
    ) as process:
        answer = process.run(
            "counter.inc(3); answer = [store, values.is_installed(), generate_latest(registry).decode()]"
        )
        assert answer[:2] == [None, True]
        assert parsed(answer[2].encode())["c_total", ()] == 3.0
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("first", "second"), [("'a'", "'b'"), ("'a'", None), (None, "'a'")])
def test_installing_twice_changes_nothing(tmp_path: Path, first: str | None, second: str | None) -> None:
    """The first call decides, for metrics exist by the time of the second; and both return the same."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    def path(name: str | None) -> str:
        return f"Path({str(tmp_path)!r}) / {name}" if name else "None"

    with Console("from pathlib import Path\nfrom authly.monitoring.multiprocess import values") as process:
        same = process.run(
            "before = values.is_installed()\n"
            f"one = values.install({path(first)}); two = values.install({path(second)})\n"
            "from prometheus_client import Counter; Counter('c', 'Help.').inc()\n"
            "answer = [before, one is two, values.is_installed()]"
        )
        assert same == [False, True, True]
        written = {name for name in ("a", "b") if list((tmp_path / name).iterdir())}
        assert written == ({"a"} if first else set())


def test_installing_and_constructing_is_a_lease_and_forks_hooks_are_harmless_without(tmp_path: Path) -> None:
    """Before the first metric nothing is leased, and a fork then is an ordinary one."""
    with Console(PRELUDE.format(directory=str(tmp_path))) as process:
        assert process.run("answer = [store.slot, in_child(lambda: store.slot)]") == [None, None]
        assert list(tmp_path.iterdir()) == []
        assert process.run(COUNTER + "answer = [store.slot, in_child(lambda: counter._value.get())]") == [0, 0.0]


def test_exemplars_leave_the_values_alone(tmp_path: Path) -> None:
    """A value that has an exemplar is what it is without, and the exemplar can be asked for."""
    with writer(tmp_path) as process:
        code = "counter.inc(1, exemplar={'trace': 'x'}); answer = counter._value.get_exemplar()[:2]"
        assert process.run(code) == [{"trace": "x"}, 1.0]
        assert ours(tmp_path) == {("c_total", ()): 1.0}


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    """Increments of several threads on one series, and new series meanwhile, are all counted."""
    with writer(tmp_path, COUNTER + "l = Counter('l', 'Help.', ['n'], registry=registry)\n") as process:
        process.run(
            "import sys; sys.setswitchinterval(1e-6)\n"
            "def write(index):\n"
            "    for n in range(3000):\n"
            "        counter.inc(); l.labels(str(n % 300)).inc()\n"
            "threads = [threading.Thread(target=write, args=(index,)) for index in range(4)]\n"
            "for thread in threads: thread.start()\n"
            "for thread in threads: thread.join()\n"
        )
        found = ours(tmp_path)
        assert found == stock(tmp_path)
        assert found.pop(("c_total", ())) == 12000.0
        assert set(found.values()) == {40.0}
        assert len(found) == 300
