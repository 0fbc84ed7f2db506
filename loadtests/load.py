"""Runs the load: Locust, in a process and an environment of its own."""

import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.agent import REPOSITORY, AgentError
from loadtests.books import Kind

# The interpreter of the environment that has Locust, where it is not the one that `make` makes.
_VARIABLE = "LOAD_PYTHON"
_MORE_SECONDS = 90.0


class Run(NamedTuple):
    """What a load came to.

    Args:
        started: seconds since the epoch.
        requests: seconds from the start at which each ended, its kind, and the milliseconds it took.
        scrapes: seconds from the start, status, milliseconds and bytes of each.
    """

    started: float
    requests: list[tuple[float, Kind, float]]
    scrapes: list[tuple[float, int, float, int]]


def python() -> Path:
    """Return the interpreter that has Locust.

    Raises:
        AgentError: there is none.
    """
    path = Path(os.environ.get(_VARIABLE) or REPOSITORY / ".venv-load/bin/python")
    if not path.exists():
        raise AgentError(f"Locust is not installed: {path} does not exist. Run: make .venv-load/.installed")
    return path


@contextmanager
def running(address: str, seeds: Path, seconds: float, *, users: int = 1, **options: object) -> Iterator["Load"]:
    """Start a load; it is ended with the block if it has not ended by itself.

    Args:
        address: of the application.
        seeds: the file of the seeds.
        seconds: how long.
        users: of a closed loop; where ``arrivals`` is given, this says nothing.
        options: ``LOAD_*`` variables in lower case, without ``LOAD_``.
    """
    with tempfile.TemporaryDirectory(prefix="authly-load-") as folder:
        records = Path(folder) / "records.json"
        chosen = {f"LOAD_{name.upper()}": str(value) for name, value in options.items()}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("LOAD_", "AUTHLY_"))},
            "PYTHONPATH": str(REPOSITORY),
            "LOAD_SEEDS": str(seeds),
            "LOAD_RECORDS": str(records),
            "LOAD_SECONDS": str(seconds),
            **chosen,
        }
        command = [
            *(str(python()), "-m", "locust", "-f", "loadtests/traffic/locustfile.py", "--headless"),
            *("--host", f"http://{address}", "--exit-code-on-error", "0", "--only-summary", "--loglevel", "WARNING"),
            # What has begun ends.
            *("--stop-timeout", "35"),
        ]
        if "LOAD_SHAPE" not in chosen and "LOAD_ARRIVALS" not in chosen:
            fixed = 1 if chosen.get("LOAD_METRICS_URL") else 0
            command += [
                "--users",
                str(users + fixed),
                "--spawn-rate",
                str(users + fixed),
                "--run-time",
                f"{math.ceil(seconds)}s",
            ]
        elif "LOAD_ARRIVALS" in chosen:
            command += ["--users", "2" if chosen.get("LOAD_METRICS_URL") else "1", "--spawn-rate", "2"]
        with (Path(folder) / "output").open("w+") as output:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                yield Load(process, records, Path(folder) / "output", time.monotonic() + seconds + _MORE_SECONDS)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()


class Load:
    """A load that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", records: Path, output: Path, deadline: float) -> None:
        self._process = process
        self._records = records
        self._output = output
        self._deadline = deadline

    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self._process.poll() is not None

    def result(self) -> Run:
        """Wait for the end; return what it came to.

        Raises:
            AgentError: it failed.
        """
        try:
            self._process.wait(max(1.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise AgentError("Locust does not end") from error
        if not self._records.exists():
            raise AgentError(f"Locust failed:\n{self._output.read_text()[-4000:]}")
        found: dict[str, Any] = json.loads(self._records.read_text())
        requests = [
            (at, Kind(method, endpoint, status), took) for at, method, endpoint, status, took in found["requests"]
        ]
        return Run(found["started"], requests, [tuple(scrape) for scrape in found["scrapes"]])


def run(address: str, seeds: Path, seconds: float, *, users: int = 1, **options: object) -> Run:
    """Run a load to its end."""
    with running(address, seeds, seconds, users=users, **options) as load:
        return load.result()
