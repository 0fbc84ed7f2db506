"""The directory: whether it can be used, whose it is, and what is cleared from it."""

import io
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prometheus_client.mmap_dict
import pytest

from authly.monitoring.multiprocess import directory as directories
from authly.monitoring.multiprocess.directory import DirectoryInUseError, DirectoryUnusableError
from authly.monitoring.multiprocess.lease import Lease
from tests.requirements import require
from tests.unit.monitoring.multiprocess.support import Console, ConsoleError, fill, key, metric_file, small_disk

PRELUDE = (
    "import os\n"
    "from pathlib import Path\n"
    "from authly.monitoring.multiprocess import directory as directories\n"
    "from authly.monitoring.multiprocess.lease import Lease\n"
)
STOCK_PREFIXES = [
    "counter",
    "histogram",
    "summary",
    *(f"gauge_{live}{mode}" for live in ("", "live") for mode in ("all", "max", "min", "mostrecent", "sum")),
]


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Let modes be what the code asks for, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that can be used."""
    path = tmp_path / "metrics"
    path.mkdir(0o700)
    return path


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return path.stat().st_mode & 0o7777


# check()


def test_a_missing_directory_is_created_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    """What is missing is created with mode 0700 at every level; what was there keeps its mode."""
    tmp_path.chmod(0o755)
    path = tmp_path / "a" / "b" / "metrics"
    assert directories.check(path) == []
    assert [mode(folder) for folder in (tmp_path, path.parent.parent, path.parent, path)] == [0o755] + [0o700] * 3
    assert directories.check(path) == []


def test_a_directory_that_cannot_be_created_is_unusable(tmp_path: Path) -> None:
    """The message names the directory, the reason and the variable that chooses another."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "metrics"
    with pytest.raises(
        DirectoryUnusableError, match=r"cannot be created \(Not a directory\).*PROMETHEUS_MULTIPROC_DIR"
    ):
        directories.check(path)


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    """A file in the place of the directory is reported, and stays."""
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(DirectoryUnusableError, match=f"{path} is not a directory: move that file away"):
        directories.check(path)
    assert path.read_text() == "precious"


def test_a_directory_of_somebody_else_is_unusable(directory: Path) -> None:
    """Who owns the directory could plant metrics in it, or take them away; the message names both users."""
    require("root", os.geteuid() == 0, "only root can give a directory away")
    os.chown(directory, 12345, -1)
    with pytest.raises(DirectoryUnusableError, match=r"belongs to user id 12345, and Authly runs as 0: .*chown"):
        directories.check(directory)


@pytest.mark.parametrize("permissions", [0o777, 0o1777, 0o703, 0o702])
def test_a_directory_that_everybody_may_write_to_is_unusable(directory: Path, permissions: int) -> None:
    """Nobody else may write to the directory, not even where the sticky bit protects files."""
    directory.chmod(permissions)
    with pytest.raises(DirectoryUnusableError, match=rf"\(mode {permissions:04o}\).*run `chmod o-w {directory}`"):
        directories.check(directory)


@pytest.mark.parametrize("permissions", [0o700, 0o755, 0o750, 0o770])
def test_usual_permissions_are_fine(directory: Path, permissions: int) -> None:
    """A directory that others may read, or a group write to, is used without a warning."""
    directory.chmod(permissions)
    assert directories.check(directory) == []


@pytest.mark.parametrize("permissions", [0o000, 0o300, 0o500, 0o600])
def test_a_directory_without_permission_is_unusable(directory: Path, permissions: int) -> None:
    """Its owner must be able to list it, to write to it and to open files in it."""
    if os.geteuid() == 0:
        # Root may do anything anywhere; another user asks, in a process of its own that is there already.
        directory.parent.chmod(0o755)
        os.chown(directory, 65534, 65534)
        directory.chmod(permissions)
        become = f"os.chdir({str(directory.parent)!r}); os.setgid(65534); os.setuid(65534)"
        with Console(PRELUDE + become) as nobody, pytest.raises(ConsoleError) as error:
            nobody.run("directories.check(Path('metrics'))")
        message = str(error.value)
    else:
        directory.chmod(permissions)
        with pytest.raises(DirectoryUnusableError) as unusable:
            directories.check(directory)
        directory.chmod(0o700)
        message = f"DirectoryUnusableError: {unusable.value}"
    assert message.startswith("DirectoryUnusableError: Authly may not read and write the metrics directory ")
    assert f"metrics (mode {permissions:04o}): run `chmod u+rwx " in message


def test_a_read_only_file_system_is_unusable(tmp_path: Path) -> None:
    """Where nothing can be written the message says so, whatever the permissions are."""
    with (
        small_disk(tmp_path / "disk", "size=64k,ro") as disk,
        pytest.raises(DirectoryUnusableError, match="make its file system writable"),
    ):
        directories.check(disk)


def test_little_room_is_a_warning(tmp_path: Path) -> None:
    """A nearly full file system is used, with a warning that says how much is left."""
    with small_disk(tmp_path / "disk") as disk:
        (warning,) = directories.check(disk)
    assert f"{disk} is nearly full (64 KiB and " in warning
    assert "make room, or enlarge its file system" in warning


def test_no_inodes_left_is_a_warning(tmp_path: Path) -> None:
    """Plenty of bytes are of no use where no file can be created."""
    with small_disk(tmp_path / "disk", "size=8m,nr_inodes=2") as disk:
        assert directories.check(disk) == []
        (disk / "last").touch()
        (warning,) = directories.check(disk)
    assert "and 0 files free)" in warning


def fake_mountinfo(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """Let the kernel's list of mounts say what a test wants."""
    original = Path.open

    def fake_open(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if str(path) == "/proc/self/mountinfo":
            return io.StringIO("".join(f"{line}\n" for line in lines))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", fake_open)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_an_unsuitable_file_system_is_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Where processes may not see each other's writes and locks, a warning names the file system."""
    fake_mountinfo(
        monkeypatch,
        ["1 0 8:1 / / rw - ext4 /dev/x rw", f"2 1 0:2 / {directory.parent} rw shared:1 master:2 - {kind} host:/x rw"],
    )
    (warning,) = directories.check(directory)
    assert f"{directory} is on a {kind} file system" in warning
    assert "/run or /dev/shm" in warning


@pytest.mark.parametrize(
    ("mounts", "warned"),
    [
        pytest.param(["/ ext4", "{parent} nfs", "{directory} tmpfs"], False, id="the nearest counts"),
        pytest.param(["/ ext4", "{directory} tmpfs", "{parent} nfs"], False, id="the order of others does not"),
        pytest.param(["/ ext4", "{parent} nfs", "{parent} tmpfs"], False, id="the later covers the earlier"),
        pytest.param(["/ ext4", "{parent} tmpfs", "{parent} nfs"], True, id="the later covers the earlier, again"),
        pytest.param(["/ ext4", "{parent}/met nfs"], False, id="a name that is only a prefix"),
        pytest.param(["/ ext4", "{directory}/below nfs"], False, id="below"),
        pytest.param(["/ nfs"], True, id="the root"),
        pytest.param(["nonsense"], False, id="a list that cannot be understood"),
    ],
)
def test_the_file_system_is_the_one_of_the_nearest_mount(
    directory: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[str], warned: bool
) -> None:
    """Of all mounts the one that covers the directory decides."""
    lines = []
    for mount in mounts:
        point, _, kind = mount.format(parent=directory.parent, directory=directory).partition(" ")
        lines.append(f"1 0 8:1 / {point} rw,relatime shared:1 - {kind} source rw" if kind else point)
    fake_mountinfo(monkeypatch, lines)
    assert bool(directories.check(directory)) is warned


def test_a_mount_point_with_a_space_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel writes a space in a mount point as an octal escape."""
    directory = tmp_path / "two words" / "metrics"
    escaped = str(tmp_path / "two words").replace(" ", "\\040")
    fake_mountinfo(monkeypatch, ["1 0 8:1 / / rw - ext4 x rw", f"2 1 0:2 / {escaped} rw - nfs host:/x rw"])
    assert len(directories.check(directory)) == 1


def test_a_real_mount_is_recognised(tmp_path: Path) -> None:
    """The kernel's own list is understood."""
    with small_disk(tmp_path / "disk") as disk:
        assert directories.file_system(disk) == "tmpfs"


# own()


def own_in(console: Console, directory: Path, holder: str) -> None:
    """Let another process own a directory."""
    console.run(f"owned = directories.own(Path({str(directory)!r}), {holder!r})")


def test_a_second_owner_is_refused_and_told_who_the_first_is(directory: Path) -> None:
    """Two instances in one directory would mix their numbers: the second is told which the first is."""
    with Console(PRELUDE) as first:
        own_in(first, directory, "the instance of pid 77")
        with pytest.raises(DirectoryInUseError, match="in use by the instance of pid 77, since 20") as error:
            directories.own(directory, "another")
        assert "PROMETHEUS_MULTIPROC_DIR" in str(error.value)
        with Console(PRELUDE) as third, pytest.raises(ConsoleError, match=r"^DirectoryInUseError: .* pid 77,"):
            own_in(third, directory, "a third")
        first.run("owned.close()")
        directories.own(directory, "the second").close()


def test_a_refused_owner_changes_nothing(directory: Path) -> None:
    """Who is refused clears no file, and leaves no descriptor open."""
    (directory / "counter_9.db").write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
    with Console(PRELUDE) as first:
        own_in(first, directory, "the first")
        (directory / "counter_9.db").write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(DirectoryInUseError):
            directories.own(directory, "the second")
        assert len(os.listdir("/proc/self/fd")) == before
        assert (directory / "counter_9.db").exists()


def test_forked_children_keep_the_ownership_until_they_close_it(directory: Path) -> None:
    """A dead master whose workers still run has not given the directory up; the last of them does."""
    with Console(PRELUDE) as master:
        own_in(master, directory, "the master")
        master.run(
            "reading, writing = os.pipe(); closed, closing = os.pipe()\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    os.read(reading, 1); owned.close(); os.close(closing); os.read(reading, 1); os._exit(0)\n"
            "os.close(closing); owned.close()"
        )
        with pytest.raises(DirectoryInUseError, match="the master"):
            directories.own(directory, "another")
        # The child lives on, and has closed its copy.
        master.run("os.write(writing, b'x'); assert os.read(closed, 1) == b''")
        directories.own(directory, "another").close()
        master.run("os.write(writing, b'x'); os.waitpid(child, 0)")


def test_after_sigkill_of_the_owner_the_directory_can_be_owned_again(directory: Path) -> None:
    """An instance that was killed is followed by the next without anybody's help; its files are cleared."""
    with Console(PRELUDE) as first:
        own_in(first, directory, "the first, whose name is much longer than that of the next")
        (directory / "counter_s0.db").write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
        first.kill()
    owned = directories.own(directory, "the second")
    assert not (directory / "counter_s0.db").exists()
    message = (directory / directories.INSTANCE_LOCK).read_text()
    assert message.startswith("the second, since 20")
    assert message.index("\n") == len(message) - 1, "nothing of the longer message is left"
    owned.close()


def test_a_running_writer_is_named(directory: Path) -> None:
    """A process that writes metrics without an instance (a script, an orphaned worker) is named by its pid."""
    with Console(PRELUDE) as writer:
        writer.run(f"held = Lease.acquire(Path({str(directory)!r}))")
        with pytest.raises(DirectoryInUseError, match=rf"running processes .* \(pid {writer.pid}\)"):
            directories.own(directory, "the instance")
        writer.kill()
    directories.own(directory, "the instance").close()


def test_a_writer_without_a_name_is_refused_all_the_same(directory: Path) -> None:
    """A full disk may have kept a holder from writing its pid down; its lock counts."""
    with Console(PRELUDE) as writer:
        writer.run(f"held = Lease.acquire(Path({str(directory)!r}))")
        (directory / "s0.lock").write_bytes(b"")
        with pytest.raises(DirectoryInUseError, match=r"\(pid unknown\)"):
            directories.own(directory, "the instance")


def test_an_owner_that_holds_a_slot_itself_is_not_in_its_own_way(directory: Path) -> None:
    """An application loaded before the fork makes the master a writer; its own files are not cleared either."""
    held = Lease.acquire(directory)
    (directory / "counter_s0.db").write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
    (directory / "counter_s1.db").write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
    owned = directories.own(directory, "the master")
    assert (directory / "counter_s0.db").exists()
    assert not (directory / "counter_s1.db").exists()
    owned.close()
    held.close()


def test_a_link_in_the_place_of_the_instance_lock_is_refused(directory: Path, tmp_path: Path) -> None:
    """Nothing is written where a link points."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (directory / directories.INSTANCE_LOCK).symlink_to(victim)
    with pytest.raises(DirectoryUnusableError, match="no lock file can be made"):
        directories.own(directory, "the instance")
    assert victim.read_text() == "precious"


def test_a_full_disk_prevents_no_ownership(tmp_path: Path) -> None:
    """The lock needs no room: only the message to others is poorer."""
    with small_disk(tmp_path / "disk") as disk:
        fill(disk / "filler")
        owned = directories.own(disk, "the instance")
        with Console(PRELUDE) as other, pytest.raises(ConsoleError, match=r"^DirectoryInUseError: .*another instance"):
            own_in(other, disk, "the other")
        owned.close()


# clear()

# prometheus-client does not annotate it.
new_stock_file: Any = prometheus_client.mmap_dict.MmapedDict


@pytest.mark.parametrize("writer", ["s0", "s17", "4711"])
def test_stale_metric_files_of_every_type_are_deleted(directory: Path, writer: str) -> None:
    """Files of dead processes are deleted, named after slots or pids, written by either library, used or not."""
    names = sorted(f"{prefix}_{writer}.db" for prefix in STOCK_PREFIXES)
    for number, name in enumerate(names):
        if number % 3 == 0:
            stock = new_stock_file(str(directory / name))
            stock.write_value(key("m"), 1.0, 0.0)
            stock.close()
        else:
            entries = [(key("m"), 1.0, 0.0)] if number % 3 == 1 else []
            (directory / name).write_bytes(metric_file(entries, unused=64) if entries else bytes(64))
    (directory / f"counter_{writer}.db").write_bytes(b"")
    assert directories.clear(directory) == names
    assert list(directory.iterdir()) == []


def make_sqlite(path: Path) -> None:
    """Make somebody's database."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE precious (id INTEGER)")
    database.close()


def make_socket(path: Path) -> None:
    """Make a socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "README": lambda path: path.write_text("Do not delete."),
    "README.db": lambda path: path.write_bytes(metric_file([])),
    "counter.db": lambda path: path.write_bytes(metric_file([])),
    "counter_some-host.db": lambda path: path.write_bytes(metric_file([])),
    "counter_1.db": make_sqlite,
    "counter_2.db": lambda path: path.mkdir(),
    "counter_3.db": os.mkfifo,
    "counter_4.db": make_socket,
    "counter_5.db": lambda path: path.symlink_to(path.parent.parent / "elsewhere" / "counter_5.db"),
    "counter_6.db": lambda path: path.symlink_to("nowhere"),
    "counter_s7.db": lambda path: path.symlink_to("README"),
    "counter_s8.db": lambda path: path.write_bytes(b"\xff" * 64),
    "counter_s9.db": lambda path: path.write_bytes(b"12345"),
    "counter_s10.db": lambda path: path.write_bytes(b"\x10\0\0\0junk" + bytes(64)),
    "counter_s11.db": lambda path: path.write_bytes(b"\xff\xff\0\0\0\0\0\0" + bytes(64)),
    "counter_s12.db": lambda path: path.write_bytes(b"\x09\0\0\0\0\0\0\0" + bytes(64)),
    "counter_s13.db.bak": lambda path: path.write_bytes(metric_file([])),
    "counter_s14.corrupt": lambda path: path.write_bytes(b"rubbish"),
    "Counter_s15.db": lambda path: path.write_bytes(metric_file([])),
    "gauge_s16.db": lambda path: path.write_bytes(metric_file([])),
    "gauge_median_s17.db": lambda path: path.write_bytes(metric_file([])),
    "my_counter_s18.db": lambda path: path.write_bytes(metric_file([])),
    "instance.lock": lambda path: path.write_text("somebody"),
    "s0.lock": lambda path: path.write_text("1"),
    "s3.lock": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_kept(tmp_path: Path, directory: Path, name: str) -> None:
    """What is not certainly a metric file stays as it is, whatever its name; and a link is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "counter_5.db").write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
    FOREIGN[name](directory / name)
    (directory / "histogram_s0.db").write_bytes(metric_file([(key("h"), 1.0, 0.0)]))
    before = (directory / name).lstat()
    assert directories.clear(directory) == ["histogram_s0.db"]
    after = (directory / name).lstat()
    assert (before.st_mode, before.st_size, before.st_ino) == (after.st_mode, after.st_size, after.st_ino)
    assert (elsewhere / "counter_5.db").exists()


def test_files_of_a_held_slot_are_kept(directory: Path) -> None:
    """A living process keeps writing to the files it has open: they stay where the reader finds them."""
    for name in ("counter_s0.db", "gauge_livesum_s0.db", "counter_s1.db"):
        (directory / name).write_bytes(metric_file([(key("c"), 1.0, 0.0)]))
    held = Lease.acquire(directory)
    assert directories.clear(directory) == ["counter_s1.db"]
    held.close()
    assert directories.clear(directory) == ["counter_s0.db", "gauge_livesum_s0.db"]


# owner() and is_known()


def test_the_owner_is_asked_for_without_disturbing_it(directory: Path) -> None:
    """Nobody owns a directory without a lock file, nor one whose owner is gone; asking takes nothing."""
    assert directories.owner(directory) is None
    with Console(PRELUDE) as other:
        other.run(f"lock = directories.own(Path({str(directory)!r}), 'the instance of process 1 (here)')")
        for _ in range(3):
            assert (directories.owner(directory) or "").startswith("the instance of process 1 (here), since 2")
    assert directories.owner(directory) is None
    directories.own(directory, "me").close()


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("counter_s0.db", True),
        ("gauge_livemostrecent_s12.db", True),
        ("counter_s0.dense", True),
        ("counter_s0.dense.new", True),
        ("exemplars_s3.bin", True),
        ("histogram_4711.db", True),
        ("s0.lock", True),
        ("instance.lock", True),
        ("expired.json", True),
        ("notes.txt", False),
        ("counter_s0.db.bak", False),
        ("counter.db", False),
        ("s01.lock", False),
        ("ballast", False),
    ],
)
def test_what_belongs_in_the_directory_is_known_by_its_name(name: str, known: bool) -> None:
    """What bears the number of a slot, what prometheus-client writes, and a few fixed names."""
    assert directories.is_known(name) is known
