"""How long a scrape takes, and how much memory the process has that answers it."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from authly.monitoring.exporter.__main__ import arguments
from authly.monitoring.exporter.application import Configuration
from benchmarks.access import connect
from benchmarks.agent import Agent, AgentError
from benchmarks.reader import pss
from benchmarks.timing import BEST, USUAL, WORST, Progress, Row, compare
from benchmarks.workers import AUTHLY, STOCK, Worker, Workers, live_and_die

COLD = "first scrape"
NOTHING = "nothing changed"
ONE_PERCENT = "1 % of the series changed"
ALL = "all series changed"
DEAD = "100 dead processes"
# What Prometheus sends.
PROMETHEUS_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """Give a temporary directory in memory, where there is one."""
    memory = "/dev/shm"  # noqa: S108 - a folder of a random name below it
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    if quick:
        return [*_size(progress, 2, 20, rounds=3, memory_rounds=1), *_recycled(progress, recycles=20, rounds=3)]
    return [
        *_size(progress, 2, 20, rounds=21, memory_rounds=0),
        *_size(progress, 8, 50, rounds=15, memory_rounds=3),
        *_size(progress, 32, 200, rounds=7, memory_rounds=3),
        *_dead(progress, 8, 50, dead=100, rounds=7),
        *_recycled(progress, recycles=1000, rounds=21),
    ]


def name_of(workers: int, endpoints: int) -> str:
    """Return how a size is called."""
    return f"{workers} x {endpoints}"


def _size(progress: Progress, workers: int, endpoints: int, *, rounds: int, memory_rounds: int) -> list[Row]:
    """Compare both stacks on the same files, with all writers alive."""
    size = name_of(workers, endpoints)
    progress(f"scrape: {size} (workers x endpoints)")
    with ExitStack() as stack:
        directory = stack.enter_context(metrics_directory())
        writers = Workers(AUTHLY, directory, workers, endpoints)
        stack.callback(writers.kill)
        ours = stack.enter_context(closing(Agent("reader", AUTHLY, str(directory))))
        stock = stack.enter_context(closing(Agent("reader", STOCK, str(directory))))
        if ours.ask("series") != stock.ask("series"):
            raise AgentError("the two stacks do not expose the same series")
        times: dict[str, list[float]] = {COLD: [], NOTHING: [], ONE_PERCENT: [], ALL: []}
        references: dict[str, list[float]] = {case: [] for case in times}
        for _ in range(rounds):
            times[COLD].append(ours.ask("cold"))
            first = stock.ask("cold")
            # Twice: a file is left alone only after a second reading that found no change.
            ours.ask("warm")
            ours.ask("warm")
            times[NOTHING].append(ours.ask("warm"))
            writers.write(0.01)
            times[ONE_PERCENT].append(ours.ask("warm"))
            second = stock.ask("warm")
            writers.write(1.0)
            times[ALL].append(ours.ask("warm"))
            for case, reference in ((COLD, first), (NOTHING, first), (ONE_PERCENT, second), (ALL, second)):
                references[case].append(reference)
        kinds = {COLD: WORST, NOTHING: BEST, ONE_PERCENT: USUAL, ALL: WORST}
        rows = [
            compare("scrape", f"{size}, {case}", kinds[case], "ms", (AUTHLY, times[case]), (STOCK, references[case]))
            for case in times
        ]
        ours.close()
        stock.close()
        if memory_rounds:
            progress(f"memory: {size}")
            rows += _memory(directory, writers, size, memory_rounds)
        return rows


def _memory(directory: Path, writers: Workers, size: str, rounds: int) -> list[Row]:
    """Compare the memory of fresh processes that have scraped."""
    readers: dict[str, list[float]] = {AUTHLY: [], STOCK: []}
    exporters = []
    for _ in range(rounds):
        for name, numbers in readers.items():
            with closing(Agent("reader", name, str(directory))) as agent:
                agent.ask("warm")
                writers.write(1.0)
                agent.ask("warm")
                numbers.append(agent.ask("pss"))
        exporters.append(_exporter_memory(directory, writers))
    stock = STOCK, readers[STOCK]
    return [
        compare("memory", f"{size}, reading process", USUAL, "MB", (AUTHLY, readers[AUTHLY]), stock),
        compare("memory", f"{size}, the exporter with its server", USUAL, "MB", (AUTHLY, exporters), stock),
    ]


def _exporter_memory(directory: Path, writers: Workers) -> float:
    """Start the exporter as the Gunicorn hooks do, scrape it as Prometheus does, and return its memory."""
    ours, theirs = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        options, fds = arguments(Configuration(directory), [listener], ours)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "authly.monitoring.exporter", *options],
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
        )
        try:
            with closing(connect(address)) as connection:
                for _ in range(4):
                    scrape(connection)
                    writers.write(1.0)
            return pss(process.pid)
        finally:
            process.terminate()
            process.wait()
            os.close(ours)
            os.close(theirs)


def scrape(connection: http.client.HTTPConnection, headers: Mapping[str, str] | None = None) -> int:
    """Scrape an exporter as Prometheus does; return the bytes of the body."""
    connection.request("GET", "/metrics", headers={**PROMETHEUS_HEADERS, **(headers or {})})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise AgentError(f"the exporter answered {response.status}")
    return len(body)


def _dead(progress: Progress, workers: int, endpoints: int, *, dead: int, rounds: int) -> list[Row]:
    """Compare both stacks, each on files of its own, after processes have died."""
    size = name_of(workers, endpoints)
    progress(f"scrape: {size} after {dead} processes were killed")
    with ExitStack() as stack:
        agents, writers, directories = {}, {}, {}
        for name in (AUTHLY, STOCK):
            directories[name] = stack.enter_context(metrics_directory())
            writers[name] = Workers(name, directories[name], workers, endpoints)
            stack.callback(writers[name].kill)
            for number in range(dead):
                live_and_die(name, directories[name], endpoints, workers + number)
            agents[name] = stack.enter_context(closing(Agent("reader", name, str(directories[name]))))
        times: dict[str, list[float]] = {AUTHLY: [], STOCK: []}
        cold = []
        for _ in range(rounds):
            cold.append(agents[AUTHLY].ask("cold"))
            agents[AUTHLY].ask("warm")
            for name, numbers in times.items():
                writers[name].write(1.0)
                numbers.append(agents[name].ask("warm"))
        stock = STOCK, times[STOCK]
        return [
            compare("scrape", f"{size}, {DEAD}, {COLD}", WORST, "ms", (AUTHLY, cold), stock),
            compare("scrape", f"{size}, {DEAD}, {ALL}", WORST, "ms", (AUTHLY, times[AUTHLY]), stock),
            compare(
                "directory",
                f"{size}, {DEAD}, metric files",
                USUAL,
                "files",
                (AUTHLY, [_files(directories[AUTHLY])]),
                (STOCK, [_files(directories[STOCK])]),
            ),
        ]


def _recycled(progress: Progress, *, recycles: int, rounds: int, workers: int = 2, endpoints: int = 20) -> list[Row]:
    """Compare an instance whose workers were replaced many times with a fresh one."""
    progress(f"scrape: after {recycles:,} workers were replaced")
    fresh, recycled = "fresh instance", f"after {recycles:,} recycles"
    size = name_of(workers, endpoints)
    with ExitStack() as stack:
        agents, writers, directories = {}, {}, {}
        for name in (recycled, fresh):
            directories[name] = stack.enter_context(metrics_directory())
            if name == recycled:
                _recycle(directories[name], workers, endpoints, recycles)
            writers[name] = Workers(AUTHLY, directories[name], workers, endpoints)
            stack.callback(writers[name].kill)
            agents[name] = stack.enter_context(closing(Agent("reader", AUTHLY, str(directories[name]))))
        times: dict[str, list[float]] = {recycled: [], fresh: []}
        cold: dict[str, list[float]] = {recycled: [], fresh: []}
        for _ in range(rounds):
            for name in times:
                writers[name].write(1.0)
                times[name].append(agents[name].ask("warm"))
                cold[name].append(agents[name].ask("cold"))
        bytes_ = {name: sum(file.stat().st_size for file in folder.iterdir()) for name, folder in directories.items()}
        files = {name: _files(folder) for name, folder in directories.items()}
        return [
            compare("recycling", f"{size}, {what}", USUAL, unit, (recycled, of[recycled]), (fresh, of[fresh]))
            for what, unit, of in (
                (COLD, "ms", cold),
                (ALL, "ms", times),
                ("metric files", "files", {name: [number] for name, number in files.items()}),
                ("size of the directory", "kB", {name: [number / 1e3] for name, number in bytes_.items()}),
            )
        ]


def _recycle(directory: Path, workers: int, endpoints: int, recycles: int) -> None:
    """Replace the oldest of some workers, again and again; at the end all are dead."""
    alive = [Worker(AUTHLY, directory, endpoints, number) for number in range(workers)]
    try:
        for number in range(recycles):
            alive[0].wait()
            alive.pop(0).kill()
            alive.append(Worker(AUTHLY, directory, endpoints, workers + number))
    finally:
        for worker in alive:
            worker.kill()


def _files(directory: Path) -> float:
    return float(sum(1 for _ in directory.glob("*.db")))
