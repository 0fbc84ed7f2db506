"""Series that nobody updates any more disappear, from the exposition and at a safe moment from disk."""

from pathlib import Path

from authly.monitoring.multiprocess import retention
from authly.monitoring.multiprocess.collector import DirectoryCollector
from tests.unit.monitoring.multiprocess.support import Console, read

PRELUDE = """
from pathlib import Path
from authly.monitoring.multiprocess import values
store = values.install(Path({directory!r}))
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
registry = CollectorRegistry()
counter = Counter('c', 'Help.', ['x'], registry=registry)
histogram = Histogram('h', 'Help.', ['x'], buckets=[1], registry=registry)
everywhere = Gauge('g', 'Help.', ['x'], registry=registry)
"""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def shown(collector: DirectoryCollector, clock: Clock, seconds: float = 0.0) -> set[tuple[str, str]]:
    """Let time go by and return the names and labels ``x`` of all samples that are shown then."""
    clock.now += seconds
    return {
        (sample.name, dict(sample.labels)["x"])
        for family in collector.collect().families
        for sample in family.samples
        if "x" in dict(sample.labels)
    }


def writer(directory: Path) -> Console:
    """Start a process that keeps its metrics in a directory."""
    return Console(PRELUDE.format(directory=str(directory)))


def test_a_series_that_nobody_updates_disappears_and_comes_back(tmp_path: Path) -> None:
    """Each series lives on with each update, and one that was left out comes back with all it ever counted."""
    clock = Clock()
    collector = DirectoryCollector(tmp_path, clock, ttl=60.0)
    with writer(tmp_path) as process:
        process.run("counter.labels('old').inc(5); counter.labels('new').inc()")
        both = {("c_total", "old"), ("c_total", "new")}
        assert shown(collector, clock) == both
        assert shown(collector, clock, 50) == both
        process.run("counter.labels('new').inc()")
        assert shown(collector, clock) == both
        assert shown(collector, clock, 20) == {("c_total", "new")}
        process.run("counter.labels('old').inc(2)")
        assert shown(collector, clock) == both
        families = {family.name: family for family in collector.collect().families}
        assert [sample.value for sample in families["c"].samples] == [2.0, 7.0]
    collector.close()


def test_new_series_do_not_make_their_siblings_young_again(tmp_path: Path) -> None:
    """A series expires when it is its turn, whatever other series of its family appear meanwhile."""
    clock = Clock()
    collector = DirectoryCollector(tmp_path, clock, ttl=60.0)
    with writer(tmp_path) as process:
        process.run("counter.labels('0').inc(); histogram.labels('0').observe(1); everywhere.labels('0').set(1)")
        shown(collector, clock)
        for number in range(1, 4):
            clock.now += 30
            process.run(
                f"counter.labels('{number}').inc(); histogram.labels('{number}').observe(1); "
                f"everywhere.labels('{number}').set(1)"
            )
            shown(collector, clock)
        assert {x for _, x in shown(collector, clock)} == {"1", "2", "3"}
    collector.close()


def test_without_a_ttl_everything_stays(tmp_path: Path) -> None:
    """By default nothing expires."""
    clock = Clock()
    collector = DirectoryCollector(tmp_path, clock)
    with writer(tmp_path) as process:
        process.run("counter.labels('a').inc()")
        shown(collector, clock)
        assert shown(collector, clock, 1e9) == {("c_total", "a")}
    assert not (tmp_path / retention.FILE_NAME).exists()
    collector.close()


def test_the_next_holder_of_a_slot_drops_what_has_expired(tmp_path: Path) -> None:
    """What has expired leaves the file when its slot changes hands; everything else stays to the last bit."""
    clock = Clock()
    collector = DirectoryCollector(tmp_path, clock, ttl=60.0)
    with writer(tmp_path) as process:
        process.run("counter.labels('old').inc(5); histogram.labels('old').observe(1); counter.labels('new').inc(0.1)")
        shown(collector, clock)
        clock.now += 50
        process.run("counter.labels('new').inc(0.2)")
        shown(collector, clock)
        assert shown(collector, clock, 20) == {("c_total", "new")}
        process.kill()
    with writer(tmp_path) as process:
        process.run("counter.labels('new').inc(0.3); histogram.labels('new').observe(1)")
        entries = [key for file in read(tmp_path).files for key, _, _ in file.entries]
        assert not [key for key in entries if b"old" in key]
        assert ("c_total", "new") in shown(collector, clock)
        values = {family.name: family.samples for family in collector.collect().families}
        assert [sample.value for sample in values["c"]] == [0.1 + 0.2 + 0.3]
        process.run("counter.labels('old').inc()")
        values = {family.name: family.samples for family in collector.collect().families}
        assert [sample.value for sample in values["c"]] == [0.1 + 0.2 + 0.3, 1.0]
    collector.close()


def test_a_removed_series_leaves_the_file_with_its_holder(tmp_path: Path) -> None:
    """What was removed in a process is gone from disk once the next one has taken over its slot."""
    with writer(tmp_path) as process:
        process.run("counter.labels('a').inc(); counter.labels('b').inc(); counter.remove('a')")
        process.kill()
    with writer(tmp_path) as process:
        process.run("counter.labels('b').inc()")
        entries = [(key, value) for file in read(tmp_path).files for key, value, _ in file.entries if b'"x"' in key]
    assert [(b'"a"' in key, value) for key, value in entries] == [(False, 2.0)]


def test_a_note_that_cannot_be_read_drops_nothing(tmp_path: Path) -> None:
    """Rubbish in the place of the note is no reason to lose anything."""
    for rubbish in (b"", b"{", b"[]", b'{"counter": 1}', b'{"counter": [1]}', bytes(100)):
        (tmp_path / retention.FILE_NAME).write_bytes(rubbish)
        assert not any(b"c_total" in key for keys in retention.read(tmp_path).values() for key in keys)
        with writer(tmp_path) as process:
            process.run("counter.labels('a').inc()")
    counted = [value for file in read(tmp_path).files for key, value, _ in file.entries if b"c_total" in key]
    assert counted == [6.0]
