"""A real instance for tests: Gunicorn, its workers and the exporter, on free ports, in a folder of its own."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import children, command, is_alive, wait_until
from tests.vocabulary import observe

REPOSITORY = Path(__file__).parent.parent
GUNICORN = Path(sysconfig.get_path("scripts")) / "gunicorn"
# Nothing listens there (port 9, "discard"): an instance that needs no database does not have one.
NO_DATABASE = "postgresql://nobody@127.0.0.1:9/none"
RATE_LIMITS = [f"AUTHLY_RATE_LIMIT_{policy}" for policy in ("LOGIN", "TOKEN", "INTROSPECT", "DEFAULT")]

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(
    url: str, headers: dict[str, str] | None = None, method: str = "GET", timeout: float = 10
) -> tuple[int, dict[str, str], bytes]:
    """Ask for a page on a new connection; return status, headers (names in lower case) and body.

    Raises:
        OSError: there is no answer, or not in so many seconds.
    """
    match = re.fullmatch(r"http://([^/]+)(/.*)", url)
    assert match, url
    connection = http.client.HTTPConnection(match[1], timeout=timeout)
    try:
        connection.request(method, match[2], headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def parse(exposition: str) -> Series:
    """Return the value of each series of an exposition.

    The thousands of series of an instance are the same from scrape to scrape, and tests scrape all the time: what a
    series is called is parsed once.
    """
    series = {}
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            series[_series(name)] = float(value)
    return series


@cache
def _series(written: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the name and the labels of a series as an exposition has them."""
    (family,) = text_string_to_metric_families(f"{written} 0\n")
    (sample,) = family.samples
    return sample.name, frozenset(sample.labels.items())


def total(series: Series, name: str, **labels: str) -> float:
    """Return the sum of the series of a name that have these labels."""
    return sum(value for (found, has), value in series.items() if found == name and labels.items() <= dict(has).items())


class Instance:
    """One Gunicorn master with what belongs to it.

    Args:
        folder: a temporary folder for state, metrics and log.
        environment: settings besides those that every test instance has.
        options: for Gunicorn, after its configuration file.
    """

    def __init__(self, folder: Path, environment: dict[str, str], options: tuple[str, ...] = ()) -> None:
        self.made = time.monotonic()
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.log_path = folder / "authly.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
            "AUTHLY_BIND": self.address,
            "AUTHLY_METRICS_BIND": self.metrics_address,
            "AUTHLY_WORKERS": "3",
            "AUTHLY_STATE_DIR": str(folder / "state"),
            "AUTHLY_DATABASE_URL": NO_DATABASE,
            "AUTHLY_GRACEFUL_TIMEOUT": "5",
            # All tests come from one address. Those of the limits switch them on again.
            **dict.fromkeys(RATE_LIMITS, "off"),
            # What a password costs to hash is the subject of few tests, and each start on a new database hashes one.
            "AUTHLY_PASSWORD_HASH_TIME": "1",
            "AUTHLY_PASSWORD_HASH_MEMORY": "64",
            **environment,
        }
        # What tests of other ways to start, and of other users, change before the start.
        self.command = [sys.executable, str(GUNICORN), "-c", str(REPOSITORY / "gunicorn.conf.py"), *options]
        self.uid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The metrics directory."""
        configured = self.environment.get("PROMETHEUS_MULTIPROC_DIR")
        return Path(configured) if configured else self.folder / "state/metrics"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The master that this object started."""
        assert self._process is not None
        return self._process

    @property
    def master(self) -> int:
        """The process id of the master."""
        return self.process.pid

    def spawn(self) -> Self:
        """Start the master and wait for nothing."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
            )
        return self

    def start(self, *, exporter: bool = True) -> Self:
        """Start, and wait until requests and scrapes are answered."""
        self.spawn()
        wait_until(lambda: self.process.poll() is not None or self.is_live(), 30)
        if self.process.poll() is not None:
            pytest.fail(f"the master ended at once:\n{self.log()}")
        if exporter:
            wait_until(lambda: self.answers(f"http://{self.metrics_address}/-/healthy"), 10)
        return self

    def is_live(self) -> bool:
        """Tell whether a worker answers."""
        return self.answers(f"http://{self.address}/health/live")

    @staticmethod
    def answers(url: str) -> bool:
        """Tell whether a page is there."""
        try:
            return get(url)[0] == 200
        except OSError:
            return False

    def log(self) -> str:
        """Return everything that was logged."""
        return self.log_path.read_text(errors="replace")

    def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask a worker."""
        return get(f"http://{self.address}{path}", headers, method)

    def scrape(
        self, path: str = "/metrics", headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the exporter."""
        return get(f"http://{self.metrics_address}{path}", headers, method)

    def series(self) -> Series:
        """Scrape the exporter and return the value of each series."""
        return self.parse(self.scrape()[2])

    def settled(self) -> Series:
        """Scrape the exporter until no request is in progress: clients have an answer before all of it is noted."""
        found: list[Series] = []

        def is_settled() -> bool:
            found[:] = [self.series()]
            return total(found[0], "authly_http_requests_in_progress") == 0

        wait_until(is_settled)
        return found[0]

    def parse(self, exposition: bytes) -> Series:
        """Return the value of each series of an exposition of this instance, and let the test have seen it."""
        series = parse(exposition.decode())
        observe(series, self, self.made)
        return series

    def exporters(self, master: int | None = None) -> list[int]:
        """Return the process ids of a master's exporter, of which there is one or none."""
        found = children(master or self.master)
        return [pid for pid in found if "authly.monitoring.exporter" in command(pid) and is_alive(pid)]

    def workers(self, master: int | None = None) -> list[int]:
        """Return the process ids of a master's workers, booting ones too."""
        # A re-executed master is a child too, and looks like a worker but for the environment it was executed with.
        own = _environment(master or self.master)
        exporters = self.exporters(master)
        return [
            pid
            for pid in children(master or self.master)
            if _environment(pid) == own and pid not in exporters and is_alive(pid)
        ]

    def stop(self) -> None:
        """End everything that was started, and wait until it is gone."""
        if self._process is None:
            return
        # A master that was replaced (SIGUSR2) leaves the next one behind; whatever is left is ended by its pid.
        left = self.family()
        for pid in left:
            # The exporter is its master's to end.
            if is_alive(pid) and "authly.monitoring.exporter" not in command(pid):
                _signal(pid, signal.SIGTERM)
        try:
            self._process.wait(15)
        finally:
            for pid in left:
                if is_alive(pid) and str(self.folder) in _environment(pid):
                    _signal(pid, signal.SIGKILL)
            self._process.poll()

    def end(self) -> None:
        """End everything at once: ending by itself is a tenth of what an instance costs, and has tests of its own."""
        if not self.environment.get("AUTHLY_DATABASE_URL"):
            # Its own PostgreSQL, which has to leave its folder alone from then on.
            self.stop()
        elif self._process is not None:
            # Again, for whatever a master has started meanwhile.
            while left := self.family():
                for pid in left:
                    _signal(pid, signal.SIGKILL)
                time.sleep(0.005)
            self._process.wait()

    def family(self) -> list[int]:
        """Return the process ids of all processes that run with this instance's settings."""
        mark = f"AUTHLY_STATE_DIR={self.environment['AUTHLY_STATE_DIR']}\0"
        return [
            int(entry) for entry in os.listdir("/proc") if entry.isdigit() and mark in _environment(int(entry)) + "\0"
        ]


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@contextmanager
def running(folder: Path, *options: str, **environment: str) -> Iterator[Instance]:
    """Run an instance that the tests of a module share, which leave its settings and its processes alone.

    Args:
        folder: a temporary folder.
        options: for Gunicorn.
        environment: settings.
    """
    instance = Instance(folder, environment, options)
    try:
        yield instance.start()
    finally:
        instance.stop()
        print(f"--- log of {folder.name}\n{instance.log()}")  # noqa: T201


@pytest.fixture
def make_instance(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Return what makes instances; they are ended with the test, and their log is shown if it failed."""
    made: list[Instance] = []

    def make(*options: str, folder: Path | None = None, **environment: str) -> Instance:
        folder = folder or tmp_path / f"instance{len(made)}"
        folder.mkdir(parents=True, exist_ok=True)
        made.append(Instance(folder, environment, options))
        return made[-1]

    try:
        yield make
    finally:
        for instance in made:
            instance.end()
            if instance.log_path.exists():
                print(f"--- log of {instance.folder.name}\n{instance.log()}")  # noqa: T201
