"""What an instance uses: memory and processor time of master, workers and exporter, without the database."""

import contextlib
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

from benchmarks.exporter import processor_time
from benchmarks.reader import pss

_EXPORTER = b"authly.monitoring.exporter"


class Sample(NamedTuple):
    """A moment.

    Args:
        at: seconds since the epoch.
        memory: megabytes, the sum of the proportional set sizes.
        processor_seconds: used so far by the processes that live.
    """

    at: float
    memory: float
    processor_seconds: float


def exporters(master: int) -> list[int]:
    """Return the process ids of a master's exporter, of which there is one or none."""
    return [pid for pid in _children(master) if _EXPORTER in _command(pid)]


def workers(master: int) -> list[int]:
    """Return the process ids of a master's workers: forked, and so of its own command line and environment."""
    own = (_command(master), _environment(master))
    return [pid for pid in _children(master) if (_command(pid), _environment(pid)) == own]


def next_masters(master: int) -> list[int]:
    """Return the process ids of the masters that a master has executed (SIGUSR2): there is one or none."""
    # Gunicorn tells it who executed it.
    told = f"GUNICORN_PID={master}".encode()
    return [pid for pid in _children(master) if told in _environment(pid).split(b"\0")]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"X", "Z"}
    except OSError:
        return False


def _children(master: int) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _environment(pid: int) -> bytes:
    """Return the environment that a process was executed with, which its forked children show too."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def family(master: int) -> list[int]:
    """Return master, workers and exporter."""
    return [master, *workers(master), *exporters(master)]


def processor_seconds(master: int) -> float:
    """Return the processor time of all of them so far."""
    used = 0.0
    for pid in family(master):
        with contextlib.suppress(OSError):
            used += processor_time(pid)
    return used


def memory(master: int) -> float:
    """Return the proportional set sizes of all of them, in megabytes."""
    used = 0.0
    for pid in family(master):
        # One that is just ending has none.
        with contextlib.suppress(OSError, ValueError):
            used += pss(pid)
    return used


class Watch:
    """Takes samples of an instance, for the length of a block.

    Args:
        master: its process id.
        interval: seconds from one sample to the next.
    """

    def __init__(self, master: int, interval: float = 1.0) -> None:
        self.samples: list[Sample] = []
        self._master = master
        self._interval = interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        self.samples.append(Sample(time.time(), memory(self._master), processor_seconds(self._master)))
