"""The reader: one bad file is left out, counted by its reason, and costs nothing else."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.multiprocess import exposition, lease
from authly.monitoring.multiprocess.lease import Lease
from authly.monitoring.multiprocess.reader import SKIP_REASONS
from tests.requirements import require
from tests.unit.monitoring.multiprocess.support import Console, Entry, Snapshot, aggregate, key, metric_file, read

GOOD: list[Entry] = [(key("good", "good_total", {"n": str(n)}), n + 0.5, 0.0) for n in range(3)]
VICTIM: list[Entry] = [
    (key("v", "v_total", {"route": "/a"}, "Help of the victim."), 3.25, 0.0),
    (key("v", "v_total", {"route": "/längér"}), 4.5, 1.75e9),
    (key("w", "w_total"), 1e300, 0.0),
]
SANE = metric_file(VICTIM, unused=40)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """Return a directory with two good files, between whose names that of the victim stands."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "counter_s0.db").write_bytes(metric_file(GOOD))
        (directory / "counter_s2.db").write_bytes(metric_file(GOOD))
        yield directory


def entries_of(snapshot: Snapshot) -> dict[str, list[Entry]]:
    """Return what was read, by writer."""
    return {
        file.name.writer: [(text.decode(), value, time) for text, value, time in file.entries]
        for file in snapshot.files
    }


def skipped(**reasons: int) -> dict[str, int]:
    """Return what a snapshot counts when only these files were left out."""
    return {**dict.fromkeys(SKIP_REASONS, 0), **reasons}


def read_with_victim(directory: Path, content: bytes) -> tuple[list[Entry] | None, dict[str, int]]:
    """Read the directory with a file of any content; return that file's entries, or None where it was left out.

    The other files must come out exact, and what was read must be presentable.
    """
    (directory / "counter_s1.db").write_bytes(content)
    snapshot = read(directory)
    found = entries_of_any(snapshot)
    assert found.pop("s0") == found.pop("s2") == [(text.encode(), *numbers) for text, *numbers in GOOD]
    victim = found.pop("s1", None)
    assert not found
    assert sum(snapshot.skipped.values()) == (victim is None)
    result = aggregate(snapshot.files)
    for openmetrics in (False, True):
        text = exposition.render(result.families, openmetrics=openmetrics).decode()
        for n in range(3):
            assert f'good_total{{n="{n}"}} {2 * n + 1.0}\n' in text
    if victim is None:
        return None, snapshot.skipped
    return [(text.decode(errors="replace"), value, time) for text, value, time in victim], snapshot.skipped


def entries_of_any(snapshot: Snapshot) -> dict[str, list[tuple[bytes, float, float]]]:
    """Return what was read, by writer, with keys that need not be text."""
    return {file.name.writer: file.entries for file in snapshot.files}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Files of both kinds of writers are read in the order of their names, with all their entries and sizes."""
    names = ["counter_4711.db", "counter_s0.db", "gauge_max_s3.db", "histogram_s0.db", "summary_host-1.db"]
    for name in reversed(names):
        (tmp_path / name).write_bytes(SANE)
    for name in ("README", "counter.db", "gauge_median_1.db", "s0.lock", "instance.lock", "counter_s0.corrupt"):
        (tmp_path / name).write_text("not a metric file")
    snapshot = read(tmp_path)
    assert [file.name[:4] for file in snapshot.files] == [
        ("counter", "", "4711", None),
        ("counter", "", "s0", 0),
        ("gauge", "max", "s3", 3),
        ("histogram", "", "s0", 0),
        ("summary", "", "host-1", None),
    ]
    for file in snapshot.files:
        assert file.entries == [(text.encode(), value, time) for text, value, time in VICTIM]
        assert file.size == len(SANE)
    assert snapshot.skipped == skipped()


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """No directory is not the same as no metrics."""
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", bytes(8), bytes(1 << 14), metric_file([]), metric_file([], unused=1000)])
def test_a_file_that_nobody_has_written_to_yet_is_empty(tmp_path: Path, content: bytes) -> None:
    """Between creating a file and writing to it a process may be interrupted for long; nothing is wrong with it."""
    (tmp_path / "counter_s0.db").write_bytes(content)
    snapshot = read(tmp_path)
    assert entries_of(snapshot) == {"s0": []}
    assert snapshot.skipped == skipped()


@pytest.mark.parametrize("length", range(len(SANE) + 1))
def test_a_file_truncated_at_any_byte_is_left_out(shared: Path, length: int) -> None:
    """What remains of a file is not half counted: it is whole, or empty, or left out."""
    entries, counted = read_with_victim(shared, SANE[:length])
    if length >= len(SANE) - 40:
        assert entries == VICTIM
    elif length == 0:
        assert entries == []
    else:
        assert entries is None
        assert counted == skipped(corrupt=1)


def test_a_flipped_bit_harms_no_other_file(shared: Path) -> None:
    """Whatever a flipped bit does to a file, other files' values are exact; each bit is tried."""
    for bit in range(8 * len(SANE)):
        content = bytearray(SANE)
        content[bit // 8] ^= 1 << bit % 8
        entries, counted = read_with_victim(shared, bytes(content))
        assert entries is not None or counted == skipped(corrupt=1), bit


@given(content=st.binary(max_size=400))
def test_any_bytes_harm_no_other_file(shared: Path, content: bytes) -> None:
    """A file of any content is read or left out; nothing else happens."""
    read_with_victim(shared, content)


@given(
    used=st.integers(-(2**31), 2**31 - 1) | st.integers(0, len(SANE) + 16),
    lengths=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-8, 64), min_size=1, max_size=4),
    filling=st.binary(max_size=200),
)
def test_wrong_lengths_harm_no_other_file(shared: Path, used: int, lengths: list[int], filling: bytes) -> None:
    """Neither a wrong number of used bytes nor a wrong length of a key makes the reader leave the file's bytes."""
    body = b"".join(struct.pack("i", length) + filling[:28].ljust(28, b" ") for length in lengths)
    entries, counted = read_with_victim(shared, struct.pack("ii", used, 0) + body + filling)
    if used < 0 or used > 8 + len(body) + len(filling) or used % 8:
        assert entries is None
        assert counted == skipped(corrupt=1)


@pytest.mark.parametrize(
    "used", [-(2**31), -8, -1, 1, 7, 9, 12, len(SANE) - 39, len(SANE) + 8 - len(SANE) % 8, 2**30, 2**31 - 1]
)
def test_a_wrong_number_of_used_bytes_is_corrupt(shared: Path, used: int) -> None:
    """A header that cannot be true makes the file corrupt, however large the number is."""
    assert read_with_victim(shared, struct.pack("i", used) + SANE[4:]) == (None, skipped(corrupt=1))


@pytest.mark.parametrize("more", range(1, 8))
def test_a_file_used_to_an_odd_end_is_corrupt(shared: Path, more: int) -> None:
    """Entries end at multiples of 8; what claims otherwise is not read beyond its end."""
    content = metric_file(VICTIM)
    content = struct.pack("i", len(content) + more) + content[4:] + b"\1" * more
    assert read_with_victim(shared, content) == (None, skipped(corrupt=1))


def test_a_file_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    """A sparse file of terabytes costs no memory."""
    with (tmp_path / "counter_s0.db").open("wb") as file:
        file.truncate(1 << 42)
    assert read(tmp_path) == ([], skipped(corrupt=1))


def make_socket(path: Path) -> None:
    """Make a socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "link", "dangling link", "loop"])
def test_what_is_not_a_file_is_left_out(tmp_path: Path, kind: str) -> None:
    """Something else with a metric file's name is neither waited for nor followed, and is counted."""
    path = tmp_path / "counter_s1.db"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(metric_file(GOOD))
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            make_socket(path)
        case "link":
            path.symlink_to(elsewhere)
        case "dangling link":
            path.symlink_to("nowhere")
        case _:
            path.symlink_to(path)
    (tmp_path / "counter_s2.db").write_bytes(metric_file(GOOD))
    snapshot = read(tmp_path)
    assert entries_of(snapshot) == {"s2": GOOD}
    assert snapshot.skipped == skipped(not_a_file=1)


def test_a_file_that_may_not_be_read_is_left_out(tmp_path: Path) -> None:
    """A foreign writer's file with other permissions is counted as unreadable."""
    require("root", os.geteuid() == 0, "only root can make files of two users")
    for name in ("counter_s0.db", "counter_s1.db"):
        (tmp_path / name).write_bytes(metric_file(GOOD))
    (tmp_path / "counter_s0.db").chmod(0o600)
    (tmp_path / "counter_s1.db").chmod(0o644)
    tmp_path.chmod(0o755)
    with Console(
        "import os; from pathlib import Path; from tests.unit.monitoring.multiprocess.support import read\n"
        f"os.chdir({str(tmp_path)!r}); os.setuid(65534)"
    ) as nobody:
        found = nobody.run("s = read(Path()); answer = [[f.name.writer for f in s.files], s.skipped]")
    assert found == [["s1"], skipped(unreadable=1)]


def test_every_left_out_file_is_counted(tmp_path: Path) -> None:
    """Several bad files are counted each, by reason."""
    for number in range(3):
        (tmp_path / f"counter_s{number}.db").write_bytes(b"rubbish")
    for number in range(2):
        (tmp_path / f"histogram_s{number}.db").mkdir()
    (tmp_path / "summary_s0.db").write_bytes(metric_file(GOOD))
    snapshot = read(tmp_path)
    assert entries_of(snapshot) == {"s0": GOOD}
    assert snapshot.skipped == skipped(corrupt=3, not_a_file=2)


def test_a_file_that_vanishes_after_the_listing_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next holder of a slot deletes the last one's live gauges at any moment; that is not counted."""
    (tmp_path / "counter_s0.db").write_bytes(metric_file(GOOD))
    monkeypatch.setattr(os, "listdir", lambda _: ["counter_s1.db", "counter_s0.db", "gauge_livesum_77.db"])
    snapshot = read(tmp_path)
    assert entries_of(snapshot) == {"s0": GOOD}
    assert snapshot.skipped == skipped()


def test_files_that_come_and_go_meanwhile(tmp_path: Path) -> None:
    """While files are created, replaced, cut short and deleted, the reader neither raises nor misreads others."""
    (tmp_path / "counter_s0.db").write_bytes(metric_file(GOOD))
    stop = threading.Event()
    rounds = [0]

    def disturb() -> None:
        victim = tmp_path / "counter_s1.db"
        while not stop.is_set():
            victim.write_bytes(SANE)
            os.truncate(victim, 20)
            victim.unlink()
            rounds[0] += 1

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        while rounds[0] < 300:
            found = entries_of(read(tmp_path))
            assert found.pop("s0") == GOOD
            assert found in ({}, {"s1": []}, {"s1": VICTIM})
            if not thread.is_alive():
                break
    finally:
        stop.set()
        thread.join()
    assert rounds[0] >= 300


def test_live_gauges_count_while_their_slot_is_held(tmp_path: Path) -> None:
    """Live gauges of a slot that nobody holds are left out, uncounted; those of a held one, and foreign ones, count."""
    held = Lease.acquire(tmp_path)
    Lease.acquire(tmp_path).close()
    for writer in ("s0", "s1", "s2", "4711"):
        for prefix in ("gauge_livesum", "gauge_liveall", "gauge_sum", "counter"):
            (tmp_path / f"{prefix}_{writer}.db").write_bytes(metric_file(GOOD))

    def found() -> set[str]:
        snapshot = read(tmp_path)
        assert snapshot.skipped == skipped()
        return {f"{file.name.mode or file.name.type}_{file.name.writer}" for file in snapshot.files}

    always = {f"{prefix}_{writer}" for prefix in ("sum", "counter") for writer in ("s0", "s1", "s2", "4711")}
    foreign = {"livesum_4711", "liveall_4711"}
    assert found() == always | foreign | {"livesum_s0", "liveall_s0"}
    held.close()
    assert found() == always | foreign


def test_a_killed_process_is_noticed(tmp_path: Path) -> None:
    """The live gauges of a process are gone from the next reading on after its SIGKILL."""
    (tmp_path / "gauge_livesum_s0.db").write_bytes(metric_file(GOOD))
    with Console("from pathlib import Path\nfrom authly.monitoring.multiprocess.lease import Lease") as process:
        process.run(f"held = Lease.acquire(Path({str(tmp_path)!r}))")
        assert entries_of(read(tmp_path)) == {"s0": GOOD}
        process.kill()
    assert entries_of(read(tmp_path)) == {}


def test_a_lock_file_that_cannot_be_asked_hides_nothing(tmp_path: Path) -> None:
    """Where it is not known whether a process lives, its values are shown."""
    (tmp_path / "gauge_livesum_s0.db").write_bytes(metric_file(GOOD))
    lease.lock_path(tmp_path, 0).symlink_to("nowhere")
    assert entries_of(read(tmp_path)) == {"s0": GOOD}


def test_no_descriptor_is_left_over(tmp_path: Path) -> None:
    """Reading files of every kind leaves no descriptor open."""
    (tmp_path / "counter_s0.db").write_bytes(SANE)
    (tmp_path / "counter_s1.db").write_bytes(b"rubbish")
    (tmp_path / "counter_s2.db").mkdir()
    (tmp_path / "gauge_livesum_s3.db").write_bytes(SANE)
    (tmp_path / "s3.lock").touch()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
