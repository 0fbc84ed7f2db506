"""Dense files: the numbers of a metric file once more, which readers believe only where they belong to it."""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authly.monitoring.multiprocess import file_format
from authly.monitoring.multiprocess.value_file import INITIAL_SIZE, ValueFile
from tests.unit.monitoring.multiprocess.support import Console, key, metric_file, read

NAME = "counter_s0"


@contextlib.contextmanager
def opened(directory: Path, name: str = NAME, width: int = 1) -> Iterator[ValueFile]:
    """Open a metric file as the holder of its slot does."""
    file = ValueFile(directory / f"{name}.db", lambda: 1.75e9, lambda _: None, width)
    try:
        yield file
    finally:
        file.close()


def dense_numbers(directory: Path, name: str = NAME) -> list[float]:
    """Return all numbers of a dense file, and check that it says whose they are."""
    content = (directory / f"{name}.dense").read_bytes()
    assert content[:16] == b"AUTHLYD1" + struct.pack("Q", (directory / f"{name}.db").stat().st_ino)
    return list(struct.unpack(f"{len(content) // 8 - 2}d", content[16:]))


def values(directory: Path) -> list[float]:
    """Return the values that a reader finds, in the order of the files and their entries."""
    return [value for file in read(directory).files for _, value, _ in file.entries]


def add(file: ValueFile, name: bytes, amount: float) -> None:
    """Add to a value as the value class does."""
    cells, index, dense, dense_index = file.place(name)
    cells[index] += amount
    dense[dense_index] = cells[index]


def test_it_has_each_number_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Numbers follow each other as the entries do, also where both files grow, and 0 is where nothing is."""
    count = INITIAL_SIZE // 20
    with opened(tmp_path) as file:
        for number in range(count):
            add(file, key("c", "c_total", {"n": str(number)}).encode(), number + 0.5)
        found = dense_numbers(tmp_path)
    assert found[:count] == [number + 0.5 for number in range(count)]
    assert set(found[count:]) == {0.0}
    assert values(tmp_path) == found[:count]


def test_timestamps_are_beside_the_values_where_they_choose(tmp_path: Path) -> None:
    """Gauges of which one value is chosen have their timestamps in the dense file too."""
    code = (
        "import pathlib; from authly.monitoring.multiprocess import values\n"
        f"values.install(pathlib.Path({str(tmp_path)!r}))\n"
        "from prometheus_client import Gauge, CollectorRegistry; r = CollectorRegistry()\n"
        "for mode in ('max', 'livemostrecent', 'sum', 'all'):\n"
        "    Gauge(f'g_{mode}', 'Help.', multiprocess_mode=mode, registry=r).set(7)\n"
    )
    with Console(code) as process:
        process.run("answer = None")
        assert dense_numbers(tmp_path, "gauge_max_s0")[:2] == [7.0, 1.0]
        value, stamp = dense_numbers(tmp_path, "gauge_livemostrecent_s0")[:2]
        assert value == 7.0
        assert stamp > 1.7e9
        assert dense_numbers(tmp_path, "gauge_sum_s0")[:2] == [7.0, 0.0]
        assert dense_numbers(tmp_path, "gauge_all_s0")[:2] == [7.0, 0.0]


def test_a_removed_series_is_0_there_too(tmp_path: Path) -> None:
    """Removing a series and beginning it anew is seen in both files."""
    name = key("c", "c_total").encode()
    with opened(tmp_path) as file:
        add(file, name, 5.0)
        file.remove(name)
        assert dense_numbers(tmp_path)[0] == 0.0
        add(file, name, 2.0)
        assert dense_numbers(tmp_path)[0] == 2.0


def test_the_next_holder_makes_it_anew_from_the_metric_file(tmp_path: Path) -> None:
    """What a process that was killed between its two stores left behind is in line at the next opening."""
    path = tmp_path / f"{NAME}.db"
    name = key("c", "c_total").encode()
    with opened(tmp_path) as file:
        add(file, name, 5.0)
    (_, position) = next(file_format.iterate_entries(content := path.read_bytes(), len(content)))
    with path.open("r+b") as written:
        written.seek(position)
        written.write(struct.pack("d", 6.0))
    # Until then a reader has the number that was told to somebody.
    assert values(tmp_path) == [5.0]
    with opened(tmp_path) as file:
        assert values(tmp_path) == [6.0]
        add(file, name, 1.0)
    assert values(tmp_path) == [7.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{NAME}.db", f"{NAME}.dense"]


def _of_another_file(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8] + struct.pack("Q", 1) + content[16:])


def _without_magic(path: Path) -> None:
    path.write_bytes(b"AUTHLYD0" + path.read_bytes()[8:])


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        _of_another_file,
        _without_magic,
        _directory,
        _fifo,
        _link,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:23]),
    ],
)
def test_readers_do_without_one_that_is_not_the_files_own(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """One that is missing, cut short, another file's or no file costs no value and counts as no file left out."""
    with opened(tmp_path) as file:
        for number in range(3):
            add(file, key("c", "c_total", {"n": str(number)}).encode(), number + 0.5)
    dense = tmp_path / f"{NAME}.dense"
    os.truncate(dense, 16 + 3 * 8)
    damage(dense)
    snapshot = read(tmp_path)
    assert [value for file in snapshot.files for _, value, _ in file.entries] == [0.5, 1.5, 2.5]
    assert not any(snapshot.skipped.values())


def test_a_metric_file_of_prometheus_clients_needs_none(tmp_path: Path) -> None:
    """Files that other libraries write have no dense file; one that lies beside them is not looked at."""
    (tmp_path / "counter_4711.db").write_bytes(metric_file([(key("c", "c_total"), 3.0, 0.0)]))
    inode = (tmp_path / "counter_4711.db").stat().st_ino
    (tmp_path / "counter_4711.dense").write_bytes(b"AUTHLYD1" + struct.pack("Qd", inode, 9.0))
    assert values(tmp_path) == [3.0]
