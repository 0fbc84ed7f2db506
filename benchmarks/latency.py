"""What scrapes cost the requests that are answered meanwhile.

``python -m benchmarks.latency ADDRESS SECONDS [FOLDER]`` is the agent that scrapes an exporter again and again, by what
the folder holds for it.
"""

import http.client
import itertools
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.access import connect, credentials, write_web_config
from benchmarks.agent import REPOSITORY, Agent, AgentError, serve
from benchmarks.scrape import metrics_directory, scrape
from benchmarks.timing import USUAL, WORST, Progress, Row, compare

QUIET = "not scraped"
SCRAPED = "scraped at 10 Hz"
_INTERVAL = 0.1
_START_SECONDS = 20.0


class Instance(NamedTuple):
    """A running Gunicorn.

    Args:
        address: of the application.
        metrics_address: of the exporter.
        master: its process id.
    """

    address: str
    metrics_address: str
    master: int


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    rounds, seconds = (2, 0.5) if quick else (9, 1.5)
    return [
        *_load(progress, "requests without a pause", WORST, 0.0, rounds, seconds),
        *_load(progress, "200 requests a second", USUAL, 0.005, rounds, seconds),
    ]


def _load(progress: Progress, load: str, kind: str, interval: float, rounds: int, seconds: float) -> list[Row]:
    """Measure an instance under some load, with and without scrapes in turn."""
    progress(f"latency: Gunicorn with 2 workers, {load}")
    percentiles: dict[str, dict[str, list[float]]] = {
        "p50": {SCRAPED: [], QUIET: []},
        "p99": {SCRAPED: [], QUIET: []},
    }
    with (
        metrics_directory() as directory,
        gunicorn(directory, workers=2) as (address, metrics_address, _),
        closing(Agent("latency", metrics_address, str(_INTERVAL))) as scraper,
    ):
        latencies_of(address, 0.5, interval)
        for number in range(rounds):
            # Whatever drifts meets both sides alike.
            for name in (SCRAPED, QUIET) if number % 2 else (QUIET, SCRAPED):
                if name == SCRAPED:
                    scraper.send(str(seconds))
                latencies = latencies_of(address, seconds, interval)
                if name == SCRAPED:
                    scraper.receive()
                hundredths = statistics.quantiles(latencies, n=100, method="inclusive")
                percentiles["p50"][name].append(hundredths[49] * 1e3)
                percentiles["p99"][name].append(hundredths[98] * 1e3)
    return [
        compare("latency", f"{load}, {percentile}", kind, "ms", (SCRAPED, of[SCRAPED]), (QUIET, of[QUIET]))
        for percentile, of in percentiles.items()
    ]


@contextmanager
def gunicorn(directory: Path, *, workers: int, folder: Path | None = None) -> Iterator[Instance]:
    """Run an instance that keeps its metrics in a directory.

    Args:
        directory: of the metrics.
        workers: how many.
        folder: where to write what guards the exporter; None lets everybody look.
    """
    address, metrics_address = (f"127.0.0.1:{port}" for port in free_ports(2))
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "benchmarks/gunicorn_conf.py"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "BENCHMARK_BIND": address,
            "BENCHMARK_METRICS_BIND": metrics_address,
            "BENCHMARK_DIRECTORY": str(directory),
            "BENCHMARK_WORKERS": str(workers),
            "BENCHMARK_WEB_CONFIG": str(write_web_config(folder)) if folder else "",
        },
    )
    try:
        _wait_until_it_answers(process, address, metrics_address, folder)
        yield Instance(address, metrics_address, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            # Workers and exporter end with their master.
            process.kill()
            process.wait()


def _wait_until_it_answers(
    process: "subprocess.Popen[bytes]", address: str, metrics_address: str, folder: Path | None
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                _request(connection)
            with closing(connect(metrics_address, folder)) as connection:
                scrape(connection, credentials(folder))
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AgentError("Gunicorn does not start") from error
            time.sleep(0.1)
        else:
            return


def free_ports(count: int) -> list[int]:
    """Return so many ports that nobody listened on a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _request(connection: http.client.HTTPConnection, path: str = "/items/1") -> None:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise AgentError(f"the application answered {response.status}")


def latencies_of(address: str, seconds: float, interval: float, path: str = "/items/1") -> list[float]:
    """Send requests for some time, one after the other over two connections in turn; return what each took.

    Args:
        address: where to.
        seconds: for how long.
        interval: from one request to the next; 0 for no pause.
        path: of what is asked for.
    """
    latencies = []
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(http.client.HTTPConnection(address, timeout=10))) for _ in range(2)]
        for connection in connections:
            _request(connection, path)
        start = time.perf_counter()
        for number, connection in enumerate(itertools.cycle(connections)):
            if interval:
                time.sleep(max(0.0, start + number * interval - time.perf_counter()))
            started = time.perf_counter()
            if started > start + seconds:
                break
            _request(connection, path)
            latencies.append(time.perf_counter() - started)
    return latencies


def main(arguments: list[str]) -> None:
    """Answer a number of seconds, during which it scrapes, with how many scrapes there were."""
    address, interval = arguments[0], float(arguments[1])
    folder = Path(arguments[2]) if arguments[2:] else None

    def answer(words: str) -> int:
        started = time.monotonic()
        count = 0
        # One connection for all of them, as Prometheus has.
        with closing(connect(address, folder)) as connection:
            while time.monotonic() < started + float(words):
                scrape(connection, credentials(folder))
                count += 1
                time.sleep(max(0.0, started + count * interval - time.monotonic()))
        return count

    def prepare() -> Callable[[str], Any]:
        return answer

    serve(prepare)


if __name__ == "__main__":
    main(sys.argv[1:])
