"""Forks in the middle of everything: nobody waits for ever, nothing is lost, nothing is counted twice."""

import contextlib
import os
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authly.monitoring.multiprocess import lease
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.families import Labels
from tests.unit.monitoring.multiprocess.support import Console

FORKS = 1000
TOGETHER = 10
PRELUDE = """
import os, signal, sys, threading, time, warnings
from pathlib import Path
from authly.monitoring.multiprocess import values
# Python 3.12 and later warn of what is meant to happen here.
warnings.simplefilter('ignore', DeprecationWarning)
store = values.install(Path({directory!r}))
from prometheus_client import CollectorRegistry, Counter, Histogram
registry = CollectorRegistry()
counter = Counter('c', 'Help.', ['who'], registry=registry)
histogram = Histogram('h', 'Help.', ['who'], buckets=[1, 2], registry=registry)
# Looked up once, as a lock of prometheus-client itself guards the looking up, and is not made for forks.
parent = counter.labels('parent'), histogram.labels('parent')
child = counter.labels('child'), histogram.labels('child')
def write(who, value):
    who[0].inc(); who[1].observe(value)
def patient(pids):
    # Wait for each of these children; one that hangs is killed, and reported.
    deadline = time.monotonic() + 10
    for pid in pids:
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
                raise TimeoutError('a child hangs')
            time.sleep(0.0005)
"""


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """Return a process with metrics in the directory."""
    with Console(PRELUDE.format(directory=str(tmp_path))) as process:
        yield process


def run(console: Console, code: str, seconds: float) -> list[int]:
    """Execute code that must end within so many seconds; return the numbers that it answers."""
    console.send(code)
    if not select.select([console.answers], [], [], seconds)[0]:
        console.kill()
        pytest.fail("the process hangs")
    return [int(number) for number in console.receive()]


def counted(directory: Path) -> dict[tuple[str, Labels], float]:
    """Return all samples, without those about series that could not be stored, of which there may be none."""
    collector = DirectoryCollector(directory, time.monotonic)
    with contextlib.closing(collector):
        collection = collector.collect()
        assert collection.conflicts == 0
        assert not any(collection.reading.skipped.values())
        found = {(s.name, s.labels): s.value for family in collection.families for s in family.samples}
    assert not any(value for (name, _), value in found.items() if "dropped" in name)
    return found


def check(directory: Path, parent: int, child: int, most: int) -> None:
    """Check what was counted, and that there are no more files than simultaneous processes have use for."""
    found = counted(directory)
    for who, times in (("parent", parent), ("child", child)):
        labels = (("who", who),)
        assert found["c_total", labels] == times
        assert found["h_count", labels] == times
        assert found["h_bucket", (("le", "+Inf"), *labels)] == times
        assert found["h_sum", labels] == 1.5 * times
    names = os.listdir(directory)
    slots = {int(match[1]) for name in names if (match := re.fullmatch(r"(?:\w+_)?s(\d+)\.(?:db|lock)", name))}
    assert slots <= set(range(most))
    # Two metric files, a dense file beside each, and a lock.
    assert len(names) <= 5 * most
    assert set(lease.held_slots(directory)) <= {0}


@pytest.mark.timeout(180)
def test_a_thousand_forks_while_threads_write(tmp_path: Path, console: Console) -> None:
    """Children forked while other threads are in the middle of writes write at once; each write is counted once."""
    written, children = run(
        console,
        "sys.setswitchinterval(1e-5); stop = False; written = [0, 0, 0]\n"
        "def work(index):\n"
        "    while not stop:\n"
        "        write(parent, 1.5); written[index] += 1\n"
        "threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "try:\n"
        f"    for number in range({FORKS // TOGETHER}):\n"
        "        pids = []\n"
        f"        for _ in range({TOGETHER}):\n"
        "            pid = os.fork()\n"
        "            if pid == 0:\n"
        "                try:\n"
        "                    for _ in range(3): write(child, 1.5)\n"
        "                    os._exit(0)\n"
        "                finally: os._exit(1)\n"
        "            pids.append(pid)\n"
        "        patient(pids)\n"
        "finally:\n"
        "    stop = True\n"
        "    for thread in threads: thread.join()\n"
        f"answer = [sum(written), {FORKS // TOGETHER * TOGETHER}]",
        150,
    )
    assert written > children == FORKS
    check(tmp_path, written, 3 * children, TOGETHER + 1)


def test_forks_while_threads_make_new_series(tmp_path: Path, console: Console) -> None:
    """A child can look up and make series although, at the moment of the fork, other threads were making some."""
    made, children = run(
        console,
        "sys.setswitchinterval(1e-5); stop = False; made = [0, 0]\n"
        "def work(index):\n"
        "    while not stop:\n"
        "        counter.labels(f'{index} {made[index]}').inc(); made[index] += 1\n"
        "threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "try:\n"
        "    for number in range(50):\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n"
        "            try:\n"
        "                counter.labels('child').inc(); counter.labels('new').inc()\n"
        "                os._exit(0)\n"
        "            finally: os._exit(1)\n"
        "        patient([pid])\n"
        "finally:\n"
        "    stop = True\n"
        "    for thread in threads: thread.join()\n"
        "answer = [sum(made), 50]",
        60,
    )
    found = {labels: value for (name, labels), value in counted(tmp_path).items() if name == "c_total"}
    assert found.pop((("who", "child"),)) == found.pop((("who", "new"),)) == children
    assert found.pop((("who", "parent"),)) == 0
    assert set(found.values()) == {1.0}
    assert len(found) == made


def test_a_fork_in_a_signal_handler_during_writes(tmp_path: Path, console: Console) -> None:
    """A handler that interrupts a write may fork, and its child may write: the interrupted write is not lost."""
    written, children = run(
        console,
        "children = []; written = 0\n"
        "def handle(*_):\n"
        "    if len(children) >= 200: return\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            write(child, 1.5)\n"
        "            os._exit(0)\n"
        "        finally: os._exit(1)\n"
        "    patient([pid]); children.append(pid)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.001)\n"
        "signal.signal(signal.SIGALRM, handle)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001)\n"
        "while len(children) < 200:\n"
        "    write(parent, 1.5); written += 1\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "answer = [written, len(children)]",
        60,
    )
    assert written > 0
    check(tmp_path, written, children, 2)


def test_a_child_that_returns_from_the_signal_handler_finishes_the_write_as_its_own(
    tmp_path: Path, console: Console
) -> None:
    """A child forked in the middle of a write goes on in its own slot, and disturbs nothing of its parent's."""
    written, late = run(
        console,
        "forked = 0; written = 0; mine = None; reading, writing = os.pipe()\n"
        "def handle(*_):\n"
        "    global forked, mine\n"
        "    if mine is not None or forked >= 100: return\n"
        "    pid = os.fork()\n"
        "    if pid == 0: mine = written; return\n"
        "    forked += 1; patient([pid])\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.001)\n"
        "signal.signal(signal.SIGALRM, handle)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001)\n"
        "while forked < 100 and mine is None:\n"
        "    parent[0].inc(); written += 1\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "if mine is not None:\n"
        "    os.write(writing, b'x' * (written - mine)); child[0].inc(); os._exit(0)\n"
        "os.close(writing)\n"
        "with open(reading, 'rb') as answers: late = len(answers.read())\n"
        "answer = [written, late]",
        60,
    )
    found = counted(tmp_path)
    assert found["c_total", (("who", "child"),)] == 100
    # Interrupted before its number was written, an increment is made by both; after that, by the parent alone.
    assert written <= found["c_total", (("who", "parent"),)] <= written + late
    assert 0 <= late <= 100, late


def test_multiprocessing_with_the_start_method_fork(tmp_path: Path, console: Console) -> None:
    """Processes and pools of multiprocessing count like any other child, and their parent goes on."""
    (children,) = run(
        console,
        "import multiprocessing\n"
        "context = multiprocessing.get_context('fork')\n"
        "def task(times):\n"
        "    for _ in range(times): write(child, 1.5)\n"
        "    return times\n"
        "total = 0\n"
        "for number in range(10):\n"
        "    processes = [context.Process(target=task, args=(times,)) for times in range(1, 4)]\n"
        "    for process in processes: process.start(); write(parent, 1.5)\n"
        "    for process in processes: process.join(); assert process.exitcode == 0\n"
        "    total += 6\n"
        "with context.Pool(3, initializer=task, initargs=(20,)) as pool:\n"
        "    assert sum(pool.map(abs, range(20))) == 190; pool.close(); pool.join()\n"
        "total += 3 * 20\n"
        "answer = [total]",
        100,
    )
    assert children == 60 + 60
    check(tmp_path, 30, children, 4)
