"""Why workers end: each reason provoked for real, under every class of workers, and named by the counter."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.applications import UVICORN, ApplicationInstance, every_worker_class
from tests.cgroup import limited_memory
from tests.instance import get, total
from tests.processes import is_alive, kill, wait_until
from tests.vocabulary import observe, series_of

MakeApplication = Callable[..., ApplicationInstance]

# Where what happens is the master's doing: one that serves WSGI, and one that serves ASGI.
two_worker_classes = pytest.mark.parametrize("worker_class", ["sync", UVICORN])

# Serves WSGI and ASGI alike, whichever it is called by; does what its path says.
APPLICATION = """
import ctypes, os, sys, time
from pathlib import Path

while Path("take-time").exists():
    time.sleep(0.01)

if Path("refuse-to-load").exists():
    raise RuntimeError("on purpose")
if Path("exit-at-load").exists():
    sys.exit(7)

def act(path):
    if path == "/crash":
        ctypes.string_at(0)
    elif path == "/exit":
        os._exit(7)
    elif path == "/memory":
        hoard = [b"x" * (1 << 20) for _ in range(4096)]
    return str(os.getpid()).encode()

def wsgi(environ, start_response):
    body = act(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = act(scope["path"])
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
SERVED = {"sync": "wsgi", "gthread": "wsgi", "asgi": "asgi", UVICORN: "asgi"}


@pytest.fixture
def make(make_application: MakeApplication) -> MakeApplication:
    """Return what makes an instance of the application above."""

    def make(worker_class: str, *options: str) -> ApplicationInstance:
        source = f"{APPLICATION}\napp = {SERVED[worker_class]}\n"
        options = ("--workers", "2", "--graceful-timeout", "10", *options)
        return make_application(worker_class, *options, source=source, probe="/")

    return make


def request(instance: ApplicationInstance, path: str) -> None:
    """Ask for a page; whether there is an answer does not matter."""
    with contextlib.suppress(OSError):
        get(f"http://{instance.address}{path}")


def counts(instance: ApplicationInstance, expected: dict[str, float]) -> None:
    """Wait until the workers are complete again, and exactly these exits have been counted."""
    wait_until(lambda: sum(instance.exits().values()) >= sum(expected.values()), 30)
    wait_until(instance.is_complete, 30)
    assert instance.exits() == expected


@pytest.mark.produces(
    "gunicorn_worker_exits_total", reason=("crash", "max_requests", "reload", "scale_down", "signal", "timeout")
)
@pytest.mark.produces("gunicorn_workers", state=("booting",))
@every_worker_class
def test_each_end_that_a_service_survives_is_named(worker_class: str, make: MakeApplication) -> None:
    """Recycled, aborted, killed, told to end, crashed, scaled down, reloaded: the counter names each, and no other."""
    instance = make(worker_class, "--timeout", "4", "--max-requests", "40").start()
    wait_until(instance.is_complete, 30)
    exits: dict[str, float] = {}
    series = instance.series()
    assert total(series, "gunicorn_worker_starts_total") == 2
    assert instance.exits(series) == {}

    def happened(reason: str, times: int = 1) -> None:
        exits[reason] = exits.get(reason, 0.0) + times
        counts(instance, exits)

    kill(instance.workers()[0])
    happened("signal")
    # Uvicorn dies of it, Gunicorn's own workers end with 0, as those do that have served their time.
    os.kill(instance.workers()[0], signal.SIGTERM)
    happened("signal")
    request(instance, "/crash")
    happened("crash")
    request(instance, "/exit")
    happened("crash")
    os.kill(instance.workers()[0], signal.SIGSTOP)
    happened("timeout")
    (instance.folder / "take-time").touch()
    instance.signal(signal.SIGTTIN)
    wait_until(lambda: instance.state("booting") == 1, 30)
    (instance.folder / "take-time").unlink()
    wait_until(lambda: instance.state("alive") == 3 and instance.is_complete(), 30)
    instance.signal(signal.SIGTTOU)
    happened("scale_down")
    instance.signal(signal.SIGHUP)
    happened("reload", 2)
    assert total(instance.series(), "gunicorn_reloads_total") == 1
    for _ in range(1000):
        if instance.exits().get("max_requests"):
            break
        request(instance, "/")
    wait_until(instance.is_complete, 30)
    found = instance.exits()
    assert found.pop("max_requests") in {1, 2}
    assert found == exits

    def adds_up() -> bool:
        # The other worker may have served its time as well, and be on its way out.
        series = instance.series()
        ended = sum(instance.exits(series).values())
        return total(series, "gunicorn_worker_starts_total") == ended + total(series, "gunicorn_workers", state="alive")

    wait_until(adds_up)


@pytest.mark.produces("gunicorn_worker_exits_total", reason=("shutdown",))
@two_worker_classes
def test_the_end_of_an_upgraded_master_s_workers_is_a_shutdown(worker_class: str, make: MakeApplication) -> None:
    """After SIGUSR2 both masters show, the end of the old one is counted by both together, and no counter falls."""
    instance = make(worker_class).start()
    wait_until(instance.is_complete, 30)
    kill(instance.workers()[0])
    counts(instance, {"signal": 1})
    began = total(instance.series(), "gunicorn_master_start_time_seconds")
    old = instance.master
    instance.signal(signal.SIGUSR2)
    wait_until(lambda: instance.state("alive") == 4 and instance.is_complete(), 30)
    series = instance.series()
    assert total(series, "gunicorn_upgrade_in_progress") == 1
    assert total(series, "gunicorn_worker_starts_total") == 5
    assert total(series, "gunicorn_master_start_time_seconds") > began
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: instance.process.poll() is not None, 30)
    # The exporter of the old master answers until it ends; the new one's has the port from then on.
    wait_until(lambda: instance.state("alive") == 2 and instance.is_complete(), 30)
    wait_until(lambda: total(instance.series(), "gunicorn_upgrade_in_progress") == 0, 30)
    assert instance.exits() == {"signal": 1, "shutdown": 2}
    assert total(instance.series(), "gunicorn_worker_starts_total") == 5


@pytest.mark.produces("gunicorn_worker_exits_total", reason=("boot_error",))
@pytest.mark.parametrize("how", ["refuse-to-load", "exit-at-load"])
@two_worker_classes
def test_a_worker_that_cannot_load_its_application_is_a_boot_error(
    worker_class: str, how: str, make: MakeApplication
) -> None:
    """One that raises stops the service, and is counted in the file all the same; one that exits is tried again."""
    instance = make(worker_class).start()
    wait_until(instance.is_complete, 30)
    (instance.folder / how).touch()
    survivor, victim = instance.workers()
    kill(victim)
    if how == "exit-at-load":
        wait_until(lambda: instance.exits().get("boot_error", 0) >= 2, 30)
        (instance.folder / how).unlink()
        wait_until(instance.is_complete, 30)
        assert set(instance.exits()) == {"signal", "boot_error"}
        assert is_alive(survivor)
    else:
        instance.process.wait(30)
        assert left_behind(instance) == {"signal": 1, "boot_error": 1, "shutdown": 1}


def left_behind(instance: ApplicationInstance) -> dict[str, float]:
    """Return the exits in the directory of an instance that has ended, by prometheus-client's own collector."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(instance.directory))  # type: ignore[no-untyped-call]
    observe(series_of(registry.collect()))
    return {
        sample.labels["reason"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "gunicorn_worker_exits_total" and sample.value
    }


@pytest.mark.produces("gunicorn_worker_exits_total", reason=("out_of_memory",))
@pytest.mark.parametrize("worker_class", ["sync", "asgi"])
def test_a_worker_that_the_kernel_kills_for_its_memory_is_named(worker_class: str, make: MakeApplication) -> None:
    """In a control group with little memory, a worker that takes too much is told from one killed by hand."""
    with limited_memory(384 << 20) as group:
        instance = make(worker_class)
        instance.command = ["/bin/sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$0" "$@"', *instance.command]
        try:
            instance.start()
            wait_until(instance.is_complete, 30)
            kill(instance.workers()[0])
            counts(instance, {"signal": 1})
            for times in (1, 2):
                request(instance, "/memory")
                counts(instance, {"signal": 1, "out_of_memory": times})
            kill(instance.workers()[0])
            counts(instance, {"signal": 2, "out_of_memory": 2})
        finally:
            instance.stop()
            wait_until(lambda: not (group / "cgroup.procs").read_text(), 10)


def test_several_workers_killed_at_once_are_each_seen(make: MakeApplication) -> None:
    """Twelve workers killed in one go are twelve signals, whenever the master gets to see them."""
    instance = make("sync", "--workers", "12").start()
    wait_until(instance.is_complete, 30)
    for times in (12, 24):
        for pid in instance.workers():
            kill(pid)
        counts(instance, {"signal": times})


RECYCLES = 500
# Loaded before the fork, and left alone by Python's collector, so that a recycled worker costs next to nothing; and
# without the random pause between two starts, of which Gunicorn makes up to 0.1 s, and which would be all that the test
# does.
SMALL = f"""
import gc, gunicorn.arbiter, prometheus_client, prometheus_client.mmap_dict, authly.monitoring.multiprocess.values
from types import SimpleNamespace
gunicorn.arbiter.random = SimpleNamespace(random=lambda: 0.0)
gc.freeze()
{APPLICATION}
app = wsgi
"""


@pytest.mark.timeout(300)
def test_five_hundred_recycles_leave_the_number_of_series(make_application: MakeApplication) -> None:
    """Workers recycled 500 times leave as many series and files as before, and all are counted as what they were."""
    # Gunicorn waits that long for a worker that missed its SIGTERM, because it was starting.
    options = ("--workers", "4", "--max-requests", "1", "--preload", "--graceful-timeout", "3")
    instance = make_application("sync", *options, source=SMALL, probe="/").start()
    wait_until(instance.is_complete, 30)

    def names() -> set[object]:
        found = instance.series()
        return {key for key in found if key[0].startswith("gunicorn_")}

    def files() -> list[str]:
        return sorted(os.listdir(instance.directory))

    wait_until(lambda: instance.is_complete() and len(instance.exits()) == 1, 30)
    before, files_before, memory_before = names(), files(), resident(instance.master)

    def ask() -> None:
        answered = 0
        while answered < RECYCLES / 4:
            with contextlib.suppress(OSError):
                answered += get(f"http://{instance.address}/")[0] == 200

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    wait_until(lambda: instance.exits()["max_requests"] >= RECYCLES, 30)
    wait_until(instance.is_complete, 30)
    assert set(instance.exits()) == {"max_requests"}
    # The last ones to be asked may still be on their way out.
    wait_until(lambda: names() == before, 30)
    assert files() == files_before
    # Python's allocator may take another arena; a few kilobytes for each worker would be far more.
    assert resident(instance.master) < memory_before + (2 << 20)


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
