"""The read side on directories that something has gone wrong with: many thousands of them, at random but repeatable.

Each directory has a few intact files, whose values must come out exact, and some that were damaged. Whatever the damage
is, a collection raises nothing, does not hang, counts each file that it leaves out, and gives expositions that
prometheus-client's parsers accept. AUTHLY_TEST_SEED repeats a run; the seed of one that failed is in its message.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess import exposition
from authly.monitoring.multiprocess.collector import Collection, DirectoryCollector
from authly.monitoring.multiprocess.reader import SKIP_REASONS
from tests.unit.monitoring.multiprocess.support import Entry, key, metric_file

SEED = os.environ.get("AUTHLY_TEST_SEED", "authly")
PARTS = 4
# Of each part: 10,400 directories in all, and some thousand more in the other tests.
FRESH = 1400
CHANGES = 1200
# Expositions that were found to be right: many directories give the same.
ACCEPTED: set[tuple[bytes, bytes]] = set()
WATCHDOG = 5.0  # seconds for one collection
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def histogram(name: str, counts: dict[str, float], total: float) -> list[Entry]:
    """Return the entries of a histogram; each bucket has what it got for itself."""
    buckets = [(key(name, f"{name}_bucket", {"le": le}), count, 0.0) for le, count in counts.items()]
    return [(key(name, f"{name}_sum"), total, 0.0), *buckets]


GOOD = {
    "counter_s0.db": metric_file([(key("good", "good_total", {"n": str(n)}), n + 0.5, 1.75e9) for n in range(2)]),
    "counter_4711.db": metric_file([(key("good", "good_total", {"n": "1"}), 8.0, 0.0)], unused=64),
    "gauge_sum_s1.db": metric_file([(key("level"), -2.5, 1.0)]),
    "histogram_s7.db": metric_file(histogram("took", {"1.0": 2.0, "+Inf": 3.0}, 9.25)),
}
EXPECTED: Series = {
    ("good_total", (("n", "0"),)): 0.5,
    ("good_total", (("n", "1"),)): 9.5,
    ("level", ()): -2.5,
    ("took_bucket", (("le", "1.0"),)): 2.0,
    ("took_bucket", (("le", "+Inf"),)): 5.0,
    ("took_count", ()): 5.0,
    ("took_sum", ()): 9.25,
}
VICTIMS: dict[str, list[Entry]] = {
    "counter_3.db": [
        (key("victim", "victim_total", {"route": "/längér"}, "Help of the victim."), 3.25, 0.0),
        (key("victim", "victim_total", {"route": "/a"}), 4.5, 1.75e9),
        (key("other", "other_total"), 1e300, 0.0),
    ],
    "counter_s3.db": [(key("victim", "victim_total", {"route": "/a"}), 1.0, 1.7e9)],
    "gauge_all_s3.db": [(key("every", labels={"x": "1"}), 1.0, 0.0), (key("every", labels={"x": "2"}), 7.0, 1.0)],
    "gauge_livemax_77.db": [(key("most"), 5.0, 0.0)],
    "gauge_min_s4.db": [(key("least"), 5.0, 0.0), (key("least", labels={"a": "b"}), 5.0, 1.0)],
    "gauge_mostrecent_s4.db": [(key("last"), 5.0, 1.75e9)],
    "histogram_s3.db": histogram("damaged", {"0.5": 1.0, "2.0": 2.0, "+Inf": 4.0}, 11.0),
    "summary_s3.db": [(key("s", "s_count"), 4.0, 0.0), (key("s", "s_sum"), 4.5, 0.0)],
}
ODD_INTEGERS = [-(2**31), -8, -1, 0, 1, 4, 7, 8, 9, 12, 16, 100, 1 << 14, 1 << 16, 1 << 24, 2**30, 2**31 - 8, 2**31 - 1]
ODD_BYTES = [
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\0",
    b'"',
    b"\\",
    b"{",
    b"[",
    b"]",
    b",",
    b"\\ud800",
    b"NaN",
    b"1e999",
]
ODD_KEYS = [
    "[" * 3000,
    "{" * 50,
    "null",
    "[]",
    "{}",
    "7",
    '"text"',
    '["victim"]',
    '["victim", "victim_total", null, "Help."]',
    '["victim", "victim_total", [], "Help."]',
    '["victim", "victim_total", {"a": 1}, "Help."]',
    '["victim", "victim_total", {"a": {}}, "Help."]',
    '["victim", "victim_total", {}, null]',
    '["", "", {}, ""]',
    "[1, 2, 3, 4]",
    '["victim", "victim_total", {"a": "\\ud800"}, "\\udfff"]',
    '["damaged", "damaged_bucket", {"le": "nan"}, "Help."]',
    '["damaged", "damaged_bucket", {"le": "wide"}, "Help."]',
    '["damaged", "damaged_bucket", {}, "Help."]',
    '["good", "good", {}, "Of another type."]',
    '["victim", "victim_total", {"a": "1", "a": "2"}, "Help."]',
    "1" * 5000,
    " ",
]


def damaged(generator: random.Random, entries: list[Entry]) -> bytes:
    """Return a metric file with one kind of damage."""
    content = bytearray(metric_file(entries, unused=generator.choice([0, 0, 8, 40])))
    used: int = struct.unpack_from("i", content)[0]
    match generator.randrange(10):
        case 0 | 1:
            for _ in range(generator.choice([1, 1, 1, 2, 8, 64])):
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        case 2:
            del content[generator.randrange(len(content) + 1) :]
        case 3:
            # A wrong length, at the beginning of an entry or anywhere else.
            place = generator.choice([8, 8, 4 * generator.randrange(len(content) // 4)])
            struct.pack_into("i", content, place, generator.choice(ODD_INTEGERS))
        case 4:
            struct.pack_into("i", content, 0, generator.choice([*ODD_INTEGERS, used + 8, used - 8, used + 1]))
        case 5:
            odd = generator.choice(ODD_BYTES)
            place = generator.randrange(12, used - len(odd))
            content[place : place + len(odd)] = odd
        case 6:
            return generator.choice([b"", b"\0", bytes(8), bytes(1 << 14), b"\x08\0\0\0", b"\x08" + bytes(7)])
        case 7:
            return generator.randbytes(generator.randrange(200))
        case 8:
            some = [(generator.choice(ODD_KEYS), 1.0, 0.0) for _ in range(generator.randrange(1, 4))]
            content = bytearray(metric_file([*entries[:1], *some, *entries[1:]]))
        case _:
            # Intact, but with something of another file's behind it, or twice the same.
            content = bytearray(metric_file([*entries, *entries[: generator.randrange(2)]])) + generator.randbytes(24)
    return bytes(content)


def make_special(generator: random.Random, path: Path, elsewhere: Path) -> None:
    """Make something that is not a regular file."""
    match generator.randrange(6):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case 3:
            path.symlink_to(elsewhere)
        case 4:
            path.symlink_to("nowhere")
        case _:
            path.symlink_to(path)


def make_dense(generator: random.Random, metric_path: Path, elsewhere: Path) -> Path | None:
    """Make a dense file that does not belong to a metric file of that name, or one too short, or something else."""
    if not dense_name(metric_path.name):
        return None
    path = metric_path.with_suffix(".dense")
    remove(path)
    inode = metric_path.lstat().st_ino
    match generator.randrange(6):
        case 0:
            make_special(generator, path, elsewhere)
        case 1:
            path.write_bytes(generator.randbytes(generator.randrange(200)))
        case 2:
            path.write_bytes(b"AUTHLYD1" + struct.pack("Q", inode ^ 1 << generator.randrange(64)) + bytes(800))
        case 3:
            path.write_bytes(b"AUTHLYD1" + struct.pack("Q", inode)[: generator.randrange(9)])
        case 4:
            path.write_bytes(bytes(generator.choice([0, 8, 16, 4096])))
        case _:
            path.symlink_to("nowhere")
    return path


def dense_name(metric_name: str) -> str | None:
    """Return the name of the dense file of a slot's metric file."""
    return metric_name.removesuffix(".db") + ".dense" if "_s" in metric_name else None


def is_special(path: Path) -> bool:
    """Tell whether something is there that is not a regular file."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def remove(path: Path) -> None:
    """Remove whatever is there."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """Raise out of whatever takes too long."""

    def bark(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the collection hangs in {frame}")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def collect(collector: DirectoryCollector) -> Collection:
    """Collect, in time, and check what holds in any case."""
    with watchdog():
        collection = collector.collect()
    check_expositions(collection)
    assert tuple(collection.reading.skipped) == SKIP_REASONS
    return collection


def check_expositions(collection: Collection) -> None:
    """Both expositions are accepted by prometheus-client's parsers, agree, and have the intact files' values."""
    rendered = exposition.render(collection.families, openmetrics=False)
    both = rendered, exposition.render(collection.families, openmetrics=True)
    if both in ACCEPTED:
        return
    text = series(text_string_to_metric_families(rendered.decode()))
    assert text.items() >= EXPECTED.items()
    strict: Any = openmetrics_parser.text_string_to_metric_families
    # A number may be damaged without a trace, so that no counter could have it, or an entry that belongs to others may
    # be gone. The rest is shown as it is; the strict parser alone takes offence at it.
    possible = [family for family in collection.families if is_possible(family.type, family.samples)]
    assert {"good", "level", "took"} <= {family.name for family in possible}
    found = series(strict(exposition.render(possible, openmetrics=True).decode()))
    assert found.items() >= EXPECTED.items()
    ACCEPTED.add(both)


def is_possible(type_: str, samples: list[Any]) -> bool:
    """Tell whether a family has numbers that its type can have."""
    if type_ == "gauge":
        return True
    if not all(sample.value >= 0 for sample in samples):
        return False
    if not all(sample.value.is_integer() for sample in samples if sample.name.endswith(("_bucket", "_count"))):
        return False
    if type_ != "histogram":
        return True
    counts, sums, widest = set(), set(), set()
    for sample in samples:
        labels = tuple(pair for pair in sample.labels if pair[0] != "le")
        if sample.name.endswith("_count"):
            counts.add(labels)
        elif sample.name.endswith("_sum"):
            sums.add(labels)
        elif ("le", "+Inf") in sample.labels:
            widest.add(labels)
    return counts == sums == widest


def series(metrics: Any) -> Series:
    """Return all samples, none of which may be there twice."""
    found: Series = {}
    for metric in metrics:
        for sample in metric.samples:
            if not sample.name.endswith("_created"):
                name = sample.name, tuple(sorted(sample.labels.items()))
                assert name not in found, f"twice: {name}"
                found[name] = sample.value
    return found


def check_counts(collection: Collection, directory: Path) -> None:
    """Each file of a directory that nobody touches is read, or left out for a reason that is counted."""
    paths = [path for path in directory.iterdir() if path.suffix == ".db"]
    special = sum(is_special(path) for path in paths)
    skipped = collection.reading.skipped
    assert skipped["not_a_file"] == special
    assert skipped["unreadable"] == 0
    assert skipped["corrupt"] == len(paths) - special - len(collection.reading.files)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory with the intact files; no descriptor may be left over at the end."""
    for name, content in GOOD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "elsewhere").write_bytes(metric_file(VICTIMS["counter_3.db"]))
    before = len(os.listdir("/proc/self/fd"))
    yield tmp_path
    assert len(os.listdir("/proc/self/fd")) == before


@contextlib.contextmanager
def seeded(name: str) -> Iterator[random.Random]:
    """Hand out a generator; say how to repeat what failed with it."""
    try:
        yield random.Random(f"{SEED} {name}")
    except BaseException as error:
        error.add_note(f"AUTHLY_TEST_SEED={SEED}, part {name}")
        raise


@pytest.mark.parametrize("part", range(PARTS))
def test_any_damage_costs_the_damaged_files_alone(directory: Path, part: int) -> None:
    """A collector that sees a directory for the first time gives the intact files' values, whatever the others are."""
    with seeded(f"fresh {part}") as generator:
        for number in range(FRESH):
            names = generator.sample(list(VICTIMS), generator.choice([1, 1, 2, 3]))
            for name in names:
                if generator.random() < 0.15:
                    make_special(generator, directory / name, directory / "elsewhere")
                else:
                    (directory / name).write_bytes(damaged(generator, VICTIMS[name]))
            beside = generator.sample([*names, *GOOD], generator.randrange(3))
            dense = [make_dense(generator, directory / name, directory / "elsewhere") for name in beside]
            collector = DirectoryCollector(directory, time.monotonic)
            try:
                collection = collect(collector)
                check_counts(collection, directory)
            except BaseException as error:
                error.add_note(f"directory {number}: {contents(directory, names)}")
                raise
            finally:
                collector.close()
            for name in names:
                remove(directory / name)
            for path in filter(None, dense):
                remove(path)


def contents(directory: Path, names: list[str]) -> str:
    """Return what damaged files hold, for a message."""
    return json.dumps({n: repr((directory / n).read_bytes()) for n in names if not is_special(directory / n)})


def disturb(generator: random.Random, path: Path, elsewhere: Path) -> None:
    """Change one file as something that goes wrong would: in place, or by another file of the same name."""
    entries = VICTIMS[path.name]
    content = damaged(generator, entries) if generator.random() < 0.6 else metric_file(entries, unused=64)
    in_place = path.exists() and not is_special(path)
    match generator.randrange(8):
        case 0:
            remove(path)
        case 1:
            remove(path)
            make_special(generator, path, elsewhere)
        case 2 if in_place:
            os.truncate(path, generator.randrange(path.stat().st_size + 1))
        case 3 if in_place:
            # It grows: by what belongs there, or by zeros.
            if generator.random() < 0.5:
                os.truncate(path, path.stat().st_size + generator.choice([1, 8, 4096]))
            else:
                more = (key("more", "more_total", {"n": str(generator.randrange(50))}), 1.0, 0.0)
                with path.open("r+b") as file:
                    file.write(metric_file([*entries, more]))
        case 4 | 5 if in_place:
            with path.open("r+b") as file:
                file.write(content)
        case _:
            replacement = path.with_suffix(".new")
            replacement.write_bytes(content)
            if is_special(path):
                remove(path)
            replacement.replace(path)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_directory_may_change_in_any_way_between_collections(directory: Path, part: int) -> None:
    """A collector that lives on gives the intact files' values, and is right again once the files are."""
    collector = DirectoryCollector(directory, time.monotonic)
    with seeded(f"changing {part}") as generator, contextlib.closing(collector):
        history: list[str] = []
        for number in range(CHANGES):
            name = generator.choice(list(VICTIMS))
            state = generator.getstate()
            disturb(generator, directory / name, directory / "elsewhere")
            if generator.random() < 0.3:
                make_dense(generator, directory / generator.choice(list(GOOD)), directory / "elsewhere")
            history.append(f"{name} {hash(state)}")
            try:
                check_counts(collect(collector), directory)
            except BaseException as error:
                error.add_note(f"change {number}")
                raise
            if number % 100 == 99:
                heal(directory, collector)


def heal(directory: Path, collector: DirectoryCollector) -> None:
    """Replace all damaged files: a collector that has seen everything must agree with one that has seen nothing."""
    for name, entries in VICTIMS.items():
        remove(directory / name)
        (directory / name).write_bytes(metric_file(entries))
    healed = collect(collector)
    assert not any(healed.reading.skipped.values())
    assert healed.conflicts == 0
    fresh = DirectoryCollector(directory, time.monotonic)
    with contextlib.closing(fresh):
        collection = collect(fresh)
        for openmetrics in (False, True):
            expected = exposition.render(collection.families, openmetrics=openmetrics)
            assert exposition.render(healed.families, openmetrics=openmetrics) == expected


@pytest.mark.parametrize("name", VICTIMS)
@pytest.mark.parametrize("in_place", [False, True])
def test_truncation_at_every_byte(directory: Path, name: str, in_place: bool) -> None:
    """However short a file becomes, it is whole, empty or left out, for a new collector and for one that knows it."""
    content = metric_file(VICTIMS[name], unused=16)
    victim = directory / name
    collector = DirectoryCollector(directory, time.monotonic)
    with contextlib.closing(collector):
        for length in range(len(content), -1, -1):
            if in_place and victim.exists():
                os.truncate(victim, length)
            else:
                remove(victim)
                victim.write_bytes(content[:length])
            for used in (collector, fresh := DirectoryCollector(directory, time.monotonic)):
                collection = collect(used)
                check_counts(collection, directory)
            fresh.close()
            left_out = 0 < length < len(content) - 16
            assert collection.reading.skipped["corrupt"] == left_out, length


HOOKS = ["open", "fstat", "pread", "preadv"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_file_changes_in_the_middle_of_its_reading(
    directory: Path, monkeypatch: pytest.MonkeyPatch, hook: str, after: bool, known: bool
) -> None:
    """Files that vanish, are replaced, shrink or grow at any step of a collection cost nobody else anything."""
    pending: list[Callable[[], None]] = []
    original: Callable[..., Any] = getattr(os, hook)

    def happen() -> None:
        if pending:
            pending.pop()()

    def hooked(*arguments: Any, **keywords: Any) -> Any:
        if not after:
            happen()
        try:
            return original(*arguments, **keywords)
        finally:
            if after:
                happen()

    with seeded(f"{hook} {after} {known}") as generator:
        for _ in range(30):
            name = generator.choice(list(VICTIMS))
            victim = directory / name
            remove(victim)
            victim.write_bytes(metric_file(VICTIMS[name], unused=16))
            collector = DirectoryCollector(directory, time.monotonic)
            if known:
                collect(collector)
                # So that it is looked at again, though nothing else changes.
                with victim.open("r+b") as file:
                    file.seek(4)
                    file.write(b"\1\0")
            change = generator.getrandbits(64)
            # At any of the calls: before, at and after the file's own turn.
            pending[:] = [lambda: None] * generator.randrange(8)
            pending.insert(
                0,
                lambda change=change, victim=victim: disturb(  # type: ignore[misc]
                    random.Random(change), victim, directory / "elsewhere"
                ),
            )
            with contextlib.closing(collector):
                with monkeypatch.context() as patched:
                    patched.setattr(os, hook, hooked)
                    collection = collect(collector)
                assert sum(collection.reading.skipped.values()) + len(collection.reading.files) >= len(GOOD)
                assert sum(collection.reading.skipped.values()) <= 1
                pending.clear()
                # Nothing of it is remembered that should not be.
                remove(victim)
                victim.write_bytes(metric_file(VICTIMS[name], unused=16))
                assert not any(collect(collector).reading.skipped.values())
            remove(victim)


def test_a_thread_changes_files_all_the_time(directory: Path) -> None:
    """While another thread damages, deletes, replaces and restores files, every collection has the intact values."""
    stop = threading.Event()
    trouble: list[BaseException] = []

    def run(generator: random.Random) -> None:
        try:
            while not stop.is_set():
                disturb(generator, directory / generator.choice(list(VICTIMS)), directory / "elsewhere")
        except BaseException as error:
            trouble.append(error)

    collector = DirectoryCollector(directory, time.monotonic)
    with seeded("thread") as generator, contextlib.closing(collector):
        thread = threading.Thread(target=run, args=(random.Random(generator.random()),))
        thread.start()
        try:
            for number in range(400):
                collection = collect(collector)
                assert len(collection.reading.files) >= len(GOOD)
                if number % 4 == 0:
                    fresh = DirectoryCollector(directory, time.monotonic)
                    with contextlib.closing(fresh):
                        collect(fresh)
        finally:
            stop.set()
            thread.join()
        assert not trouble
        heal(directory, collector)


def test_a_directory_that_vanishes_and_returns(directory: Path) -> None:
    """Without its directory a collection is an error, not an empty exposition; with it all is there again."""
    collector = DirectoryCollector(directory, time.monotonic)
    with contextlib.closing(collector):
        collect(collector)
        away = directory.with_name("away")
        directory.rename(away)
        with watchdog(), pytest.raises(FileNotFoundError):
            collector.collect()
        shutil.copytree(away, directory)
        check_counts(collect(collector), directory)
        shutil.rmtree(away)
