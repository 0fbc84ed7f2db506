"""What the processes of an instance use, asked of real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from authly.monitoring.exporter.collectors import processes
from authly.monitoring.exporter.collectors.processes import Cpu, Identity, Processes, Stat, Tree, stat
from authly.monitoring.exporter.collectors.system import (
    CPU_MODES,
    DETAIL_SECONDS,
    MEMORY_SECONDS,
    MEMORY_TYPES,
    SWITCH_KINDS,
    Instance,
    Ledger,
    SystemCollector,
    WorkerCpu,
)
from tests.processes import process_state, wait_until

# A master: forks workers that use the processor until they are told otherwise, and waits for those that end. It does
# what it is told by lines, and answers each; the processor time of all its dead workers is what it tells itself.
MASTER = """
import json, os, signal, subprocess, sys, threading, time

def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def work(seconds, own_child, wait):
    done, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.read(done, 1)
        os.close(done)
        return pid
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    burn(seconds)
    if own_child:
        child = os.fork()
        if not child:
            burn(seconds)
            os._exit(0)
        os.waitpid(child, 0)
    os.write(tell, b".")
    if wait:
        time.sleep(600)
    os._exit(0)

ended = [0.0, 0.0]
others = {}
for line in sys.stdin:
    command, *arguments = json.loads(line)
    answer = None
    if command == "worker":
        answer = work(*arguments)
    elif command == "reap":
        pid, status, usage = os.wait4(arguments[0], 0)
        ended[0] += usage.ru_utime
        ended[1] += usage.ru_stime
    elif command == "ended":
        answer = ended
    elif command == "other":
        code = "import time\\nwhile time.process_time() < %r: pass\\nprint(flush=True)\\ntime.sleep(600)" % arguments[0]
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        other.stdout.readline()
        others[other.pid] = other
        answer = other.pid
    elif command == "end other":
        others[arguments[0]].kill()
        others[arguments[0]].wait()
        others[arguments[0]].stdout.close()
    print(json.dumps(answer), flush=True)
os.killpg(0, signal.SIGKILL)
"""


class Master:
    """A master and its workers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MASTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._process.pid
        self.do("ended")

    def do(self, command: str, *arguments: Any) -> Any:
        """Let it do something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def worker(self, seconds: float = 0.0, *, own_child: bool = False, wait: bool = True) -> int:
        """Start a worker that uses so much processor time, and wait until it has."""
        pid = int(self.do("worker", seconds, own_child, wait))
        if wait:
            wait_until(lambda: process_state(pid) == "S")
        return pid

    def kill(self, pid: int) -> None:
        """End a worker and wait for it."""
        os.kill(pid, signal.SIGKILL)
        self.do("reap", pid)

    def end(self) -> None:
        """End it and all that it started: they are a group of their own."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture
def master() -> Iterator[Master]:
    """Return a master that ends with the test."""
    started = Master()
    yield started
    started.end()


Values = dict[tuple[str, ...], float]


def collect(collector: SystemCollector) -> Values:
    """Return each sample by its name and the values of its labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels))): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def cpu(values: Values, role: str) -> float:
    """Return the processor time of a role."""
    return sum(values["authly_cpu_seconds_total", mode, role] for mode in CPU_MODES)


def test_each_role_is_found_and_read(master: Master) -> None:
    """Master, workers and this process, which stands for the exporter, as the kernel tells of them."""
    workers = [master.worker(), master.worker()]
    master.do("other", 0.0)
    values = collect(SystemCollector(Instance(master.pid)))
    for role in ("master", "worker", "exporter"):
        for type_ in MEMORY_TYPES:
            assert values["authly_memory_usage_bytes", role, type_] > 0
        rss, pss = (values["authly_memory_usage_bytes", role, type_] for type_ in ("rss", "pss"))
        assert pss <= rss
        for kind in SWITCH_KINDS:
            assert values["authly_context_switches_total", kind, role] == 0
        assert values["authly_file_descriptors_limit", role] == psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]
    assert values["authly_threads", "worker"] == 4
    assert values["authly_threads", "master"] == 1
    opened = [psutil.Process(pid).num_fds() for pid in workers]
    assert values["authly_open_file_descriptors", "worker"] == sum(opened)
    assert values["authly_open_file_descriptors_max", "worker"] == max(opened)
    assert values["authly_start_time_seconds",] == pytest.approx(psutil.Process(master.pid).create_time())
    assert values["authly_uptime_seconds",] >= 0


def test_without_a_master_there_is_this_process_alone() -> None:
    """Where no Gunicorn is, nothing is taken for one."""
    values = collect(SystemCollector(Instance()))
    roles = {key[-1] for key in values if key[0] == "authly_cpu_seconds_total"}
    assert roles == {"exporter"}
    assert ("authly_uptime_seconds",) not in values


def test_processor_time_never_falls_when_workers_end(master: Master) -> None:
    """It is what living and dead have used, those included that nobody ever saw, and their own children."""
    collector = SystemCollector(Instance(master.pid))
    seen = [cpu(collect(collector), "worker")]
    for _ in range(3):
        known = master.worker(0.05, own_child=True)
        seen.append(cpu(collect(collector), "worker"))
        master.kill(known)
        seen.append(cpu(collect(collector), "worker"))
        # Comes and goes between two scrapes.
        master.do("reap", master.worker(0.05, wait=False))
        seen.append(cpu(collect(collector), "worker"))
    assert seen == sorted(seen)
    # The master was told by wait4(2) what each of them had used; the kernel shows it in hundredths of a second.
    assert seen[-1] == pytest.approx(sum(master.do("ended")), abs=0.03)
    assert seen[-1] >= 0.4


def test_a_worker_that_waits_to_be_reaped_has_used_what_it_used(master: Master) -> None:
    """It has no memory any more, and its time is neither lost nor counted twice."""
    collector = SystemCollector(Instance(master.pid))
    worker = master.worker(0.1)
    before = collect(collector)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: process_state(worker) == "Z")
    dead = collect(collector)
    master.do("reap", worker)
    after = collect(collector)
    # User and system time are each rounded down to hundredths.
    assert 0.08 <= cpu(before, "worker") <= cpu(dead, "worker") <= cpu(after, "worker") <= cpu(before, "worker") + 0.05
    assert dead["authly_memory_usage_bytes", "worker", "rss"] == 0
    assert dead["authly_memory_usage_bytes", "worker", "pss"] == 0
    assert dead["authly_threads", "worker"] == 0


def test_the_next_exporter_counts_on(master: Master) -> None:
    """Processor time is the same for another collector, and no series begins anew while the master lives."""
    first = SystemCollector(Instance(master.pid))
    master.kill(master.worker(0.2))
    master.worker(0.05)
    before = cpu(collect(first), "worker")
    after = cpu(collect(SystemCollector(Instance(master.pid))), "worker")
    assert before <= after <= before + 0.05
    # What the exporters before it have used is no worker's.
    ended = Cpu(0.04, 0.0)
    values = collect(SystemCollector(Instance(master.pid, ended_exporters=ended)))
    assert cpu(values, "worker") == pytest.approx(after - 0.04, abs=0.03)
    assert cpu(values, "exporter") >= 0.04


def test_what_was_no_worker_does_not_count_as_one(master: Master) -> None:
    """Children that execute another program are known by that, and what they used is left out when they end."""
    collector = SystemCollector(Instance(master.pid))
    before = cpu(collect(collector), "worker")
    other = master.do("other", 0.2)
    assert cpu(collect(collector), "worker") == before
    master.do("end other", other)
    assert cpu(collect(collector), "worker") <= before + 0.05
    master.kill(master.worker(0.05))
    assert before + 0.03 <= cpu(collect(collector), "worker") <= before + 0.15


def test_a_child_that_the_kernel_forgets_to_list_is_still_there(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list may lack one while another ends; one that was seen before is looked for by its number."""
    collector = SystemCollector(Instance(master.pid))
    master.worker(0.05)
    before = collect(collector)
    monkeypatch.setattr(processes, "_children", lambda _: set())
    after = collect(collector)
    assert after["authly_threads", "worker"] == before["authly_threads", "worker"] == 2


def test_switches_are_those_of_all_threads(master: Master) -> None:
    """They are counted from the collector's start, and never fall."""
    now = 100.0
    collector = SystemCollector(Instance(master.pid), lambda: now)
    collect(collector)
    worker = master.worker()
    seen = collect(collector)["authly_context_switches_total", "voluntary", "worker"]
    # Two threads, each of which has gone to sleep.
    assert seen >= 2
    assert collect(collector)["authly_context_switches_total", "voluntary", "worker"] == seen
    os.kill(worker, signal.SIGSTOP)
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: process_state(worker) == "S")
    now += DETAIL_SECONDS
    later = collect(collector)["authly_context_switches_total", "voluntary", "worker"]
    assert later > seen
    seen = later
    master.kill(worker)
    assert collect(collector)["authly_context_switches_total", "voluntary", "worker"] == seen


@pytest.mark.parametrize(("what", "seconds"), [("memory", MEMORY_SECONDS), ("detail", DETAIL_SECONDS)])
def test_costly_figures_are_asked_for_now_and_then(
    what: str, seconds: float, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are only so many seconds old; those of a process that is new are read at once."""
    now = 100.0
    asked: list[int] = []
    look = getattr(Processes, what)

    def counted(processes_: Processes, identity: Identity) -> Any:
        asked.append(identity.pid)
        return look(processes_, identity)

    monkeypatch.setattr(Processes, what, counted)
    collector = SystemCollector(Instance(master.pid), lambda: now)
    first = master.worker()
    collect(collector)
    assert sorted(asked) == sorted([os.getpid(), master.pid, first])
    second = master.worker()
    now += seconds - 0.1
    collect(collector)
    assert asked[3:] == [second]
    now += 0.2
    collect(collector)
    assert sorted(asked[4:]) == sorted([os.getpid(), master.pid, first])


def test_what_is_not_permitted_is_absent(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of which a part is unknown is not shown; everything else is."""
    master.worker()
    own = os.getpid()
    full, fds = psutil.Process.memory_full_info, psutil.Process.num_fds

    def refused(process: psutil.Process) -> Any:
        if process.pid != own:
            raise psutil.AccessDenied(process.pid)
        return full(process)

    def refused_fds(process: psutil.Process) -> int:
        if process.pid != own:
            raise psutil.AccessDenied(process.pid)
        return fds(process)

    monkeypatch.setattr(psutil.Process, "memory_full_info", refused)
    monkeypatch.setattr(psutil.Process, "num_fds", refused_fds)
    values = collect(SystemCollector(Instance(master.pid)))
    assert {key[1:] for key in values if key[0] == "authly_memory_usage_bytes"} == {
        *(("exporter", type_) for type_ in MEMORY_TYPES),
        *((role, type_) for role in ("master", "worker") for type_ in ("rss", "vms")),
    }
    assert {key[1:] for key in values if key[0] == "authly_open_file_descriptors"} == {("exporter",)}


def test_what_the_kernel_tells_of_a_process_is_read_rightly(master: Master) -> None:
    """As psutil reads it; a name with parentheses and spaces confuses nothing."""
    for pid in (os.getpid(), master.pid, master.worker(0.02, own_child=True)):
        found, expected = stat(pid), psutil.Process(pid)
        assert found.parent == expected.ppid()
        assert found.rss == pytest.approx(expected.memory_info().rss, abs=1 << 22)
        assert found.vms == pytest.approx(expected.memory_info().vms, abs=1 << 22)
        times = expected.cpu_times()
        assert found.cpu == pytest.approx((times.user, times.system), abs=0.2)
        assert found.ended_children == pytest.approx((times.children_user, times.children_system), abs=0.2)
        assert not found.is_zombie
    name = Path("/proc/self/comm")
    before = name.read_text()
    try:
        name.write_text(") Z 1 (")
        assert stat(os.getpid()).parent == os.getppid()
    finally:
        name.write_text(before)


# The sums


def test_a_ledger_never_falls() -> None:
    """It begins at 0, keeps what ended as it was seen last, and takes a smaller number for another thing."""
    ledger = Ledger()
    assert ledger.total({"a": 10, "b": 5}) == 0
    assert ledger.total({"a": 12, "b": 5}) == 2
    assert ledger.total({"b": 6}) == 3
    assert ledger.total({"b": 1, "c": 4}) == 8
    assert ledger.total({}) == 8
    assert ledger.total({"a": 1}) == 9


def test_an_inconsistent_tree_does_not_let_the_sum_fall() -> None:
    """Where a worker was counted both as living and as dead, the sum waits until the truth has caught up."""

    def process(pid: int, seconds: float, ended: float = 0.0) -> Stat:
        return Stat(Identity(pid, 0), False, 1, False, 1, Cpu(seconds), Cpu(ended), 1, 1)

    def tree(ended: float, *living: float) -> Tree:
        workers = {Identity(pid, 0): process(pid, seconds) for pid, seconds in enumerate(living)}
        return Tree(process(99, 0, ended), process(98, 0), workers, {}, False)

    total = WorkerCpu(Cpu(1.0))
    assert total.total(tree(1.0, 2.0)).user == 2.0
    assert total.total(tree(3.0, 2.0)).user == 4.0
    assert total.total(tree(3.0)).user == 4.0
    assert total.total(tree(3.0, 2.5)).user == 4.5


def test_the_master_does_without_psutil() -> None:
    """The hooks of Gunicorn run in the master, whose workers would all inherit it."""
    code = "import sys, authly.monitoring.gunicorn; sys.exit('psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
