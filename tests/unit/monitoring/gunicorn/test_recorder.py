"""What the recorder keeps of an arbiter's doings; the arbiter is a stand-in, its children are real."""

import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from authly.monitoring import master_facts
from authly.monitoring.gunicorn.arbiter import watched_waits
from authly.monitoring.gunicorn.recorder import Recorder
from authly.monitoring.multiprocess.collector import DirectoryCollector

EXITS = "gunicorn_worker_exits_total"


class Heartbeat:
    """A worker's file, as Gunicorn has it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def beat(self) -> None:
        """Note that the worker lives."""
        os.utime(self.fileno(), (time.monotonic(), time.monotonic()))

    def last_update(self) -> float:
        """Return when it last beat."""
        return os.fstat(self.fileno()).st_mtime

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Arbiter:
    """What the recorder knows of Gunicorn's arbiter; its workers are processes that wait, or end as they are told."""

    def __init__(self, folder: Path) -> None:
        self.WORKERS: dict[int, Any] = {}
        self.LISTENERS: list[Any] = []
        self.worker_age = self.reexec_pid = self.master_pid = 0
        self.num_workers = 2
        self.cfg = SimpleNamespace(reload=False, backlog=64, address=[("127.0.0.1", 8000)])
        self.log = logging.getLogger("arbiter")
        self.code: int | None = None
        self._folder = folder

    def spawn_worker(self) -> int:
        """Fork a worker."""
        self.worker_age += 1
        tmp = Heartbeat(self._folder / "heartbeat")
        tmp.beat()
        worker = SimpleNamespace(age=self.worker_age, tmp=tmp, aborted=False)
        pid = os.fork()
        if pid == 0:
            if self.code is not None:
                os._exit(self.code)
            signal.pause()
            os._exit(0)
        self.WORKERS[pid] = worker
        return pid

    def kill_worker(self, pid: int, number: int) -> None:
        """Send a worker a signal, and forget one that is gone."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.WORKERS.pop(pid).tmp.close()

    def reap_workers(self) -> None:
        """Wait for those that have ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                worker = self.WORKERS.pop(pid, None)
                if worker is not None:
                    worker.tmp.close()

    def manage_workers(self) -> None:
        """End those that are too many."""
        for pid in list(self.WORKERS)[: max(0, len(self.WORKERS) - self.num_workers)]:
            self.kill_worker(pid, signal.SIGTERM)

    def reload(self) -> None:
        """Start workers anew."""
        for _ in range(self.num_workers):
            self.spawn_worker()
        self.manage_workers()

    def stop(self, graceful: bool = True) -> None:
        """End all workers, and do not wait for them."""
        for pid in list(self.WORKERS):
            self.kill_worker(pid, signal.SIGTERM if graceful else signal.SIGKILL)


@pytest.fixture
def arbiter(tmp_path: Path) -> Iterator[Arbiter]:
    """Return an arbiter; its workers are ended with the test."""
    made = Arbiter(tmp_path)
    yield made
    for pid, worker in made.WORKERS.items():
        os.kill(pid, signal.SIGKILL)
        worker.tmp.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.fixture
def watched(arbiter: Arbiter, tmp_path: Path) -> Iterator[Arbiter]:
    """Return an arbiter that is recorded in the directory `metrics`."""
    (tmp_path / "metrics").mkdir()
    recorder = Recorder(tmp_path / "metrics")
    recorder.watch(arbiter)
    yield arbiter
    recorder._counters.close()


def counted(folder: Path) -> dict[str, float]:
    """Return what has been counted, without what is 0."""
    found = {}
    with contextlib.closing(DirectoryCollector(folder / "metrics", time.monotonic)) as collector:
        for family in collector.collect().families:
            for sample in family.samples:
                if sample.value and not sample.name.endswith("_created"):
                    found[dict(sample.labels).get("reason", sample.name)] = sample.value
    return found


def ended(arbiter: Arbiter, pid: int) -> None:
    """Wait until a worker has ended, and let the arbiter reap it."""
    # Unless it was reaped along with another.
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    arbiter.reap_workers()
    assert pid not in arbiter.WORKERS


def test_all_counters_are_there_from_the_start(watched: Arbiter, tmp_path: Path) -> None:
    """Before anything happens every series exists, and is 0."""
    with contextlib.closing(DirectoryCollector(tmp_path / "metrics", time.monotonic)) as collector:
        samples = [sample for family in collector.collect().families for sample in family.samples]
    reasons = {dict(sample.labels)["reason"] for sample in samples if sample.name == EXITS}
    assert reasons == set(master_facts.EXIT_REASONS)
    names = {sample.name for sample in samples if not sample.name.endswith("_created")}
    assert names == {EXITS, "gunicorn_worker_starts_total", "gunicorn_reloads_total"}
    assert not any(sample.value for sample in samples if not sample.name.endswith("_created"))


def test_what_the_master_was_doing_is_the_reason(watched: Arbiter, tmp_path: Path) -> None:
    """Scaled down, reloaded, shut down: the first order counts, whatever follows it."""
    first, *_ = [watched.spawn_worker() for _ in range(3)]
    watched.manage_workers()
    watched.kill_worker(first, signal.SIGKILL)
    ended(watched, first)
    old = list(watched.WORKERS)
    watched.reload()
    for pid in old:
        ended(watched, pid)
    left = list(watched.WORKERS)
    watched.stop()
    expected = {"gunicorn_worker_starts_total": 5, "gunicorn_reloads_total": 1}
    assert counted(tmp_path) == {**expected, "scale_down": 1, "reload": 2, "shutdown": 2}
    # Once is enough, though they are reaped only now.
    for pid in left:
        ended(watched, pid)
    assert counted(tmp_path)["shutdown"] == 2


def test_a_signal_that_ends_nothing_explains_nothing(watched: Arbiter, tmp_path: Path) -> None:
    """SIGUSR1, by which Gunicorn reopens logs, is no order to end."""
    pid = watched.spawn_worker()
    watched.kill_worker(pid, signal.SIGUSR1)  # which ends this one, because it does not handle it
    ended(watched, pid)
    assert counted(tmp_path)["signal"] == 1


def test_a_worker_that_vanished_is_counted(watched: Arbiter, tmp_path: Path) -> None:
    """One that somebody else has waited for is noticed when the master wants to end it."""
    pid = watched.spawn_worker()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    watched.kill_worker(pid, signal.SIGTERM)
    assert counted(tmp_path)["scale_down"] == 1


def test_facts_follow_the_workers(watched: Arbiter, tmp_path: Path) -> None:
    """Who lives, since when, where its heart beats, and where Gunicorn listens, is written when it changes."""
    before = time.monotonic()
    pid = watched.spawn_worker()
    (facts,) = master_facts.read(tmp_path / "metrics")
    assert (facts.pid, facts.desired, facts.is_upgrading, facts.backlog) == (os.getpid(), 2, False, 64)
    (worker,) = facts.workers
    assert worker.pid == pid
    assert before <= worker.started <= time.monotonic()
    assert worker.heartbeat_fd == watched.WORKERS[pid].tmp.fileno()
    assert worker.heartbeat_inode == (tmp_path / "heartbeat").stat().st_ino
    assert [tuple(listener) for listener in facts.listeners] == [("127.0.0.1:8000", 0, "127.0.0.1", 8000)]
    watched.num_workers = 5
    watched.reexec_pid = 1
    written = master_facts.facts_path(tmp_path / "metrics", 0)
    inode = written.stat().st_ino
    watched.manage_workers()
    (facts,) = master_facts.read(tmp_path / "metrics")
    assert (facts.desired, facts.is_upgrading) == (5, True)
    assert written.stat().st_ino != inode
    inode = written.stat().st_ino
    for _ in range(3):
        watched.manage_workers()
    assert written.stat().st_ino == inode
    os.kill(pid, signal.SIGKILL)
    ended(watched, pid)
    (facts,) = master_facts.read(tmp_path / "metrics")
    assert facts.workers == ()


def test_the_next_holder_of_a_slot_counts_on(arbiter: Arbiter, tmp_path: Path) -> None:
    """A master that comes after another adds to what that one counted."""
    (tmp_path / "metrics").mkdir()
    for times in (1, 2):
        fresh = Arbiter(tmp_path)
        recorder = Recorder(tmp_path / "metrics")
        recorder.watch(fresh)
        pid = fresh.spawn_worker()
        os.kill(pid, signal.SIGKILL)
        ended(fresh, pid)
        assert counted(tmp_path) == {"gunicorn_worker_starts_total": times, "signal": times}
        recorder._counters.close()
    assert [path.name for path in (tmp_path / "metrics").glob("m*.lock")] == ["m0.lock"]


def test_what_finds_no_room_is_counted_later_and_said_once(
    arbiter: Arbiter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the directory away the arbiter works as always; what was missed is there when the directory is."""
    now = [0.0]
    recorder = Recorder(tmp_path / "metrics", lambda: time.monotonic() + now[0])
    recorder.watch(arbiter)
    for _ in range(3):
        pid = arbiter.spawn_worker()
        os.kill(pid, signal.SIGKILL)
        ended(arbiter, pid)
        arbiter.manage_workers()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (tmp_path / "metrics").mkdir()
    now[0] += 10
    arbiter.manage_workers()
    assert counted(tmp_path) == {"gunicorn_worker_starts_total": 3, "signal": 3}
    assert len(master_facts.read(tmp_path / "metrics")) == 1
    recorder._counters.close()


def test_a_corrupt_file_is_put_aside(arbiter: Arbiter, tmp_path: Path) -> None:
    """What an earlier master's file has become is kept for whoever wants to know; counting goes on."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/counter_m0.db").write_bytes(b"\xff" * 64)
    recorder = Recorder(tmp_path / "metrics")
    recorder.watch(arbiter)
    arbiter.spawn_worker()
    assert counted(tmp_path) == {"gunicorn_worker_starts_total": 1}
    assert (tmp_path / "metrics/counter_m0.corrupt").exists()
    recorder._counters.close()


@pytest.mark.parametrize("broken", ["count", "settle"])
def test_what_fails_in_the_recorder_does_not_reach_the_arbiter(
    watched: Arbiter, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error nobody thought of is said once; workers are started, ended and reaped all the same."""
    from authly.monitoring.gunicorn import recorder

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(recorder._Counters, broken, fail)
    watched.reload()
    old = list(watched.WORKERS)
    watched.num_workers = 0
    watched.manage_workers()
    for pid in old:
        ended(watched, pid)
    watched.stop()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_nothing_grows_with_the_workers_that_have_lived(watched: Arbiter, tmp_path: Path) -> None:
    """After some hundreds of lives more, the recorder holds what it held after the first ones."""
    watched.code = 0

    def lives(count: int) -> int:
        for _ in range(count):
            ended(watched, watched.spawn_worker())
        gc.collect()
        return len(gc.get_objects())

    first = lives(10)
    assert lives(60) < first + 50
    assert counted(tmp_path) == {"gunicorn_worker_starts_total": 70, "signal": 70}
    assert sorted(os.listdir(tmp_path / "metrics")) == ["counter_m0.db", "m0.json", "m0.lock"]


def test_waits_are_watched_inside_of_the_block_alone() -> None:
    """Each child that is waited for is told of, with its status; afterwards the system call is what it was."""
    seen: list[tuple[int, int]] = []
    before = os.waitpid
    pids = []
    for code in (0, 3):
        pid = os.fork()
        if pid == 0:
            os._exit(code)
        pids.append(pid)
    with watched_waits(lambda pid, status: seen.append((pid, status))):
        for pid in pids:
            assert os.waitpid(pid, 0)[0] == pid
        with pytest.raises(ChildProcessError):
            os.waitpid(pids[0], 0)
    assert os.waitpid is before
    assert seen == [(pids[0], 0), (pids[1], 3 << 8)]


@pytest.mark.parametrize("error", [SystemExit, RuntimeError])
def test_an_error_inside_of_the_block_changes_nothing_for_good(error: type[BaseException]) -> None:
    """Gunicorn stops the server by an exception out of there."""
    before: Callable[..., object] = os.waitpid
    with pytest.raises(error), watched_waits(lambda *_: None):
        raise error
    assert os.waitpid is before
