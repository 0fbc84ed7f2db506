"""Exemplars: written beside the metric files, shown on their samples in OpenMetrics, and never in anybody's way."""

import errno
import itertools
import math
import os
import re
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import parser as openmetrics_parser

from authly.monitoring.multiprocess import exemplars, exposition
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.directory import clear
from authly.monitoring.multiprocess.exemplars import Exemplar, ExemplarFile, ExemplarReader, Record
from authly.monitoring.multiprocess.values import Store, value_class

parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families
Shown = dict[tuple[str, frozenset[tuple[str, str]]], tuple[dict[str, str], float]]

KEY = b'["c", "c_total", {}, "Help."]'


class Process:
    """What a process is to a directory: a store of its own, and metrics that keep their values there."""

    def __init__(self, directory: Path, max_bytes: int = 0) -> None:
        self.store = Store(directory, max_bytes)
        before = values.ValueClass
        values.ValueClass = value_class(self.store)
        try:
            registry = CollectorRegistry()
            self.counter = Counter("c", "Help.", ["of"], registry=registry)
            self.histogram = Histogram("h", "Help.", buckets=(1, 5), registry=registry)
            self.gauge = Gauge("g", "Help.", multiprocess_mode="sum", registry=registry)
            self.children: dict[str, Any] = {of: self.counter.labels(of) for of in "ab"}
        finally:
            values.ValueClass = before

    def close(self) -> None:
        """End as a process does."""
        self.store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Return what starts processes in the directory of the test."""
    started: list[Process] = []

    def make() -> Process:
        started.append(Process(tmp_path))
        return started[-1]

    yield make
    for process in started:
        process.close()


def text_of(collector: DirectoryCollector) -> str:
    """Scrape in OpenMetrics."""
    return exposition.render(collector.collect(exemplars=True).families, openmetrics=True).decode()


def scraper(directory: Path) -> DirectoryCollector:
    """Return the read side."""
    return DirectoryCollector(directory, time.monotonic)


def shown(text: str) -> Shown:
    """Return the exemplars of an exposition, as the strict parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): (dict(sample.exemplar.labels), sample.exemplar.value)
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.exemplar
    }


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return a sample's name and labels."""
    return name, frozenset(labels.items())


def allow(_: int) -> None:
    """Allow any number of bytes."""


def exemplar_file(directory: Path, slot: int = 0) -> ExemplarFile:
    """Return a slot's file to write to."""
    return ExemplarFile(directory / exemplars.file_name(slot), allow, lambda: 0.0)


def records(directory: Path, slot: int = 0) -> list[Record]:
    """Return what a reader that has not seen the file before finds in it."""
    return ExemplarReader(directory).read([slot]).get(slot, [])


# From a metric to its exposition


def test_exemplars_are_on_the_sample_that_counted(start: Callable[[], Process], tmp_path: Path) -> None:
    """A counter's is on its total, a histogram's on the bucket of its value, with a time; the text format has none."""
    process = start()
    process.children["a"].inc(2, exemplar={"trace_id": "t1"})
    process.children["b"].inc()
    process.histogram.observe(0.5)
    process.histogram.observe(3, exemplar={"trace_id": "t2", "of": "x\\\n}"})
    process.histogram.observe(7, exemplar={"trace_id": "t3"})
    collector = scraper(tmp_path)
    text = text_of(collector)
    assert shown(text) == {
        labelled("c_total", of="a"): ({"trace_id": "t1"}, 2.0),
        labelled("h_bucket", le="5.0"): ({"trace_id": "t2", "of": "x\\\n}"}, 3.0),
        labelled("h_bucket", le="+Inf"): ({"trace_id": "t3"}, 7.0),
    }
    times = re.findall(r"\} \S+ (\d+\.\d+)$", text, re.MULTILINE)
    assert len(times) == 3
    assert all(abs(float(found) - time.time()) < 60 for found in times)
    assert b" # {" not in exposition.render(collector.collect().families, openmetrics=False)


def test_quotation_marks_are_escaped(start: Callable[[], Process], tmp_path: Path) -> None:
    """They are as in any other label; prometheus-client's own parser does not read them back in an exemplar."""
    start().children["a"].inc(exemplar={"of": '"x"'})
    assert r' # {of="\"x\""} 1.0 ' in text_of(scraper(tmp_path))


def test_the_most_recent_of_all_slots_wins(start: Callable[[], Process], tmp_path: Path) -> None:
    """Whichever process was the last to see a trace, its exemplar is shown, at the next scrape too."""
    first, second = start(), start()
    collector = scraper(tmp_path)
    for number, process in enumerate([first, second, first, first, second]):
        process.children["a"].inc(exemplar={"trace_id": str(number)})
        for _ in range(3):
            assert shown(text_of(collector)) == {labelled("c_total", of="a"): ({"trace_id": str(number)}, 1.0)}


def test_an_exemplar_outlives_its_process(start: Callable[[], Process], tmp_path: Path) -> None:
    """The next holder of the slot goes on with the records of the last one."""
    collector = scraper(tmp_path)
    first = start()
    first.children["a"].inc(exemplar={"trace_id": "1"})
    first.children["b"].inc(exemplar={"trace_id": "2"})
    first.close()
    expected = {
        labelled("c_total", of="a"): ({"trace_id": "1"}, 1.0),
        labelled("c_total", of="b"): ({"trace_id": "2"}, 1.0),
    }
    assert shown(text_of(collector)) == expected
    second = start()
    assert second.store.slot == 0
    assert shown(text_of(collector)) == expected
    second.children["b"].inc(exemplar={"trace_id": "3"})
    expected[labelled("c_total", of="b")] = {"trace_id": "3"}, 1.0
    assert shown(text_of(collector)) == expected
    assert len(records(tmp_path)) == 2


def test_a_cached_text_shows_no_stale_exemplar(start: Callable[[], Process], tmp_path: Path) -> None:
    """An exemplar that changes or goes while no number does is changed or gone in the next exposition."""
    process = start()
    process.children["a"].inc(exemplar={"trace_id": "1"})
    collector = scraper(tmp_path)
    for _ in range(3):
        assert shown(text_of(collector))[labelled("c_total", of="a")] == ({"trace_id": "1"}, 1.0)
    process.children["a"]._value.set_exemplar(("", 0, 0))  # cannot be written
    process.children["a"]._value.set_exemplar(Exemplar({"trace_id": "2"}, 9.0, time.time()))  # type: ignore[arg-type]
    for _ in range(3):
        assert shown(text_of(collector))[labelled("c_total", of="a")] == ({"trace_id": "2"}, 9.0)
    assert collector.collect(exemplars=True).families[0].texts
    (tmp_path / "exemplars_s0.bin").unlink()
    assert shown(text_of(collector)) == {}


def test_a_series_that_began_anew_has_no_exemplar_of_old(start: Callable[[], Process], tmp_path: Path) -> None:
    """What an exemplar of a removed series says is gone with the series."""
    process = start()
    process.children["a"].inc(exemplar={"trace_id": "1"})
    process.children.clear()
    process.counter.remove("a")
    collector = scraper(tmp_path)
    assert shown(text_of(collector)) == {}
    time.sleep(0.001)
    store, before = process.store, values.ValueClass
    values.ValueClass = value_class(store)
    try:
        process.counter.labels("a").inc()
        assert shown(text_of(collector)) == {}
        process.counter.labels("a").inc(exemplar={"trace_id": "2"})
    finally:
        values.ValueClass = before
    assert shown(text_of(collector)) == {labelled("c_total", of="a"): ({"trace_id": "2"}, 1.0)}


def test_records_of_a_metric_file_that_was_replaced_mean_nothing(start: Callable[[], Process], tmp_path: Path) -> None:
    """Where the key at a position is another, an exemplar is not put on somebody else's sample."""
    start().children["a"].inc()
    reference = records(tmp_path)
    assert reference == []
    file = exemplar_file(tmp_path)
    for position in range(8, 400, 8):
        file.write("counter", b'["other", "other_total", {}, ""]', position, {"trace_id": "x"}, 1.0, time.time())
    file.write("histogram", KEY, 1 << 30, {"trace_id": "x"}, 1.0, time.time())
    file.close()
    assert records(tmp_path)
    assert shown(text_of(scraper(tmp_path))) == {}


def test_exemplars_survive_the_compaction_of_a_metric_file(start: Callable[[], Process], tmp_path: Path) -> None:
    """Where entries move, an exemplar of old is on nobody's sample, and a new one takes its record."""
    first = start()
    first.children["b"].inc(exemplar={"trace_id": "1"})
    first.children.pop("a")
    first.counter.remove("a")
    first.close()
    before = (tmp_path / "counter_s0.db").read_bytes()
    second = start()
    del second.children["a"]
    second.children["b"].inc()
    collector = scraper(tmp_path)
    assert (tmp_path / "counter_s0.db").read_bytes() != before
    assert set(shown(text_of(collector))) <= {labelled("c_total", of="b")}
    second.children["b"].inc(exemplar={"trace_id": "2"})
    assert shown(text_of(collector)) == {labelled("c_total", of="b"): ({"trace_id": "2"}, 1.0)}
    assert len(records(tmp_path)) == 1


def test_the_stock_reader_is_not_disturbed(start: Callable[[], Process], tmp_path: Path) -> None:
    """prometheus-client's own collector reads the directory as it would without the file of the exemplars."""
    process = start()
    process.children["a"].inc(exemplar={"trace_id": "1"})
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    text = generate_latest(registry)
    assert b'c_total{of="a"} 1.0' in text
    (tmp_path / "exemplars_s0.bin").unlink()
    assert generate_latest(registry) == text


def test_there_is_no_file_without_an_exemplar(start: Callable[[], Process], tmp_path: Path) -> None:
    """Who uses no exemplars has no file of them."""
    process = start()
    process.children["a"].inc()
    process.histogram.observe(1)
    process.gauge.set(1)
    assert process.children["a"]._value.get_exemplar() is None
    assert list(tmp_path.glob("*.bin")) == []


def test_a_forked_child_writes_to_its_own_file(start: Callable[[], Process], tmp_path: Path) -> None:
    """A value of the parent finds its place in the child before its exemplar does."""
    process = start()
    process.children["b"].inc(exemplar={"trace_id": "parent"})
    child = os.fork()
    if child == 0:
        try:
            process.children["a"].inc(exemplar={"trace_id": "child"})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "exemplars_s1.bin").exists()
    assert shown(text_of(scraper(tmp_path))) == {
        labelled("c_total", of="a"): ({"trace_id": "child"}, 1.0),
        labelled("c_total", of="b"): ({"trace_id": "parent"}, 1.0),
    }


# The file


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    """The bytes are where the module's docstring says, so that another program can read them."""
    file = exemplar_file(tmp_path, 3)
    file.write("histogram", KEY, 48, {"trace_id": "é"}, 1.5, 2.5)
    file.write("histogram", KEY, 48, {"trace_id": "é"}, 1.5, 2.5)
    assert file.read("histogram", KEY, 48) == Exemplar((("trace_id", "é"),), 1.5, 2.5)
    assert file.read("counter", KEY, 48) is None
    assert file.read("histogram", KEY, 56) is None
    file.close()
    data = (tmp_path / "exemplars_s3.bin").read_bytes()
    assert struct.unpack_from("8sII", data) == (b"AUTHLYX1", 1, 2)
    sequence, _, *body = struct.unpack_from("IIIIIIdd11s", data, 16)
    assert sequence == 4
    assert body == [2, 48, exemplars.checksum_of_key(KEY), 11, 1.5, 2.5, b"trace_id\xff\xc3\xa9"]
    assert not any(data[16 + 640 :])
    status = (tmp_path / "exemplars_s3.bin").stat()
    assert status.st_blocks * 512 >= status.st_size


LABELS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), min_size=1, max_size=4)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 60), LABELS, st.floats(allow_nan=False), st.floats(0, 1e12)), max_size=80))
def test_the_latest_of_each_value_is_read_back(written: list[tuple[int, dict[str, str], float, float]]) -> None:
    """Whatever is written is read back, the last for each value, also by the next holder of the slot."""
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        file = exemplar_file(directory)
        for number, (value, labels, amount, timestamp) in enumerate(written):
            if number == len(written) // 2:
                file.close()
                file = exemplar_file(directory)
            try:
                "".join([*labels, *labels.values()]).encode()
            except UnicodeEncodeError:
                continue
            file.write("counter", b"%d" % value, 8 * value, labels, amount, timestamp)
            expected[8 * value] = Exemplar(tuple(labels.items()), amount, timestamp)
        file.close()
        assert {record.position: record.exemplar for record in records(directory)} == expected


def test_as_much_text_as_openmetrics_allows_fits(tmp_path: Path) -> None:
    """128 characters fit, of any width."""
    file = exemplar_file(tmp_path)
    file.write("counter", KEY, 8, {"x" * 8: "\U0001f40d" * 120}, 1.0, 1.0)
    file.write("counter", b"2", 16, {"x" * 8: "\U0001f40d" * 200}, 1.0, 1.0)
    file.close()
    (record,) = records(tmp_path)
    assert record.exemplar.labels == (("x" * 8, "\U0001f40d" * 120),)


def test_there_is_a_bound(tmp_path: Path) -> None:
    """Records end at a number, those that are there go on to be written, and the file ends at a size."""
    file = exemplar_file(tmp_path)
    for number in range(exemplars.MAX_RECORDS + 10):
        file.write("counter", b"%d" % number, 8 * number, {"a": "b"}, 1.0, 1.0)
    file.write("counter", b"5", 40, {"a": "c"}, 1.0, 2.0)
    file.close()
    found = records(tmp_path)
    assert len(found) == exemplars.MAX_RECORDS
    assert found[5].exemplar.labels == (("a", "c"),)
    assert (tmp_path / "exemplars_s0.bin").stat().st_size == exemplars.MAX_SIZE


def test_what_cannot_be_written_is_dropped(tmp_path: Path) -> None:
    """No room, no file, text or numbers that are none: nothing is raised, and a new attempt for room waits a while."""
    now, asked = [0.0], []

    def refuse(more: int) -> None:
        asked.append(more)
        raise OSError(errno.ENOSPC, "full")

    file = ExemplarFile(tmp_path / "exemplars_s0.bin", refuse, lambda: now[0])
    for now[0] in (0.0, 0.5, 0.9, 1.5):
        file.write("counter", KEY, 8, {"a": "b"}, 1.0, 1.0)
    assert len(asked) == 2
    assert file.size == 0
    file.close()
    file = exemplar_file(tmp_path)
    odd: list[Any] = [{"a": "\ud800"}, {"a": 1}, None, {"a": "x" * 700}]
    for labels in odd:
        file.write("counter", KEY, 8, labels, 1.0, 1.0)
    file.write("gauge_sum", KEY, 8, {"a": "b"}, 1.0, 1.0)
    file.write("counter", KEY, -1, {"a": "b"}, 1.0, 1.0)
    unfit: Any = "1"
    file.write("counter", KEY, 8, {"a": "b"}, unfit, 1.0)
    file.close()
    assert records(tmp_path) == []
    (tmp_path / "exemplars_s1.bin").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "exemplars_s2.bin").mkdir()
    os.mkfifo(tmp_path / "exemplars_s3.bin")
    for slot in (1, 2, 3):
        file = exemplar_file(tmp_path, slot)
        file.write("counter", KEY, 8, {"a": "b"}, 1.0, 1.0)
        file.close()
        assert records(tmp_path, slot) == []


def test_exemplars_count_against_the_budget(tmp_path: Path) -> None:
    """Where the series have taken what the process may take, there are no exemplars, and no errors."""
    process = Process(tmp_path, max_bytes=3 << 14)
    process.children["a"].inc(exemplar={"trace_id": "1"})
    process.close()
    assert records(tmp_path) == []
    assert "c_total" in text_of(scraper(tmp_path))


def test_what_a_dead_holder_left_half_written_is_used_again(tmp_path: Path) -> None:
    """A record with an odd sequence is passed over, and given to the next value."""
    file = exemplar_file(tmp_path)
    for number in range(3):
        file.write("counter", b"%d" % number, 8 * number, {"a": "b"}, 1.0, 1.0)
    file.close()
    path = tmp_path / "exemplars_s0.bin"
    data = bytearray(path.read_bytes())
    data[16 + 640] += 1
    path.write_bytes(data)
    assert [record.position for record in records(tmp_path)] == [0, 16]
    file = exemplar_file(tmp_path)
    file.write("counter", b"9", 72, {"a": "b"}, 1.0, 1.0)
    file.close()
    assert [record.position for record in records(tmp_path)] == [0, 72, 16]


def test_a_file_of_something_else_is_put_aside(tmp_path: Path) -> None:
    """What is in the place of the file and is none is kept under another name, as for metric files."""
    path = tmp_path / "exemplars_s0.bin"
    path.write_bytes(b"something else entirely")
    file = exemplar_file(tmp_path)
    file.write("counter", KEY, 8, {"a": "b"}, 1.0, 1.0)
    file.close()
    assert len(records(tmp_path)) == 1
    assert path.with_suffix(".corrupt").read_bytes() == b"something else entirely"


def test_a_torn_record_is_never_taken(tmp_path: Path) -> None:
    """While one thread writes without a pause, a reader sees whole exemplars alone."""
    file = exemplar_file(tmp_path)
    end = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if end.is_set():
                return
            letter = "abcdefghij"[number % 10]
            file.write("counter", KEY, 8, {letter: letter * (100 + number % 10)}, float(number % 10), 1.0)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = set()
        reader = ExemplarReader(tmp_path)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            for record in reader.read([0]).get(0, []):
                ((name, value),) = record.exemplar.labels
                number = int(record.exemplar.value)
                assert name == "abcdefghij"[number]
                assert value == name * (100 + number)
                seen.add(name)
    finally:
        end.set()
        thread.join()
        file.close()
    assert seen


@settings(max_examples=150)
@given(
    data=st.data(),
    whole=st.booleans(),
    odd=st.binary(max_size=1500) | st.binary(max_size=1500).map(lambda tail: b"AUTHLYX1" + b"\5\0\0\0\1\0\0\0" + tail),
)
def test_no_bytes_break_a_scrape_or_a_writer(data: st.DataObject, whole: bool, odd: bytes) -> None:
    """Whatever is in the file, the exposition is valid, its numbers are right, and the next exemplar is no failure."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        process = Process(directory)
        process.children["a"].inc(exemplar={"trace_id": "1"})
        process.histogram.observe(3, exemplar={"trace_id": "2"})
        collector = scraper(directory)
        text_of(collector)
        process.close()
        path = directory / "exemplars_s0.bin"
        if whole:
            path.write_bytes(odd)
        else:
            bytes_ = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(1, 5))):
                bytes_[data.draw(st.integers(0, 16 + 2 * 640 - 1))] = data.draw(st.integers(0, 255))
            path.write_bytes(bytes_[: data.draw(st.integers(0, len(bytes_)) | st.just(len(bytes_)))])
        for reader in (collector, scraper(directory)):
            text = text_of(reader)
            assert 'c_total{of="a"} 1.0' in text
            for labels, value in shown(text).values():
                assert (labels, value) in [({"trace_id": "1"}, 1.0), ({"trace_id": "2"}, 3.0)]
        again = Process(directory)
        again.children["a"].inc(exemplar={"trace_id": "3"})
        again.close()
        assert shown(text_of(collector))[labelled("c_total", of="a")] == ({"trace_id": "3"}, 1.0)


@pytest.mark.parametrize("timestamp", [math.nan, math.inf])
def test_a_time_that_is_none_is_not_shown(tmp_path: Path, timestamp: float) -> None:
    """OpenMetrics has no place for it."""
    file = exemplar_file(tmp_path)
    file.write("counter", KEY, 8, {"a": "b"}, 1.0, timestamp)
    file.close()
    assert records(tmp_path) == []


def test_an_idle_file_is_not_read_again(tmp_path: Path) -> None:
    """A file in which nothing was written costs a look at its header; a record written then is seen."""
    file = exemplar_file(tmp_path)
    file.write("counter", KEY, 8, {"a": "b"}, 1.0, 1.0)
    reader = ExemplarReader(tmp_path)
    found = [reader.read([0])[0] for _ in range(4)]
    assert all(again[0] is found[0][0] for again in found)
    file.write("counter", KEY, 8, {"a": "c"}, 1.0, 1.0)
    assert reader.read([0])[0][0].exemplar.labels == (("a", "c"),)
    file.close()


# What is cleared


def test_the_files_of_a_dead_instance_are_cleared(start: Callable[[], Process], tmp_path: Path) -> None:
    """An exemplar file goes with its slot's metric files; not that of a living process, nor what is none."""
    dead, alive = start(), start()
    for process in (dead, alive):
        process.children["a"].inc(exemplar={"trace_id": "1"})
    dead.close()
    (tmp_path / "exemplars_s5.bin").write_bytes(b"of somebody else")
    (tmp_path / "exemplars_s6.bin").symlink_to(tmp_path / "exemplars_s1.bin")
    (tmp_path / "exemplars_x.bin").write_bytes(b"AUTHLYX1")
    deleted = clear(tmp_path)
    assert "exemplars_s0.bin" in deleted
    assert {path.name for path in tmp_path.glob("*.bin")} == {
        "exemplars_s1.bin",
        "exemplars_s5.bin",
        "exemplars_s6.bin",
        "exemplars_x.bin",
    }
