"""The whole application, as ``authly serve`` runs it, with two workers and an embedded PostgreSQL."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.agent import REPOSITORY, AgentError
from benchmarks.latency import free_ports, latencies_of

_START_SECONDS = 60.0


class Instance(NamedTuple):
    """A running Authly.

    Args:
        address: of the application.
        environment: its own, for commands that work on it.
        log: where it writes to.
    """

    address: str
    environment: dict[str, str]
    log: Path


@contextmanager
def authly(**settings: str) -> Iterator[Instance]:
    """Run Authly.

    Args:
        settings: variables of the environment, besides those that say where it is.
    """
    address, metrics_address = (f"127.0.0.1:{port}" for port in free_ports(2))
    with tempfile.TemporaryDirectory(prefix="authly-") as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AUTHLY_")},
            "PYTHONPATH": str(REPOSITORY / "src"),
            "AUTHLY_BIND": address,
            "AUTHLY_METRICS_BIND": metrics_address,
            "AUTHLY_STATE_DIR": str(Path(folder) / "state"),
            "AUTHLY_WORKERS": "2",
            **settings,
        }
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "authly.cli", "serve"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        try:
            _wait_until_ready(process, address, log)
            yield Instance(address, environment, log)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def administer(instance: Instance, *arguments: str) -> Any:
    """Return what a command of ``authly admin`` says."""
    command = [sys.executable, "-m", "authly.cli", "admin", *arguments, "--json"]
    return json.loads(subprocess.check_output(command, env=instance.environment))


def _wait_until_ready(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            latencies_of(address, 0.1, 0.01, "/health/ready")
        except (OSError, AgentError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AgentError(f"Authly does not start:\n{log.read_text()}") from error
            time.sleep(0.1)
        else:
            return
