"""Python processes for tests, forked from one that has imported what they need.

Most of them live for a shorter time than it takes Python to start and to import prometheus-client, which is thirty
times what a fork takes. Each is an interpreter that has done nothing but import, and it ends as any other does. What
forks them starts no thread and keeps no metrics; it tells what each ended with, as only a parent knows.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

_REPOSITORY = Path(__file__).parent.parent
_REQUEST_BYTES = 1 << 16


class Forked:
    """A process that executes code, with the environment and the working directory of the one that asks for it.

    Args:
        code: what it executes.
        files: descriptors of its standard input, output and error.
    """

    def __init__(self, code: str, files: tuple[int, int, int]) -> None:
        self._returncode: int | None = None
        request = json.dumps({"code": code, "environment": dict(os.environ), "folder": str(Path.cwd())}).encode()
        assert len(request) < _REQUEST_BYTES
        self._told, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            socket.send_fds(_parent(), [request], [its_end.fileno(), *files])
        self.pid = int(self._told.recv(16))

    def poll(self) -> int | None:
        """Return what it ended with, as ``subprocess`` has it; None if it has not ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return what it ended with.

        Raises:
            subprocess.TimeoutExpired: it has not ended in so many seconds.
        """
        if self._returncode is None:
            self._told.settimeout(timeout)
            try:
                self._returncode = int(self._told.recv(16))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            self._told.close()
        return self._returncode

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


@cache
def _parent() -> socket.socket:
    """Start what forks, once, and return where to ask; it ends with this process."""
    ours, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its_end:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", str(its_end.fileno())],
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            pass_fds=[its_end.fileno()],
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _main() -> None:
    """Fork what is asked for until nobody is there to ask; in what has been forked, do what it is there for."""
    # With it comes all of prometheus-client.
    from authly.monitoring.multiprocess import values  # noqa: F401

    requests = socket.socket(fileno=int(sys.argv[1]))
    ended, noticed = socket.socketpair()
    for end in (ended, noticed):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(noticed.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    askers: dict[int, socket.socket] = {}
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if ended in ready:
            ended.recv(4096)
            _tell_of_ends(askers)
        if requests not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 4)
        if not message:
            return
        asker, *files = descriptors
        pid = os.fork()
        if pid == 0:
            break
        for file in files:
            os.close(file)
        askers[pid] = socket.socket(fileno=asker)
        askers[pid].send(str(pid).encode())
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    selector.close()
    for left in (requests, ended, noticed, *askers.values()):
        left.close()
    os.close(asker)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    # In the names of the program, which live until the end of the process.
    exec(compile(request["code"], "<forked>", "exec"), globals())


def _tell_of_ends(askers: dict[int, socket.socket]) -> None:
    """Tell those who asked for processes that have ended, if they still want to know."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with askers.pop(pid) as asker, contextlib.suppress(BrokenPipeError):
                asker.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    _main()
