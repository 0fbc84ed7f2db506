"""A storm of signals under load: nothing that was counted is lost, and every scrape is answered."""

import http.client
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.instance import Instance, Series, parse, total
from tests.processes import children, is_alive, wait_until

KILLS = 50
CLIENTS = 3
# Not the page that tests ask to see whether an instance lives: each request for this one is accounted for.
PATH = "/login"
FILE_TYPES = {
    *("counter", "histogram", "gauge_livemax", "gauge_livemin", "gauge_livesum", "gauge_max"),
    "gauge_mostrecent",
}

# What an exporter says of itself, and of the processes of its own master: after SIGUSR2 two masters have one each,
# which answer by turns.
OF_ONE_MASTER = (
    "authly_context_switches",
    "authly_cpu_seconds",
    "authly_exporter_",
    "gunicorn_worker_cpu_seconds",
)


class Load:
    """Clients that ask for one page, each on a connection of its own until that breaks.

    Counts what was begun to be sent and what was answered in full.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(CLIENTS)]
        self._lock = threading.Lock()
        self.sent = 0
        self.answered = 0

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for the last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        random_ = random.Random(seed)
        while not self._stop.is_set():
            connection = http.client.HTTPConnection(self._address, timeout=10)
            try:
                self._ask(connection, random_)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection, random_: random.Random) -> None:
        connection.connect()
        for _ in range(random_.randint(1, 50)):
            if self._stop.is_set():
                return
            with self._lock:
                self.sent += 1
            connection.request("GET", PATH)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            with self._lock:
                self.answered += 1
            # More of them would only wait for one another: the workers share what processors there are.
            time.sleep(random_.uniform(0, 0.03))


class Watch:
    """A scraper that polls twenty times a second and looks for what must never be."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._last: Series = {}
        self.masters = [instance.master]
        self.scrapes = 0
        self.failures: list[str] = []
        self.falls: list[str] = []
        self.most_processes = 0
        self.most_files = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after one more scrape."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                status, _, body = self._instance.scrape()
                self.scrapes += 1
                if status != 200:
                    self.failures.append(f"status {status}")
                else:
                    self._compare(parse(body.decode()))
            except (OSError, ValueError) as error:
                self.failures.append(repr(error))
            self._count()
            time.sleep(max(0.0, 0.05 - (time.monotonic() - started)))

    def _compare(self, now: Series) -> None:
        # The exporter's own counters begin anew with each exporter, as any process's do, and the CPU time of a worker.
        counters = {
            key: value
            for key, value in now.items()
            if key[0].endswith(("_total", "_bucket", "_count", "_sum")) and not key[0].startswith(OF_ONE_MASTER)
        }
        for key, before in self._last.items():
            after = counters.get(key)
            if after is None or after < before:
                self.falls.append(f"{key}: {before} -> {after}")
        self._last = counters

    def _count(self) -> None:
        # Before the files: a process that ends between the two leaves its files behind.
        processes = sum(
            1 for master in self.masters for child in children(master) if child not in self._instance.exporters(master)
        )
        self.most_processes = max(self.most_processes, processes)
        self.most_files = max(self.most_files, len(files_of_workers(self._instance)))


def files_of_workers(instance: Instance) -> list[str]:
    """Return the metric files of workers; a master has one of its own."""
    return [name for name in os.listdir(instance.directory) if name.endswith(".db") and "_s" in name]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("worker_class", "options"), [("uvicorn", ()), ("asgi", ("--preload",))])
def test_storm(worker_class: str, options: tuple[str, ...], make_instance: Callable[..., Instance]) -> None:
    """Through kills, recycling, reload, scaling and upgrade, counters never fall and every scrape is answered.

    Workers import the application after the fork, or before, where they are back at once.
    """
    random_ = random.Random(worker_class)
    instance = make_instance(*options, AUTHLY_WORKER_CLASS=worker_class, AUTHLY_MAX_REQUESTS="100").start()
    wait_until(lambda: len(instance.workers()) == 3)
    before = instance.series()
    counted_before = total(before, "authly_http_requests_total", endpoint=PATH)
    load, watch = Load(instance.address), Watch(instance)
    load.start()
    watch.start()
    try:
        kills = 0
        master = instance.master
        events: dict[int, Callable[[], None]] = {
            8: lambda: os.kill(master, signal.SIGHUP),
            16: lambda: os.kill(master, signal.SIGTTIN),
            22: lambda: os.kill(master, signal.SIGTTOU),
        }
        while kills < KILLS:
            workers = [pid for each in watch.masters for pid in instance.workers(each)]
            if workers:
                kills += _kill(random_.choice(workers))
                events.pop(kills, lambda: None)()
            if kills == 30 and len(watch.masters) == 1:
                watch.masters.append(_upgrade(instance, master))
            if kills == 35 and is_alive(master) and watch.masters[0] == master:
                # The old master lets its workers finish, and goes.
                os.kill(master, signal.SIGTERM)
                wait_until(lambda: instance.process.poll() is not None, 20)
                watch.masters.remove(master)
            time.sleep(random_.uniform(0.05, 0.25))
        # Let the dust settle: three workers that answer, and at least one of them recycled, after 110 requests at most.
        wait_until(lambda: len(instance.workers(watch.masters[-1])) == 3 and instance.is_live(), 30)
        calm = load.answered
        wait_until(lambda: load.answered > calm + 330, 60)
    finally:
        load.stop()
        watch.stop()
    after = instance.series()
    counted = total(after, "authly_http_requests_total", endpoint=PATH) - counted_before
    print(  # noqa: T201
        f"{worker_class}: {kills} kills, {load.sent} sent, {counted:.0f} counted, {load.answered} answered, "
        f"{watch.scrapes} scrapes, {watch.most_processes} processes and {watch.most_files} files at most"
    )
    assert watch.failures == []
    assert watch.falls == []
    assert load.answered <= counted <= load.sent
    wait_until(lambda: total(instance.series(), "authly_http_requests_in_progress") == 0)
    # Both masters kept book: who began and did not end lives, once nobody is on the way from the one to the other.
    wait_until(lambda: is_balanced(instance.series()))
    assert total(after, "gunicorn_worker_exits_total", reason="signal") <= kills
    assert {name.rpartition("_s")[0] for name in files_of_workers(instance)} == FILE_TYPES
    assert watch.most_files <= len(FILE_TYPES) * watch.most_processes


def is_balanced(series: Series) -> bool:
    """Tell whether as many workers live as began and did not end."""
    begun, ended = (total(series, f"gunicorn_worker_{what}_total") for what in ("starts", "exits"))
    return begun - ended == total(series, "gunicorn_workers", state="alive")


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def _upgrade(instance: Instance, master: int) -> int:
    """Let the master execute itself anew, and return the process id of the new one once it has workers."""
    known = set(children(master))
    os.kill(master, signal.SIGUSR2)
    found: list[int] = []

    def has_new_master() -> bool:
        found[:] = [child for child in children(master) if child not in known and len(instance.workers(child)) >= 3]
        return bool(found)

    wait_until(has_new_master, 20)
    return found[0]


def test_a_connection_waits_while_the_exporter_is_replaced(make_instance: Callable[..., Instance]) -> None:
    """A killed exporter answers again within two seconds, and nobody's connection is refused meanwhile."""
    instance = make_instance(AUTHLY_WORKERS="1").start()
    (exporter,) = instance.exporters()
    os.kill(exporter, signal.SIGKILL)
    wait_until(lambda: not is_alive(exporter))
    started = time.monotonic()
    with socket.create_connection(instance.metrics_address.split(":"), timeout=5) as connection:  # type: ignore[arg-type]
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert time.monotonic() - started < 2
    assert instance.exporters() != [exporter]
