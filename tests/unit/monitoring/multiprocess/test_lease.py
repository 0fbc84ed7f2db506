"""Slots: who gets which, when a lease ends, and that asking disturbs nobody."""

import errno
import os
from pathlib import Path

import pytest

from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.lease import Lease
from tests.requirements import require
from tests.unit.monitoring.multiprocess.support import Console, ConsoleError, fill, small_disk

PRELUDE = "import os\nfrom pathlib import Path\nfrom authly.monitoring.multiprocess.lease import Lease, is_held\n"


def acquire_in(console: Console, directory: Path) -> int:
    """Let another process lease a slot, and return the slot."""
    slot: int = console.run(f"held = Lease.acquire(Path({str(directory)!r})); answer = held.slot")
    return slot


def test_a_process_gets_the_lowest_free_slot(tmp_path: Path) -> None:
    """Slots are given from 0 upwards, and one that was released is the next to be given again."""
    leases = [Lease.acquire(tmp_path) for _ in range(4)]
    assert [held.slot for held in leases] == [0, 1, 2, 3]
    leases[1].close()
    leases[3].close()
    again = [Lease.acquire(tmp_path) for _ in range(3)]
    assert [held.slot for held in again] == [1, 3, 4]
    for held in (leases[0], leases[2], *again):
        held.close()
    assert lease.held_slots(tmp_path) == []


def test_processes_share_no_slot(tmp_path: Path) -> None:
    """A second process gets the next slot, and each is told to be held, by the process that holds it."""
    held = Lease.acquire(tmp_path)
    with Console(PRELUDE) as second, Console(PRELUDE) as third:
        assert [acquire_in(second, tmp_path), acquire_in(third, tmp_path)] == [1, 2]
        assert lease.held_slots(tmp_path) == [0, 1, 2]
        assert [lease.holder_pid(tmp_path, slot) for slot in range(4)] == [os.getpid(), second.pid, third.pid, None]
    assert lease.held_slots(tmp_path) == [0]
    held.close()


def test_sigkill_of_the_holder_frees_its_slot(tmp_path: Path) -> None:
    """A lease ends with its process, although nothing of that process had a chance to clean up."""
    with Console(PRELUDE) as first, Console(PRELUDE) as second:
        assert [acquire_in(first, tmp_path), acquire_in(second, tmp_path)] == [0, 1]
        first.kill()
        assert not lease.is_held(tmp_path, 0)
        assert lease.is_held(tmp_path, 1)
        held = Lease.acquire(tmp_path)
        assert held.slot == 0
        assert lease.holder_pid(tmp_path, 0) == os.getpid()
        held.close()


def test_asking_never_takes_the_lock(tmp_path: Path) -> None:
    """While one process asks in a tight loop whether the slots are held, none that leases skips a free one."""
    asking = (
        f"directory = Path({str(tmp_path)!r}); stop = directory / 'stop'; asked = 0\n"
        "while not stop.exists():\n"
        "    for _ in range(200):\n"
        "        is_held(directory, 0); is_held(directory, 1); asked += 1\n"
        "answer = asked\n"
    )
    with Console(PRELUDE) as asker:
        asker.send(asking)
        try:
            for _ in range(3000):
                first = Lease.acquire(tmp_path)
                second = Lease.acquire(tmp_path)
                assert (first.slot, second.slot) == (0, 1)
                second.close()
                first.close()
        finally:
            (tmp_path / "stop").touch()
        assert asker.receive() >= 200


def test_asking_creates_nothing(tmp_path: Path) -> None:
    """A slot that nobody ever had is free, and asking about it leaves no lock file behind."""
    assert not lease.is_held(tmp_path, 0)
    assert lease.holder_pid(tmp_path, 0) is None
    assert lease.held_slots(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_that_closes_its_copy_does_not_end_the_lease(tmp_path: Path) -> None:
    """The lease is its acquirer's: a child gives up the inherited descriptor and leases another slot."""
    with Console(PRELUDE) as parent:
        assert acquire_in(parent, tmp_path) == 0
        child_slot = parent.run(
            "reading, writing = os.pipe()\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    held.close()\n"
            f"    os.write(writing, b'%d' % Lease.acquire(Path({str(tmp_path)!r})).slot)\n"
            "    os._exit(0)\n"
            "os.waitpid(child, 0); answer = int(os.read(reading, 9))\n"
        )
        assert child_slot == 1
        assert lease.is_held(tmp_path, 0)
        assert not lease.is_held(tmp_path, 1)
        parent.run("held.close()")
        assert not lease.is_held(tmp_path, 0)


def test_a_lease_is_not_handed_to_an_executed_program(tmp_path: Path) -> None:
    """A program that the holder starts does not keep the slot when the holder has died."""
    with Console(PRELUDE) as holder:
        acquire_in(holder, tmp_path)
        holder.run("import subprocess; program = subprocess.Popen(['cat'], stdin=subprocess.PIPE, close_fds=False)")
        assert lease.is_held(tmp_path, 0)
        holder.run("held.close()")
        assert holder.run("answer = program.poll()") is None
        assert not lease.is_held(tmp_path, 0)
        holder.run("program.stdin.close(); program.wait()")


def test_a_symbolic_link_in_the_place_of_a_lock_file_is_refused(tmp_path: Path) -> None:
    """Nothing is locked, created or overwritten where a link points."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lease.lock_path(tmp_path, 0).symlink_to(victim)
    with pytest.raises(OSError) as refused:
        Lease.acquire(tmp_path)
    assert refused.value.errno == errno.ELOOP
    with pytest.raises(OSError):
        lease.is_held(tmp_path, 0)
    assert victim.read_text() == "precious"


def test_a_missing_directory_is_an_oserror(tmp_path: Path) -> None:
    """Whoever leases is told by the usual exception that there is no directory."""
    with pytest.raises(FileNotFoundError):
        Lease.acquire(tmp_path / "missing")


def test_a_directory_without_permission_is_an_oserror(tmp_path: Path) -> None:
    """A process that may not create a lock file is told so."""
    require("root", os.geteuid() == 0, "only root can become a user who may not write there")
    tmp_path.chmod(0o755)
    become = f"os.chdir({str(tmp_path)!r}); os.setuid(65534)"
    with Console(PRELUDE + become) as nobody, pytest.raises(ConsoleError, match=r"^PermissionError: .*s0\.lock"):
        acquire_in(nobody, Path())


def test_a_full_disk_is_an_oserror_only_where_a_file_must_be_made(tmp_path: Path) -> None:
    """Where no lock file can be made the caller is told; where there is one, a full disk prevents no lease."""
    with small_disk(tmp_path / "disk", "size=64k,nr_inodes=4") as disk:
        Lease.acquire(disk).close()
        lease.lock_path(disk, 0).write_bytes(b"")
        fill(disk / "filler")
        (disk / "last").touch()  # no inode is left: the root folder, s0.lock, filler, last
        held = Lease.acquire(disk)
        assert held.slot == 0
        with pytest.raises(OSError) as full:
            Lease.acquire(disk)
        assert full.value.errno == errno.ENOSPC
        assert lease.held_slots(disk) == [0]
        held.close()


def test_no_descriptor_is_left_over(tmp_path: Path) -> None:
    """Leasing past held slots, asking, and failing leave no descriptor open."""
    held = [Lease.acquire(tmp_path) for _ in range(3)]
    lease.lock_path(tmp_path, 3).symlink_to("nowhere")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError):
            Lease.acquire(tmp_path)
        assert lease.is_held(tmp_path, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    for one in held:
        one.close()
