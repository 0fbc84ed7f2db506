"""Workers that come and go, and a disk that fills up: what is left behind does not grow, and nothing is lost."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess import exposition
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.values import DROPPED_SERIES
from tests.unit.monitoring.multiprocess.support import Console, ConsoleError, fill, small_disk

GENERATIONS = 300
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
PRELUDE = """
import os, signal, time
from pathlib import Path
from authly.monitoring.multiprocess import values
store = values.install(Path({directory!r}))
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
registry = CollectorRegistry()
"""
METRICS = """
requests = Counter('requests', 'Help.', ['code'], registry=registry)
took = Histogram('took', 'Help.', ['route'], buckets=[1, 2], registry=registry)
size = Summary('size', 'Help.', registry=registry)
busy = Gauge('busy', 'Help.', multiprocess_mode='livesum', registry=registry)
most = Gauge('most', 'Help.', multiprocess_mode='max', registry=registry)
def live(number):
    # One life of a worker.
    for code in ('200', '404', '500'): requests.labels(code).inc(number % 7)
    for route in ('/a', '/b'): took.labels(route).observe(number % 3 + 0.5)
    size.observe(2); busy.inc(); most.set(number)
def generations(numbers, killed):
    for number in numbers:
        pid = os.fork()
        if pid == 0:
            try:
                live(number)
                if number % 5 == killed: os.kill(os.getpid(), signal.SIGKILL)
                os._exit(0)
            finally: os._exit(1)
        status = os.waitpid(pid, 0)[1]
        assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if number % 5 == killed else 0), status
"""


def samples(directory: Path, *, dropped: bool = False, strict: bool = True) -> Series:
    """Return what is shown, in both formats alike; of dropped series only where they are asked for.

    Args:
        directory: where the metric files are.
        dropped: with what is said about series that could not be stored.
        strict: whether the OpenMetrics parser, which wants histograms complete, must accept it too.
    """
    collector = DirectoryCollector(directory, time.monotonic)
    with contextlib.closing(collector):
        collection = collector.collect()
        assert collection.conflicts == 0
        assert not any(collection.reading.skipped.values())
        parse_strictly: Any = openmetrics_parser.text_string_to_metric_families
        found = [
            {
                (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
                for family in parse(exposition.render(collection.families, openmetrics=openmetrics).decode())
                for sample in family.samples
                if not sample.name.endswith("_created") and (dropped or not sample.name.startswith(DROPPED_SERIES))
            }
            for parse, openmetrics in ((text_string_to_metric_families, False), (parse_strictly, True))[: 1 + strict]
        ]
    assert found[0] == found[-1]
    return found[0]


def drops(directory: Path) -> dict[str, float]:
    """Return how many series could not be stored, by reason."""
    found = samples(directory, dropped=True, strict=False).items()
    return {
        dict(labels)["reason"]: value for (name, labels), value in found if name.startswith(DROPPED_SERIES) and value
    }


def test_hundreds_of_workers_leave_no_more_than_one(tmp_path: Path) -> None:
    """After 300 short lives, one in five ended by SIGKILL, there are the files, bytes and series of a first one."""
    sizes = {}
    shown = {}
    for name, numbers in (("first", range(6, 7)), ("many", range(GENERATIONS))):
        directory = tmp_path / name
        directory.mkdir(0o700)
        with Console(PRELUDE.format(directory=str(directory)) + METRICS) as process:
            process.run(f"generations({numbers!r}, 3)")
            shown[name] = samples(directory)
            sizes[name] = {
                path.name: path.stat().st_size for path in directory.iterdir() if path.suffix in {".db", ".dense"}
            }
            locks = sorted(path.name for path in directory.iterdir() if path.suffix == ".lock")
            assert locks == ["s0.lock", "s1.lock"]
            assert len(list(directory.iterdir())) == len(sizes[name]) + len(locks)
    assert sizes["many"] == sizes["first"]
    assert shown["many"].keys() == shown["first"].keys()
    found = shown["many"]
    counted = sum(number % 7 for number in range(GENERATIONS))
    for code in ("200", "404", "500"):
        assert found["requests_total", (("code", code),)] == counted
    observed = [number % 3 for number in range(GENERATIONS)]
    for route in ("/a", "/b"):
        labels = ("route", route)
        assert found["took_bucket", (("le", "1.0"), labels)] == observed.count(0)
        assert found["took_bucket", (("le", "2.0"), labels)] == observed.count(0) + observed.count(1)
        assert found["took_count", (labels,)] == GENERATIONS
        assert found["took_sum", (labels,)] == sum(observed) + 0.5 * GENERATIONS
    assert found["size_count", ()] == GENERATIONS
    assert found["size_sum", ()] == 2 * GENERATIONS
    assert found["most", ()] == GENERATIONS - 1
    # Of the process that all were forked from, which lives and constructed it.
    assert found["busy", ()] == 0


WORKERS = 4
ROUNDS = 12
SERIES = 25
# In each round each worker counts in old series and in new ones.
LOAD = """
now = [0.0]
store._monotonic = lambda: now[0]
requests = Counter('requests', 'Help.', ['n'], registry=registry)
took = Histogram('took', 'Help.', ['n'], buckets=[1, 2], registry=registry)
size = Summary('size', 'Help.', registry=registry)
def load(rounds):
    for number in range(rounds * {series}):
        requests.labels(str(number)).inc(); took.labels(str(number)).observe(1.5)
        size.observe(2)
""".replace("{series}", str(SERIES))


@pytest.mark.timeout(120)
def test_a_disk_that_workers_fill_up(tmp_path: Path) -> None:
    """Several workers fill 256 KiB: all live, each loss is counted by reason, and with room all numbers appear."""
    with small_disk(tmp_path / "disk", "size=256k") as disk, contextlib.ExitStack() as stack:
        code = PRELUDE.format(directory=str(disk)) + LOAD
        workers = [stack.enter_context(Console(code)) for _ in range(WORKERS)]
        for rounds in range(1, ROUNDS + 1):
            for worker in workers:
                worker.send(f"load({rounds})")
            for worker in workers:
                worker.receive()
            if rounds == ROUNDS // 2:
                fill(disk / "filler")
            samples(disk, strict=False)
        assert set(drops(disk)) == {"disk_full"}
        complete = {
            str(n): float(sum(n < rounds * SERIES for rounds in range(1, ROUNDS + 1))) for n in range(ROUNDS * SERIES)
        }
        found = samples(disk, strict=False)
        shown = [found.get(("requests_total", (("n", n),)), 0.0) for n in complete]
        # Not all is there, and nothing is there that was not counted.
        assert 0 < sum(shown) < WORKERS * sum(complete.values())
        assert all(0 <= value <= WORKERS * count for value, count in zip(shown, complete.values(), strict=True))
        before = drops(disk)["disk_full"]
        assert before <= WORKERS * (4 * ROUNDS * SERIES + ROUNDS * SERIES)
        # Room again. One write after the pause between attempts brings all that waits.
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        for worker in workers:
            worker.run("now[0] += 10; requests.labels('0').inc(0); took.labels('0').observe(1.5)")
            worker.run("now[0] += 10; requests.labels('last').inc(); took.labels('last').observe(0.5); size.observe(2)")
        found = samples(disk)
        for n, count in complete.items():
            label = ("n", n)
            observed = WORKERS * (count + (n == "0"))
            assert found["requests_total", (label,)] == WORKERS * count, n
            assert found["took_count", (label,)] == observed
            assert found["took_sum", (label,)] == 1.5 * observed
            assert found["took_bucket", (("le", "1.0"), label)] == 0
            assert found["took_bucket", (("le", "2.0"), label)] == observed
        assert found["size_count", ()] == WORKERS * (SERIES * ROUNDS * (ROUNDS + 1) / 2 + 1)
        assert found["requests_total", (("n", "last"),)] == WORKERS
        assert drops(disk) == {"disk_full": before}
        assert not [path for path in disk.iterdir() if path.suffix not in {".db", ".dense", ".lock"}]


@pytest.mark.parametrize("bounds", [1, 2, 5, 11])
def test_a_histogram_that_found_room_for_a_part_is_not_half_shown(tmp_path: Path, bounds: int) -> None:
    """Where some of a histogram's series could not be stored, what is shown is valid, and no count is too small."""
    code = PRELUDE.format(directory=str(tmp_path)).replace("))\nfrom", "), 1 << 16)\nfrom")
    with Console(code) as process:
        process.run(
            f"h = Histogram('h', 'Help.', ['n'], buckets=range({bounds}), registry=registry)\n"
            f"for n in range(200): h.labels(str(n)).observe({bounds})\n"
        )
        assert set(drops(tmp_path)) == {"budget"}
        found = samples(tmp_path)
        counts = [value for (name, _), value in found.items() if name == "h_count"]
        assert len(counts) > 10
        assert set(counts) == {1.0}


def test_the_stock_value_class_ends_workers_that_fill_a_disk(tmp_path: Path) -> None:
    """In the same situation each worker with prometheus-client's own value class is ended by SIGBUS."""
    with small_disk(tmp_path / "disk", "size=256k") as disk, contextlib.ExitStack() as stack:
        code = "from prometheus_client import CollectorRegistry, Counter, Histogram, Summary\n"
        code += "registry = CollectorRegistry()\n" + LOAD.replace("store._monotonic", "unused")
        workers = [stack.enter_context(Console(code, {"PROMETHEUS_MULTIPROC_DIR": str(disk)})) for _ in range(WORKERS)]
        assert len(os.listdir(disk)) == WORKERS
        for worker in workers:
            with pytest.raises(ConsoleError, match=f"^the process ended with -{int(signal.SIGBUS)}$"):
                worker.run("load(400)")
