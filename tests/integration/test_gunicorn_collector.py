"""What is told of Gunicorn while it runs: the examples with every class of workers, queues, heartbeats, hangs."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authly.monitoring.multiprocess import lease
from tests.applications import EXAMPLE_OF, ApplicationInstance
from tests.instance import Series, get, parse, total
from tests.processes import kill, wait_until
from tests.prometheus import Prometheus

MakeApplication = Callable[..., ApplicationInstance]

TEMPLATES = {"flask": "/hello/<name>", "fastapi": "/hello/{name}"}


def by_slot(series: Series, name: str) -> dict[int, float]:
    """Return the values of a metric of workers, by slot."""
    return {int(dict(labels)["worker"]): value for (found, labels), value in series.items() if found == name}


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop processes, and let them go on at the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module", params=EXAMPLE_OF)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApplicationInstance]:
    """Run an example with each worker class, whose workers beat every few seconds."""
    instance = ApplicationInstance(tmp_path_factory.mktemp("example"), request.param, ("--timeout", "10"))
    try:
        instance.start()
        wait_until(instance.is_complete, 30)
        yield instance
    finally:
        instance.stop()
        print(f"--- log of {request.param}\n{instance.log()}")  # noqa: T201


def test_prometheus_gets_the_totals_of_an_example(example: ApplicationInstance, tmp_path: Path) -> None:
    """A real Prometheus has as many requests as an example answered, by template, after a worker's death too."""
    instance = example
    template = TEMPLATES[EXAMPLE_OF[instance.worker_class]]
    before = total(instance.series(), "greetings_total")
    prometheus = Prometheus(tmp_path, instance.metrics_address)
    try:
        for number in range(40):
            status, _, body = instance.get(f"/hello/visitor-{number}")
            assert (status, body.replace(b" ", b"").strip()) == (200, b'{"hello":"visitor-%d"}' % number)
            assert instance.get(f"/nowhere/{number}")[0] == 404
            if number == 20:
                kill(instance.workers()[0])
                wait_until(lambda: instance.exits() == {"signal": 1} and instance.is_complete(), 30)
        expected = {
            "greetings_total": before + 40,
            f'http_requests_total{{endpoint="{template}",method="GET",status_code="200"}}': before + 40,
            'http_requests_total{endpoint="unmatched",method="GET",status_code="404"}': 40,
            "sum(http_requests_in_progress)": 0,
            "sum(gunicorn_worker_requests_in_progress)": 0,
            'gunicorn_workers{state="alive"}': 3,
            'gunicorn_worker_exits_total{reason="signal"}': 1,
            "gunicorn_worker_starts_total": 4,
            "count(gunicorn_worker_memory_bytes > 10e6)": 3,
            "count(gunicorn_worker_cpu_seconds_total > 0)": 3,
            "count(gunicorn_worker_heartbeat_age_seconds)": 3,
            "max_over_time(up[1m])": 1,
        }
        for query, value in expected.items():
            wait_until(lambda query=query, value=value: prometheus.value(query) == value)  # type: ignore[misc]
        # A killed worker may not have noted how long its last request took; all others have.
        took = prometheus.value(f'http_request_duration_seconds_count{{endpoint="{template}"}}')
        assert took in {before + 39, before + 40}
    finally:
        prometheus.stop()


@pytest.mark.parametrize("worker_class", ["sync", "asgi"])
def test_connections_that_wait_show_while_all_workers_are_stopped(
    worker_class: str, make_application: MakeApplication, tmp_path: Path
) -> None:
    """With every worker stopped, and the master too, one scrape says how many wait, at TCP and at Unix sockets."""
    path = tmp_path / "app.sock"
    options = ("--workers", "2", "--backlog", "100", "--bind", f"unix:{path}")
    instance = make_application(worker_class, *options).start()
    wait_until(instance.is_complete, 30)
    host, port = instance.address.split(":")
    tcp, unix = {"listener": instance.address}, {"listener": f"unix:{path}"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped(*instance.workers(), instance.master))
        for _ in range(50):
            stack.enter_context(socket.create_connection((host, int(port))))
        for _ in range(20):
            stack.enter_context(contextlib.closing(client := socket.socket(socket.AF_UNIX)))
            client.connect(str(path))
        began = time.monotonic()
        status, _, body = instance.scrape()
        took = time.monotonic() - began
        series = parse(body.decode())
        assert status == 200
        assert took < 1
        assert total(series, "gunicorn_listen_backlog", **tcp) == 50
        assert total(series, "gunicorn_listen_backlog", **unix) == 20
        for listener in (tcp, unix):
            assert total(series, "gunicorn_listen_backlog_max", **listener) == 100
        assert total(series, "gunicorn_workers", state="alive") == 2
    # Those that waited went away unserved; nobody waits any more.
    wait_until(lambda: total(instance.series(), "gunicorn_listen_backlog") == 0)


def test_connections_that_wait_show_where_each_worker_listens_for_itself(make_application: MakeApplication) -> None:
    """With `reuse_port` the queues of all workers add up to that of the address."""
    instance = make_application("sync", "--workers", "3", "--reuse-port").start()
    wait_until(instance.is_complete, 30)
    host, port = instance.address.split(":")
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped(*instance.workers()))
        for _ in range(30):
            stack.enter_context(socket.create_connection((host, int(port))))
        series = instance.series()
        assert total(series, "gunicorn_listen_backlog", listener=instance.address) == 30
        assert total(series, "gunicorn_listen_backlog_max", listener=instance.address) == 3 * 2048


def test_the_heart_of_a_stopped_worker_does_not_beat(example: ApplicationInstance) -> None:
    """While one worker is stopped its heartbeat ages, and those of all others are renewed."""
    instance = example
    slots = {lease.holder_pid(instance.directory, slot): slot for slot in lease.held_slots(instance.directory)}
    victim = instance.workers()[1]
    with stopped(victim):
        began = time.monotonic()

        def others_have_beaten() -> bool:
            since = time.monotonic() - began
            ages = by_slot(instance.series(), "gunicorn_worker_heartbeat_age_seconds")
            assert ages.pop(slots[victim]) >= since
            return len(ages) == 2 and max(ages.values()) < since

        wait_until(others_have_beaten)


SLOW = {
    "sync": """
import time
from pathlib import Path
from flask import Flask
from authly.monitoring.instruments import Instruments
from authly.monitoring.request_metrics import RequestMetrics
from authly.monitoring.wsgi_middleware import WSGIMetricsMiddleware

app = Flask(__name__)
app.wsgi_app = WSGIMetricsMiddleware(app.wsgi_app, RequestMetrics(Instruments("slow")))

@app.get("/")
def index():
    return "done"

@app.get("/slow")
def slow():
    while not Path("go-on").exists():
        time.sleep(0.01)
    return "done"
""",
    "asgi": """
import asyncio
from pathlib import Path
from fastapi import FastAPI
from authly.monitoring.middleware import MetricsMiddleware
from authly.monitoring.instruments import Instruments
from authly.monitoring.request_metrics import RequestMetrics

app = FastAPI()
app.add_middleware(MetricsMiddleware, metrics=RequestMetrics(Instruments("slow")))

@app.get("/")
async def index():
    return "done"

@app.get("/slow")
async def slow():
    while not Path("go-on").exists():
        await asyncio.sleep(0.01)
    return "done"
""",
}


@pytest.mark.produces("gunicorn_workers", state=("busy",))
@pytest.mark.parametrize("worker_class", SLOW)
def test_a_request_shows_at_its_worker_while_it_lasts(worker_class: str, make_application: MakeApplication) -> None:
    """One of two workers is busy, with one request; when it is answered, none is."""
    instance = make_application(worker_class, "--workers", "2", source=SLOW[worker_class], probe="/").start()
    wait_until(instance.is_complete, 30)
    name = "gunicorn_worker_requests_in_progress"
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(get(f"http://{instance.address}/slow")[0]))
    client.start()
    try:
        wait_until(lambda: sorted(by_slot(instance.series(), name).values()) == [0, 1])
        assert instance.state("busy") == 1
    finally:
        (instance.folder / "go-on").touch()
        client.join()
    assert answers == [200]
    wait_until(lambda: sorted(by_slot(instance.series(), name).values()) == [0, 0])
    assert instance.state("busy") == 0
