"""What masters leave in the directory, and who reads it."""

import json
import os
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import mmap_key

from authly.monitoring import master_facts
from authly.monitoring.master_facts import ListenerFacts, MasterFacts, WorkerFacts, counter_key
from authly.monitoring.multiprocess import directory, lease
from authly.monitoring.multiprocess.lease import Lease
from authly.monitoring.multiprocess.value_file import ValueFile


def facts(started: float) -> MasterFacts:
    """Return the facts of a master that started then."""
    return MasterFacts(
        pid=os.getpid(),
        started=started,
        desired=2,
        is_upgrading=False,
        backlog=2048,
        pid_namespace=master_facts.namespace("pid"),
        network_namespace=master_facts.namespace("net"),
        workers=(WorkerFacts(7, 1.5, 9, 100), WorkerFacts(8, 2.5, 10, 101)),
        listeners=(ListenerFacts("127.0.0.1:8000", 55, "127.0.0.1", 8000), ListenerFacts("unix:/x", 56, "", 0)),
    )


def test_facts_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Of masters that hold their slot, in the order in which they started; a dead one's facts mean nothing."""
    first, second, third = (Lease.acquire(tmp_path, lease.MASTER) for _ in range(3))
    master_facts.write(tmp_path, first.slot, facts(30.0))
    master_facts.write(tmp_path, second.slot, facts(10.0))
    master_facts.write(tmp_path, third.slot, facts(20.0))
    assert master_facts.read(tmp_path) == [facts(10.0), facts(20.0), facts(30.0)]
    second.close()
    assert master_facts.read(tmp_path) == [facts(20.0), facts(30.0)]
    master_facts.write(tmp_path, first.slot, facts(5.0))
    assert master_facts.read(tmp_path) == [facts(5.0), facts(20.0)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".json") == [
        "m0.json", "m1.json", "m2.json"
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"", b"[1, 2", b"{}", b"[1]", b"null", b"\xff", b'"text"'])
def test_facts_that_cannot_be_read_are_none(tmp_path: Path, content: bytes | None) -> None:
    """A master that has written nothing yet, or something else's file: nobody trips over it."""
    held = Lease.acquire(tmp_path, lease.MASTER)
    if content is not None:
        master_facts.facts_path(tmp_path, held.slot).write_bytes(content)
    assert master_facts.read(tmp_path) == []


def test_masters_and_workers_have_slots_of_their_own(tmp_path: Path) -> None:
    """A master's slot 0 is not a worker's."""
    master, worker = Lease.acquire(tmp_path, lease.MASTER), Lease.acquire(tmp_path)
    assert (master.slot, worker.slot) == (0, 0)
    assert lease.held_slots(tmp_path) == [0]
    master.close()
    assert lease.held_slots(tmp_path, lease.MASTER) == []
    assert lease.held_slots(tmp_path) == [0]


def test_a_key_is_prometheus_client_s() -> None:
    """The key of a counter is the one under which prometheus-client would keep it."""
    assert counter_key("n", "Help.", reason="r") == mmap_key("n", "n_total", ["reason"], ["r"], "Help.").encode()
    assert json.loads(counter_key("n", "Help.")) == ["n", "n_total", {}, "Help."]


def test_a_dead_instance_s_counters_are_cleared(tmp_path: Path) -> None:
    """The next instance begins anew: what a dead one's masters counted goes with what its workers did."""
    path = master_facts.counter_path(tmp_path, 0)
    ValueFile(path, None, lambda _: None, dense=False).close()
    mine = tmp_path / "counter_mine.db"
    mine.write_bytes(path.read_bytes())
    assert directory.clear(tmp_path) == [path.name]
    assert mine.exists()
