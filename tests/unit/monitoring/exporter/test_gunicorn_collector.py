"""From the facts of masters and the kernel's to families."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from authly.monitoring import master_facts
from authly.monitoring.exporter.collectors.gunicorn import GunicornCollector
from authly.monitoring.exporter.process_facts import process_facts
from authly.monitoring.exporter.requests_in_progress import RequestsInProgress
from authly.monitoring.master_facts import ListenerFacts, MasterFacts, WorkerFacts
from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.families import Family
from authly.monitoring.multiprocess.lease import Lease
from authly.monitoring.multiprocess.value_file import ValueFile
from tests.processes import process_state, wait_until
from tests.unit.monitoring.multiprocess.support import Console

LEASE = (
    "from pathlib import Path\nfrom authly.monitoring.multiprocess.lease import Lease\nheld = Lease.acquire(Path({!r}))"
)


@dataclasses.dataclass
class Scene:
    """A master, which is this process, and what it says; workers are consoles that hold slots."""

    directory: Path
    slot: int
    facts: MasterFacts
    heartbeats: list[IO[bytes]]
    stack: contextlib.ExitStack

    def add_worker(self, *, beats: bool = True) -> int:
        """Start a worker and say so; return its process id."""
        console = self.stack.enter_context(Console(LEASE.format(str(self.directory))))
        file = self.stack.enter_context((self.directory / f"beat{len(self.heartbeats)}").open("wb"))
        self.heartbeats.append(file)
        if beats:
            self.beat(file)
        fd = file.fileno()
        worker = WorkerFacts(console.pid, time.monotonic(), fd, os.fstat(fd).st_ino)
        self.say(workers=(*self.facts.workers, worker))
        return console.pid

    def beat(self, file: IO[bytes], seconds_ago: float = 0.0) -> None:
        """Let a heart have beaten so long ago."""
        os.utime(file.fileno(), (time.monotonic() - seconds_ago,) * 2)

    def say(self, **changes: object) -> None:
        """Change the facts."""
        self.facts = self.facts._replace(**changes)  # type: ignore[arg-type]
        master_facts.write(self.directory, self.slot, self.facts)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Return a master without workers."""
    with contextlib.ExitStack() as stack:
        held = Lease.acquire(tmp_path, lease.MASTER)
        stack.callback(held.close)
        pid, network = master_facts.namespace("pid"), master_facts.namespace("net")
        facts = MasterFacts(os.getpid(), 1.75e9, 3, False, 100, pid, network, (), ())
        made = Scene(tmp_path, held.slot, facts, [], stack)
        made.say()
        yield made


def values(families: list[Family]) -> dict[str, dict[str, float]]:
    """Return the values by the name of the sample, and the value of its only label."""
    found: dict[str, dict[str, float]] = {}
    for family in families:
        for sample in family.samples:
            label = sample.labels[0][1] if sample.labels else ""
            found.setdefault(sample.name, {})[label] = sample.value
    return found


def test_without_a_master_there_is_nothing(tmp_path: Path) -> None:
    """Where Gunicorn does not run, or runs no more, nothing is said of it; a missing directory is an error."""
    collector = GunicornCollector(tmp_path)
    assert collector.collect() == []
    assert collector.snapshot.workers == []
    with pytest.raises(FileNotFoundError):
        GunicornCollector(tmp_path / "missing").collect()


def test_workers_by_state_and_by_slot(scene: Scene) -> None:
    """Alive, booting, busy, desired; what each worker is, has and does."""
    scene.add_worker()
    scene.add_worker(beats=False)
    scene.beat(scene.heartbeats[0], 2.5)
    file = ValueFile(scene.directory / "gauge_livesum_s0.db", None, lambda _: None)
    cells, index, *_ = file.place(b'["http_requests_in_progress", "http_requests_in_progress", {"method": "GET"}, "x"]')
    cells[index] = 2.0
    file.close()
    found = values(GunicornCollector(scene.directory).collect())
    assert found["gunicorn_workers"] == {"alive": 2, "booting": 1, "busy": 1, "desired": 3}
    assert found["gunicorn_worker_requests_in_progress"] == {"0": 2}
    heartbeats = found["gunicorn_worker_heartbeat_age_seconds"]
    assert heartbeats.keys() == {"0"}
    assert 2.5 <= heartbeats["0"] < 2.5 + 30
    for name in ("memory_bytes", "age_seconds", "cpu_seconds_total"):
        assert found[f"gunicorn_worker_{name}"].keys() == {"0", "1"}
    assert all(1e6 < value < 1e9 for value in found["gunicorn_worker_memory_bytes"].values())
    assert found["gunicorn_master_start_time_seconds"] == {"": 1.75e9}
    assert found["gunicorn_upgrade_in_progress"] == {"": 0}


def test_a_worker_that_has_ended_does_not_show(scene: Scene) -> None:
    """Not even while its master, which hangs, still names it; nor a heartbeat file that took another's descriptor."""
    victim = scene.add_worker()
    scene.add_worker()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: process_state(victim) in "ZX")
    assert process_facts(victim) is None
    workers = tuple(worker._replace(heartbeat_inode=1) for worker in scene.facts.workers)
    scene.say(workers=workers)
    found = values(GunicornCollector(scene.directory).collect())
    assert found["gunicorn_workers"]["alive"] == 1
    assert found["gunicorn_worker_memory_bytes"].keys() == {"1"}
    assert "gunicorn_worker_heartbeat_age_seconds" not in found


def test_processor_time_is_the_worker_s_own(scene: Scene) -> None:
    """It grows with what a worker does, and begins anew with the next holder of the slot; all exporters agree."""
    collector = GunicornCollector(scene.directory)

    def cpu(collector: GunicornCollector = collector) -> float:
        return values(collector.collect())["gunicorn_worker_cpu_seconds_total"]["0"]

    with Console(LEASE.format(str(scene.directory))) as first:
        scene.say(workers=(WorkerFacts(first.pid, 0.0, 0, 0),))
        first.run("import time\nwhile time.process_time() < 0.6: pass")
        assert cpu() >= 0.5
        assert cpu(GunicornCollector(scene.directory)) == cpu()
    with Console(LEASE.format(str(scene.directory))) as second:
        scene.say(workers=(WorkerFacts(second.pid, 0.0, 0, 0),))
        assert cpu() < 0.5


def test_two_masters_are_an_upgrade(scene: Scene) -> None:
    """Their workers add up; the start time is that of the younger one."""
    scene.add_worker()
    younger = Lease.acquire(scene.directory, lease.MASTER)
    master_facts.write(scene.directory, younger.slot, scene.facts._replace(started=1.76e9, desired=5, workers=()))
    found = values(GunicornCollector(scene.directory).collect())
    assert found["gunicorn_workers"] == {"alive": 1, "booting": 0, "busy": 0, "desired": 8}
    assert found["gunicorn_upgrade_in_progress"] == {"": 1}
    assert found["gunicorn_master_start_time_seconds"] == {"": 1.76e9}
    younger.close()
    scene.say(is_upgrading=True)
    assert values(GunicornCollector(scene.directory).collect())["gunicorn_upgrade_in_progress"] == {"": 1}


def test_elsewhere_process_ids_and_addresses_mean_nothing(scene: Scene) -> None:
    """An exporter in another container does not take its own processes and sockets for Gunicorn's."""
    scene.add_worker()
    listener = ListenerFacts("0.0.0.0:111", 0, "0.0.0.0", 111)
    scene.say(pid_namespace=1, network_namespace=1, listeners=(listener,))
    found = values(GunicornCollector(scene.directory).collect())
    assert found["gunicorn_workers"]["alive"] == 1
    assert found["gunicorn_worker_age_seconds"].keys() == {"0"}
    for name in ("gunicorn_worker_memory_bytes", "gunicorn_worker_heartbeat_age_seconds", "gunicorn_listen_backlog"):
        assert name not in found


def test_a_process_is_read_whatever_its_name(tmp_path: Path) -> None:
    """A name with parentheses and spaces, as `setproctitle` and exec can give it, confuses nobody."""
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as process:
        facts = process_facts(process.pid)
        assert facts is not None
        assert not facts.is_stopped
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: (now := process_facts(process.pid)) is not None and now.is_stopped)
        process.send_signal(signal.SIGCONT)
        process.kill()


def gauge(name: str, label: str = "") -> bytes:
    """Return the key of a gauge."""
    return f'["{name}", "{name}", {{"x": "{label}"}}, "Help."]'.encode()


def test_requests_in_progress_come_from_whichever_gauge_there_is(tmp_path: Path) -> None:
    """Of one gauge all series add up, of two gauges the greater counts, and others do not."""
    reading = RequestsInProgress(tmp_path)
    assert reading.of(0) is None
    path = tmp_path / "gauge_livesum_s0.db"
    file = ValueFile(path, None, lambda _: None)
    assert reading.of(0) is None

    def put(key: bytes, value: float) -> None:
        cells, index, *_ = file.place(key)
        cells[index] = value

    put(gauge("queue_length"), 7)
    assert reading.of(0) is None
    put(gauge("http_requests_in_progress", "a"), 1)
    put(gauge("http_requests_in_progress", "b"), 2)
    assert reading.of(0) == 3
    put(gauge("http_requests_inprogress"), 4)
    assert reading.of(0) == 4
    put(gauge("http_requests_in_progress", "a"), 3)
    assert reading.of(0) == 5
    put(gauge("http_requests_in_progress", "a"), -9)
    assert reading.of(0) == 4
    file.close()
    # The next holder of the slot has another file.
    path.unlink()
    assert reading.of(0) is None
    path.write_bytes(b"\x01" * 100)
    assert reading.of(0) is None
