"""`authly metrics top` and `serve` beside real instances, and in a real terminal."""

import errno
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authly.monitoring.multiprocess import directory as directories
from tests.instance import Instance, free_port, get, parse, running, total
from tests.processes import wait_until
from tests.unit.monitoring.multiprocess.support import Console

MakeInstance = Callable[..., Instance]

AUTHLY = [sys.executable, "-m", "authly.cli", "metrics"]
COUNTER = "authly_http_requests_total"
# What a worker answers by itself, at little cost.
PAGE = "/login"
ENTERED, LEFT = "\x1b[?1049h", "\x1b[?25h\x1b[?1049l"


class Terminal:
    """A pseudo-terminal with a program in it.

    Args:
        command: the program.
        environment: of the program.
        columns: of the window.
        lines: of the window.
    """

    def __init__(self, command: list[str], environment: dict[str, str], columns: int = 120, lines: int = 30) -> None:
        self._outside, self.inside = os.openpty()
        self.resize(columns, lines)
        self.modes = termios.tcgetattr(self.inside)
        self.process = subprocess.Popen(
            command, stdin=self.inside, stdout=self.inside, stderr=self.inside, env=environment, start_new_session=True
        )
        self.output = ""

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._outside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._outside, keys.encode())

    def read(self) -> str:
        """Read what was written meanwhile, and return everything so far."""
        while select.select([self._outside], [], [], 0)[0]:
            try:
                self.output += os.read(self._outside, 65536).decode(errors="replace")
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                break
        return self.output

    @property
    def page(self) -> list[str]:
        """The lines of the last page that was shown completely."""
        pages = self.read().split("\x1b[H")[1:]
        whole = [page for page in pages if page.endswith("\x1b[J") or "\x1b[J" in page]
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", whole[-1].partition("\x1b[J")[0]) if whole else ""
        return text.split("\r\n")

    def close(self) -> None:
        """End the program, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._outside)
        os.close(self.inside)


@contextmanager
def terminal(*arguments: Any, **keywords: Any) -> Iterator[Terminal]:
    """Open a terminal and close it."""
    opened = Terminal(*arguments, **keywords)
    try:
        yield opened
    finally:
        opened.close()


def ask(instance: Instance) -> Instance:
    """Let an instance answer requests, some of them with an error."""
    for _ in range(7):
        assert instance.get(PAGE)[0] == 200
    # It has no database.
    for _ in range(3):
        assert instance.get("/health/ready")[0] == 503
    return instance


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Return a running instance that has answered requests, and lives on."""
    with running(tmp_path_factory.mktemp("instance"), AUTHLY_WORKERS="2") as started:
        yield ask(started)


@pytest.fixture
def own_instance(make_instance: MakeInstance) -> Instance:
    """Return a running instance that has answered requests, and may be ended."""
    return ask(make_instance(AUTHLY_WORKERS="2").start())


def test_top_in_a_terminal(instance: Instance) -> None:
    """A page that is renewed, ordered by keys, fits the window, and leaves the terminal as it was."""
    command = [*AUTHLY, "top", "--interval", "0.2"]
    with terminal(command, instance.environment) as window:
        wait_until(lambda: ENTERED in window.read() and any("GET /login" in line for line in window.page), 20)
        assert "authly metrics top" in window.page[0]
        assert "by requests" in window.page[0]

        # Nothing happens within an interval; then something does.
        wait_until(lambda: "no requests in this time" in window.page)

        def busy() -> bool:
            for _ in range(5):
                instance.get(PAGE)
            return any(re.match(r"GET /login +[1-9]", line) for line in window.page)

        wait_until(busy)

        window.type("e")
        wait_until(lambda: "by errors" in window.page[0])

        window.resize(60, 10)
        os.kill(window.process.pid, signal.SIGWINCH)
        wait_until(lambda: len(window.page) <= 10 and all(len(line) <= 60 for line in window.page))

        window.type("q")
        assert window.process.wait(10) == 0
        assert window.read().endswith(LEFT)
        assert termios.tcgetattr(window.inside) == window.modes


def test_top_survives_the_end_of_the_instance(own_instance: Instance) -> None:
    """Where nothing is to be had any more, the page says so and stays; SIGTERM gives the terminal back."""
    command = [*AUTHLY, "top", "--interval", "0.1", "--url", f"http://{own_instance.metrics_address}/metrics"]
    # Not with the instance's environment, by which everything that belongs to it is found and ended.
    with terminal(command, dict(os.environ), 160) as window:
        wait_until(lambda: any("GET /login" in line for line in window.page), 20)
        own_instance.stop()
        wait_until(lambda: "Connection refused" in window.page[-1])
        window.process.send_signal(signal.SIGTERM)
        assert window.process.wait(10) == 128 + signal.SIGTERM
        assert window.read().endswith(LEFT)
        assert termios.tcgetattr(window.inside) == window.modes


def test_top_in_a_pipe(own_instance: Instance) -> None:
    """The same numbers from the exporter's socket, its address and the files, as a table and as JSON."""

    def top(*options: str) -> str:
        done = subprocess.run([*AUTHLY, "top", *options], env=own_instance.environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    lines = top("--once", "--sort", "errors").splitlines()
    rows = [line.split() for line in lines if line.startswith("GET ")]
    assert [row[:3] for row in rows if row[1] in {PAGE, "/health/ready"}] == [
        ["GET", "/health/ready", "3"],
        ["GET", PAGE, "7"],
    ]
    assert rows[0][4:6] == ["100", "%"]

    from_socket = json.loads(top("--once", "--json"))
    from_address = json.loads(top("--once", "--json", "--url", f"http://{own_instance.metrics_address}/metrics"))
    own_instance.stop()
    from_files = json.loads(top("--once", "--json"))
    for found in (from_socket, from_address, from_files):
        counted = {endpoint["endpoint"]: endpoint for endpoint in found["endpoints"]}
        assert counted[PAGE]["requests"] == 7
        assert counted["/health/ready"]["failed"] == 1.0
        assert 0 < counted[PAGE]["p50"] <= counted[PAGE]["p95"] <= counted[PAGE]["p99"]
        assert counted[PAGE]["mean"] > 0


def test_a_reader_that_has_enough_ends_the_stream(instance: Instance) -> None:
    """A line of JSON for each interval, until nobody reads them; then it ends without a complaint."""
    process = subprocess.Popen(
        [*AUTHLY, "top", "--json", "--interval", "0.1"],
        env=instance.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert first["seconds"] is None
    assert second["seconds"] >= 0.1
    process.stdout.close()
    complaints = process.stderr.read()
    process.stderr.close()
    assert (process.wait(10), complaints) == (0, "")


def test_dump_asks_the_exporter(instance: Instance) -> None:
    """A running instance's exposition has what only the exporter knows; a difference shows a request made meanwhile."""

    def dump(*options: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*AUTHLY, "dump", *options], env=instance.environment, stdout=subprocess.PIPE, text=True
        )

    exposition = dump().communicate()[0]
    assert "authly_exporter_build_info{" in exposition
    asked_before = int(total(parse(exposition), COUNTER, endpoint=PAGE))
    assert asked_before >= 7

    process = dump("--diff", "3")
    # Asked twice by then: the first moment has passed once the exporter has counted it.
    before = total(instance.series(), "authly_exporter_scrapes_total", outcome="success")
    own = 0

    def asked() -> bool:
        nonlocal own
        own += 1
        return total(instance.series(), "authly_exporter_scrapes_total", outcome="success") - before > own

    wait_until(asked)
    assert instance.get(PAGE)[0] == 200
    changes = process.communicate()[0]
    counted = rf"{asked_before} -> {asked_before + 1}"
    rate = re.search(rf'authly_http_requests_total\{{endpoint="/login",[^}}]*\}}  {counted}  ([\d.]+)/s', changes)
    moments = re.search(r"^authly_uptime_seconds  ([\d.]+) -> ([\d.]+)$", changes, re.MULTILINE)
    assert rate, changes
    assert moments, changes
    # Three seconds at least, and as many more as a busy machine made of them.
    elapsed = float(moments[2]) - float(moments[1])
    assert elapsed >= 2.9
    assert float(rate[1]) == pytest.approx(1 / elapsed, rel=0.1)


# serve


@contextmanager
def sidecar(folder: Path, *options: str, **environment: str) -> Iterator["tuple[subprocess.Popen[str], str, Path]"]:
    """Start the exporter alone; give the process, its address and its log."""
    address = f"127.0.0.1:{free_port()}"
    log = folder / "sidecar.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*AUTHLY, "serve", "--bind", address, *options], env={**os.environ, **environment}, stderr=file, text=True
        )
    try:
        wait_until(lambda: Instance.answers(f"http://{address}/-/healthy"), 20)
        yield process, address, log
    finally:
        process.kill()
        process.wait()


def test_a_sidecar_waits_for_the_directory(tmp_path: Path) -> None:
    """It says what it waits for, answers meanwhile, shows the metrics once they are there, and ends with SIGTERM."""
    directory = tmp_path / "state/metrics"
    with sidecar(tmp_path, AUTHLY_STATE_DIR=str(tmp_path / "state")) as (process, address, log):
        (line,) = [json.loads(line) for line in log.read_text().splitlines()]
        assert line["level"] == "warning"
        assert f"{directory} is not there yet" in line["event"]
        series = parse(get(f"http://{address}/metrics")[2].decode())
        assert total(series, "authly_exporter_directory_up") == 0
        assert not directory.exists()

        directory.mkdir(mode=0o700, parents=True)
        with Console(
            "from pathlib import Path\n"
            "from authly.monitoring.multiprocess import values\n"
            f"values.install(Path({str(directory)!r}))\n"
            "from prometheus_client import Counter\n"
            "Counter('x', 'X.').inc(5)\n"
        ):
            series = parse(get(f"http://{address}/metrics")[2].decode())
        assert total(series, "authly_exporter_directory_up") == 1
        assert total(series, "x_total") == 5

        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_sidecar_takes_nothing_from_the_instance(make_instance: MakeInstance, tmp_path: Path) -> None:
    """It counts what the instance's own exporter counts; it leaves no file, and an instance can start after it."""
    directory = tmp_path / "metrics"
    directory.mkdir(mode=0o700)
    with sidecar(tmp_path, "--directory", str(directory), "--json", AUTHLY_LOG_FORMAT="console") as (_, address, log):
        assert json.loads(log.read_text())["level"] == "info"
        assert os.listdir(directory) == []
        instance = make_instance(AUTHLY_WORKERS="1", PROMETHEUS_MULTIPROC_DIR=str(directory)).start()
        for _ in range(5):
            assert instance.get(PAGE)[0] == 200
        files = sorted(os.listdir(directory))
        series = parse(get(f"http://{address}/metrics")[2].decode())
        assert total(series, COUNTER, endpoint=PAGE) == total(instance.series(), COUNTER, endpoint=PAGE) == 5
        assert directories.owner(directory) is not None
        instance.stop()
        # What the end of the instance leaves is still told.
        series = parse(get(f"http://{address}/metrics")[2].decode())
        assert total(series, COUNTER, endpoint=PAGE) == 5
        assert set(os.listdir(directory)) <= set(files)
        assert directories.owner(directory) is None


def test_a_sidecar_whose_address_is_taken(instance: Instance) -> None:
    """One line says where it could not listen and what to do; the exit code is 1."""
    done = subprocess.run([*AUTHLY, "serve"], env=instance.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"cannot listen at {instance.metrics_address} (Address already in use)" in done.stderr
    assert "--bind" in done.stderr
