"""What goes wrong in a soak, and is set right again a moment later; drawn from a seed."""

import contextlib
import signal
import socket
import time
from collections.abc import Callable
from random import Random
from urllib.parse import urlsplit

from loadtests.disk import Disk
from loadtests.masters import Masters, send
from loadtests.sides import Side
from loadtests.valkey import Valkey

KILL = "worker killed"
# The name of a process that is not ours: what has it is read, found broken, and left out.
_CORRUPT = "counter_99999{}.db"
CORRUPT_FILES = 3
# A worker that could store nothing asks once a second whether there is room again, and its counts move with the next
# request; those of one that is killed before that are lost.
_DOUBT_SECONDS = 5.0


class Chaos:
    """Makes things go wrong.

    Args:
        one: the instance.
        masters: who is in charge of it.
        store: where it counts its limits.
        disk: where its metrics are; None if that is not to be filled.
        random: what is done follows from.
    """

    def __init__(self, one: Side, masters: Masters, store: Valkey, disk: Disk | None, random: Random) -> None:
        self._side = one
        self._masters = masters
        self._store = store
        self._disk = disk
        self._random = random
        self._corrupted = 0
        self._slow: list[socket.socket] = []
        # What is set right after the next mishap, so that the two overlap.
        self._repairs: list[Callable[[], object]] = []
        # From when to when nothing could be stored, in seconds since the epoch.
        self._full: list[tuple[float, float]] = []
        self._mishaps: list[tuple[float, str, Callable[[], bool]]] = [
            (10, KILL, self._kill_worker),
            (1, "reload (SIGHUP)", self._reload),
            (0.5, "upgrade (SIGUSR2)", masters.upgrade),
            (2, "exporter killed", self._kill_exporter),
            (1, "PostgreSQL restarted", self._restart_postgres),
            (1, "Valkey killed", self._kill_valkey),
            (1, "slow scraper", self._scrape_slowly),
            (1, "corrupt file", self._corrupt),
        ]
        if disk is not None:
            self._mishaps.append((1, "disk full", self._fill_disk))

    def act(self) -> str:
        """Do one thing, and set right what went wrong at the turn before; return what was done."""
        due, self._repairs = self._repairs, []
        weights = [weight for weight, _, _ in self._mishaps]
        _, name, do = self._random.choices(self._mishaps, weights)[0]
        done = do()
        for repair in due:
            repair()
        self._masters.settle()
        return name if done else ""

    def stop(self) -> None:
        """Set right what there is to be, and leave nothing open."""
        while self._repairs:
            self._repairs.pop()()
        while self._slow:
            self._slow.pop().close()

    def was_full(self, at: float) -> bool:
        """Tell whether the disk was full at a moment, in seconds since the epoch, or had just been."""
        return any(begin <= at <= end + _DOUBT_SECONDS for begin, end in self._full)

    def _kill_worker(self) -> bool:
        # Drawn by its place: process ids differ from run to run.
        place = self._random.random()
        found = self._masters.workers()
        return bool(found) and send(found[int(place * len(found))], signal.SIGKILL)

    def _reload(self) -> bool:
        return send(self._masters.now, signal.SIGHUP)

    def _kill_exporter(self) -> bool:
        killed = [send(pid, signal.SIGKILL) for pid in self._masters.exporters()]
        return any(killed)

    def _restart_postgres(self) -> bool:
        """Let the server end at once; its keeper starts it again."""
        # Where there is none, or nothing in it yet, it is being restarted.
        with contextlib.suppress(OSError, ValueError, IndexError):
            found = self._side.folder / "postgres/data/postmaster.pid"
            return send(int(found.read_text().split()[0]), signal.SIGINT)
        return False

    def _kill_valkey(self) -> bool:
        if not self._store.is_running:
            return False
        self._store.kill()
        self._repairs.append(self._store.start)
        return True

    def _scrape_slowly(self) -> bool:
        """Ask for the metrics, and read nothing of the answer."""
        address = urlsplit(self._side.metrics_url)
        for old in self._slow[:-3]:
            old.close()
        self._slow = self._slow[-3:]
        connection = socket.create_connection((address.hostname, address.port or 80), timeout=5)
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: slow\r\n\r\n")
        self._slow.append(connection)
        return True

    def _corrupt(self) -> bool:
        """Leave a broken file behind, as a process that is not ours could."""
        self._corrupted = self._corrupted % CORRUPT_FILES + 1
        content = self._random.randbytes(self._random.choice((0, 7, 4096, 65_536)))
        # Nobody can do that on a full disk.
        with contextlib.suppress(OSError):
            (self._side.directory / _CORRUPT.format(self._corrupted)).write_bytes(content)
            return True
        return False

    def _fill_disk(self) -> bool:
        disk, began = self._disk, time.time()
        if disk is None or disk.is_full:
            return False
        disk.fill()

        def free() -> None:
            disk.free()
            self._full.append((began, time.time()))

        self._repairs.append(free)
        return True
