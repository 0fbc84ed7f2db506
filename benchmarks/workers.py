"""Synthetic worker processes: they write the metrics of an application with many endpoints."""

import contextlib
import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Histogram

from authly.monitoring.multiprocess import values

AUTHLY = "Authly"
STOCK = "prometheus_client"
_fork = multiprocessing.get_context("fork")


def use(stack: str, directory: Path) -> None:
    """Let this process keep its metrics in a directory, with Authly's value class or prometheus_client's."""
    if stack == AUTHLY:
        values.install(directory)
    else:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue()  # type: ignore[no-untyped-call]


class Series:
    """Three histograms and two counters for each of some endpoints: 50 entries an endpoint.

    Args:
        endpoints: how many.
        number: of the process; each meets the endpoints in an order of its own.
    """

    def __init__(self, endpoints: int, number: int) -> None:
        registry = CollectorRegistry()
        labels = ["method", "endpoint"]
        histograms = [
            Histogram(f"app_h{i}_seconds", "Time that it took to answer.", labels, registry=registry) for i in range(3)
        ]
        counters = [
            Counter(f"app_c{i}_total", "Requests that were answered.", [*labels, "status"], registry=registry)
            for i in range(2)
        ]
        self._writes: list[Callable[[float], None]] = []
        self._next = 0
        for endpoint in sorted(range(endpoints), key=lambda endpoint: zlib.crc32(b"%d %d" % (number, endpoint))):
            template = f"/api/v1/resource{endpoint}/{{id}}"
            self._writes += [histogram.labels("GET", template).observe for histogram in histograms]
            self._writes += [counter.labels("GET", template, "200").inc for counter in counters]
        self.write(1.0)

    def write(self, share: float) -> None:
        """Write once to a share of the series, to others each time.

        Args:
            share: of all series, up to 1; at least one series is written to.
        """
        for _ in range(max(1, round(share * len(self._writes)))):
            # Some sequence that meets all buckets.
            self._writes[self._next % len(self._writes)](self._next * 0.618 % 12.0)
            self._next += 1


class Worker:
    """A process that writes.

    Args:
        stack: whose value class.
        directory: of the metric files.
        endpoints: how many.
        number: of the process.
    """

    def __init__(self, stack: str, directory: Path, endpoints: int, number: int) -> None:
        self._connection, theirs = _fork.Pipe()
        self._process = _fork.Process(target=_work, args=(stack, directory, endpoints, number, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until it has done what it was told, or has started."""
        self._connection.recv()

    def write(self, share: float) -> None:
        """Tell it to write to a share of its series; does not wait."""
        self._connection.send(share)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()


def _work(stack: str, directory: Path, endpoints: int, number: int, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use(stack, directory)
    series = Series(endpoints, number)
    connection.send(None)
    with contextlib.suppress(EOFError):
        while True:
            series.write(connection.recv())
            connection.send(None)
    os._exit(0)


class Workers:
    """Some processes that write at the same time.

    Args:
        stack: whose value class.
        directory: of the metric files.
        count: how many processes.
        endpoints: how many.
    """

    def __init__(self, stack: str, directory: Path, count: int, endpoints: int) -> None:
        self._workers: list[Worker] = []
        try:
            for number in range(count):
                self._workers.append(Worker(stack, directory, endpoints, number))
            for worker in self._workers:
                worker.wait()
        except BaseException:
            self.kill()
            raise

    def write(self, share: float) -> None:
        """Let each of them write to a share of its series, and wait until all have."""
        for worker in self._workers:
            worker.write(share)
        for worker in self._workers:
            worker.wait()

    def kill(self) -> None:
        """End all of them."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()


def live_and_die(stack: str, directory: Path, endpoints: int, number: int) -> None:
    """Start a worker, let it write all its series, and kill it."""
    worker = Worker(stack, directory, endpoints, number)
    try:
        worker.wait()
    finally:
        worker.kill()
