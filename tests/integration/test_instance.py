"""One instance as an operator meets it: how it starts, what it survives, what it answers and what it logs."""

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instance import Instance, Series, get, parse, running, total
from tests.postgres import has_keeper, keeper_pid, postmaster_pid
from tests.processes import children, is_alive, kill, wait_until

MakeInstance = Callable[..., Instance]
CreateState = Callable[[Path], None]

AUTHLY = Path(sysconfig.get_path("scripts")) / "authly"
# What a worker answers by itself, at little cost.
PAGE = "/login"
COUNTER = "authly_http_requests_total"
# What an application under Gunicorn can do wrong: `gunicorn failing:app`, in the folder of the instance.
FAILING = """
from authly.main import app


@app.get("/fails")
async def fails() -> None:
    raise RuntimeError("on purpose")
"""

both_worker_classes = pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])


@pytest.fixture(scope="module", params=["uvicorn", "asgi"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Run an instance of each worker class with two workers, which lives on."""
    folder = tmp_path_factory.mktemp("instance")
    with running(folder, AUTHLY_WORKER_CLASS=request.param, AUTHLY_WORKERS="2") as instance:
        yield instance


only_asgi = pytest.mark.parametrize("served", ["asgi"], indirect=True)


def ask_often(instance: Instance, times: int) -> None:
    """Ask for the page so many times; each must be answered."""
    for _ in range(times):
        assert instance.get(PAGE)[0] == 200


def counted(series: Series) -> float:
    """Return how many requests for the page were counted."""
    return total(series, COUNTER, endpoint=PAGE, status_code="200")


def is_gone(address: str) -> bool:
    """Tell whether nobody listens at an address."""
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def log_lines(instance: Instance) -> list[dict[str, Any]]:
    """Return what was logged; fail on a line that is not a JSON object."""
    lines = [json.loads(line) for line in instance.log().splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def is_ready(instance: Instance) -> bool:
    """Tell whether a worker is ready."""
    return Instance.answers(f"http://{instance.address}/health/ready")


# The processes


@only_asgi
def test_a_killed_exporter_is_back_within_two_seconds_each_time(served: Instance) -> None:
    """Killed three times in a row, the exporter answers with the same totals within two seconds each time."""
    instance = served
    ask_often(instance, 5)
    before = counted(instance.series())
    assert before >= 5
    for _ in range(3):
        (exporter,) = instance.exporters()
        kill(exporter)
        wait_until(lambda old=exporter: not is_alive(old))  # type: ignore[misc]
        assert wait_until(lambda: Instance.answers(f"http://{instance.metrics_address}/-/healthy"), 5) < 2
        assert instance.exporters() != [exporter]
        assert counted(instance.series()) == before


def test_an_exporter_that_cannot_start_is_tried_at_growing_intervals(make_instance: MakeInstance) -> None:
    """An exporter that ends at its start is started again after 1 s, then 2 s, while Authly and its metrics answer."""
    # Gunicorn puts this into its own environment after its start: it breaks Python, but only that of the exporter.
    instance = make_instance("--env", "PYTHONHOME=/nonexistent", AUTHLY_WORKERS="1").start(exporter=False)
    wait_until(lambda: "starting it again in 1 s" in instance.log())
    wait_until(lambda: "starting it again in 4 s" in instance.log())
    assert instance.log().count("Booting exporter") == 3
    ask_often(instance, 5)
    status, _, body = instance.get("/metrics")
    assert status == 200
    assert counted(parse(body.decode())) == 5


@pytest.mark.serial  # two seconds are many, unless others start instances meanwhile
@both_worker_classes
def test_the_end_of_the_master_is_the_end_of_everything(
    worker_class: str, create_state: CreateState, make_instance: MakeInstance
) -> None:
    """Within two seconds of the master's SIGKILL nothing of it runs, and the same state can be started at once.

    An idle client does not change that; but Gunicorn's own `asgi` worker waits for idle connections to time out.
    """
    instance = make_instance(AUTHLY_WORKER_CLASS=worker_class, AUTHLY_WORKERS="2", AUTHLY_DATABASE_URL="")
    state = instance.folder / "state"
    create_state(state)
    instance.start()
    wait_until(lambda: len(instance.workers()) == 2 and is_ready(instance))
    with socket.create_connection(("127.0.0.1", int(instance.address.split(":")[1])), timeout=10) as idle:
        idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        if worker_class == "asgi":
            idle.close()
        left = [*instance.workers(), *instance.exporters(), postmaster_pid(state), keeper_pid(state)]
        assert len(left) == 5
        kill(instance.master)
        instance.process.wait(5)
        assert wait_until(lambda: not any(map(is_alive, left)), 10) < 2, [pid for pid in left if is_alive(pid)]
    assert is_gone(instance.metrics_address)
    assert not has_keeper(state)

    instance.start()
    wait_until(lambda: is_ready(instance))
    ask_often(instance, 5)
    assert counted(instance.series()) == 5
    instance.stop()
    wait_until(lambda: not has_keeper(state))


@pytest.mark.parametrize(
    ("worker_class", "way"),
    [
        ("uvicorn", "configuration"),
        ("uvicorn", "application"),
        ("uvicorn", "authly serve"),
        ("uvicorn", "preload"),
        # Without, all the other tests start it; with it, the storm starts it too.
        ("asgi", "preload"),
    ],
)
def test_every_way_to_start_serves_and_counts(
    worker_class: str, way: str, make_instance: MakeInstance, tmp_path: Path
) -> None:
    """Each documented command serves, and each request is counted once."""
    options = {"application": ("authly.main:app",), "preload": ("--preload",)}.get(way, ())
    environment = {"AUTHLY_WORKER_CLASS": worker_class, "AUTHLY_WORKERS": "2"}
    if way == "application":
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "elsewhere/metrics")
    instance = make_instance(*options, **environment)
    if way == "authly serve":
        instance.command = [str(AUTHLY), "serve"]
    instance.start()
    wait_until(lambda: len(instance.workers()) == 2)
    ask_often(instance, 20)
    assert counted(instance.series()) == 20
    assert any(name.startswith("counter_s") for name in os.listdir(instance.directory))
    assert (instance.directory == tmp_path / "elsewhere/metrics") == (way == "application")
    assert not [line for line in log_lines(instance) if line["level"] in {"error", "critical"}]


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_workers_share_what_they_import(options: tuple[str, ...], make_instance: MakeInstance) -> None:
    """The master imports for its workers, and most of their memory is shared; what follows the code imports itself."""
    instance = make_instance(*options, AUTHLY_WORKERS="2").start()
    wait_until(lambda: instance.log().count("Application startup complete.") == 2)
    # An extension module shows who has imported the application's modules.
    imported = "psycopg_binary" in Path(f"/proc/{instance.master}/maps").read_text()
    assert imported == (not options)
    for worker in instance.workers():
        rollup = Path(f"/proc/{worker}/smaps_rollup").read_text()
        own, shared = (
            int(re.findall(rf"^{kind}_Dirty: +(\d+) kB", rollup, re.MULTILINE)[0]) for kind in ("Private", "Shared")
        )
        assert (own < shared) == imported, rollup


def test_the_master_does_not_wait_for_its_database(create_state: CreateState, make_instance: MakeInstance) -> None:
    """While PostgreSQL takes its time to start, an exporter and a worker that end are back as soon as ever."""
    instance = make_instance(AUTHLY_WORKERS="1", AUTHLY_DATABASE_URL="")
    state = instance.folder / "state"
    create_state(state)
    instance.start()
    wait_until(lambda: is_ready(instance))
    keeper, server = keeper_pid(state), postmaster_pid(state)
    os.kill(keeper, signal.SIGSTOP)
    try:
        kill(server)
        wait_until(lambda: not is_alive(server))
        (exporter,), (worker,) = instance.exporters(), instance.workers()
        kill(exporter)
        kill(worker)
        wait_until(lambda: instance.exporters() not in ([], [exporter]), 8)
        wait_until(lambda: instance.workers() not in ([], [worker]), 8)
        assert instance.scrape()[0] == 200
    finally:
        os.kill(keeper, signal.SIGCONT)
    wait_until(lambda: is_ready(instance), 30)
    instance.stop()
    wait_until(lambda: not has_keeper(state))


def test_an_upgraded_master_joins_the_embedded_server(create_state: CreateState, make_instance: MakeInstance) -> None:
    """After SIGHUP and SIGUSR2 both masters use one PostgreSQL, which outlives the old one and ends with the new."""
    instance = make_instance(AUTHLY_WORKERS="1", AUTHLY_DATABASE_URL="")
    state = instance.folder / "state"
    create_state(state)
    instance.start()
    wait_until(lambda: is_ready(instance))
    server = postmaster_pid(state)
    ask_often(instance, 5)
    before = instance.workers()
    os.kill(instance.master, signal.SIGHUP)
    wait_until(lambda: len(instance.workers()) == 1 and instance.workers() != before, 20)

    known = set(children(instance.master))
    os.kill(instance.master, signal.SIGUSR2)
    found: list[int] = []

    def has_new_master() -> bool:
        found[:] = [pid for pid in children(instance.master) if pid not in known and instance.workers(pid)]
        return bool(found)

    wait_until(has_new_master, 20)
    new = found[0]
    assert postmaster_pid(state) == server
    os.kill(instance.master, signal.SIGTERM)
    assert instance.process.wait(15) == 0

    wait_until(lambda: is_ready(instance))
    assert postmaster_pid(state) == server
    assert is_alive(server)
    ask_often(instance, 5)
    assert counted(instance.series()) == 10
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not is_alive(new), 15)
    wait_until(lambda: not has_keeper(state) and not is_alive(server))


def test_an_exporter_whose_address_is_taken_waits_for_it(make_instance: MakeInstance) -> None:
    """Authly serves without the exporter's address, says who to ask, and takes it within six seconds of its release."""
    instance = make_instance(AUTHLY_WORKERS="1")
    host, port = instance.metrics_address.split(":")
    with socket.create_server((host, int(port))):
        instance.start(exporter=False)
        wait_until(lambda: instance.exporters() != [])
        ask_often(instance, 5)
        status, _, body = instance.get("/metrics")
        assert status == 200
        series = parse(body.decode())
        assert counted(series) == 5
        assert total(series, "authly_exporter_directory_up") == 1
        (line,) = [line for line in log_lines(instance) if line["level"] == "error"]
        for word in (instance.metrics_address, "another process listens there", "AUTHLY_METRICS_BIND"):
            assert word in line["event"]
    assert wait_until(lambda: Instance.answers(f"http://{instance.metrics_address}/-/healthy"), 10) < 6.5
    assert counted(instance.series()) == 5
    assert f"Metrics at: http://{instance.metrics_address}/metrics" in instance.log()


# The exposition on the application port


@only_asgi
def test_the_application_port_answers_as_the_exporter_does(served: Instance) -> None:
    """The application's /metrics has the exporter's totals, formats and encodings, and is not part of the API."""
    instance = served
    before = instance.series()
    ask_often(instance, 20)
    assert instance.get("/nowhere")[0] == 404
    expected = counted(before) + 20

    def comparable(series: Series) -> Series:
        # What asking itself changes: the exporter's own counters, and those of the requests for /metrics.
        return {
            key: value
            for key, value in series.items()
            if not key[0].startswith("authly_exporter_")
            and dict(key[1]).get("endpoint", "") in {PAGE, "unmatched"}
            and "in_progress" not in key[0]
        }

    here, there = (comparable(parse(ask("/metrics")[2].decode())) for ask in (instance.get, instance.scrape))
    assert here == there
    assert counted(here) == expected
    unmatched = {"endpoint": "unmatched", "status_code": "404"}
    assert total(here, COUNTER, **unmatched) == total(before, COUNTER, **unmatched) + 1

    for ask in (instance.get, instance.scrape):
        status, headers, body = ask("/metrics", headers={"Accept": "text/plain"})
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert b"# EOF" not in body
        asked = "application/openmetrics-text; version=1.0.0"
        status, headers, body = ask("/metrics", headers={"Accept": asked})
        assert status == 200
        assert headers["content-type"].startswith(f"{asked}; charset=utf-8")
        assert body.endswith(b"# EOF\n")
        status, headers, body = ask("/metrics", headers={"Accept-Encoding": "gzip"})
        assert (status, headers["content-encoding"]) == (200, "gzip")
        assert "accept-encoding" in headers["vary"].lower()
        assert int(headers["content-length"]) == len(body)
        assert counted(parse(gzip.decompress(body).decode())) == expected
    assert "/metrics" not in json.loads(instance.get("/openapi.json")[2])["paths"]


@pytest.mark.produces("authly_exporter_scrapes_total", outcome=("rate_limited",))
def test_the_rate_limit_is_one_for_all_workers(make_instance: MakeInstance) -> None:
    """Of 30 scrapes spread over three workers exactly the first ten are answered; the exporter's port has no limit."""
    instance = make_instance(AUTHLY_METRICS_RATE_LIMIT="10").start()
    wait_until(lambda: len(instance.workers()) == 3 and instance.log().count("Application startup complete") == 3)
    workers = instance.workers()
    answers = []
    began = time.monotonic()
    for number in range(6):
        # The one worker that runs has to answer.
        others = [pid for pid in workers if pid != workers[number % 3]]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda stopped=others: all(_is_stopped(pid) for pid in stopped))  # type: ignore[misc]
            answers += [instance.get("/metrics") for _ in range(5)]
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - began < 6, "in six seconds one more scrape would have been allowed"
    assert [status for status, _, _ in answers] == [200] * 10 + [429] * 20
    assert all(1 <= int(headers["retry-after"]) <= 6 for _, headers, _ in answers[10:])

    assert [instance.scrape()[0] for _ in range(15)] == [200] * 15
    assert total(instance.series(), "authly_exporter_scrapes_total", outcome="rate_limited") == 20


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_one_uvicorn_process_aggregates_by_itself(make_instance: MakeInstance) -> None:
    """Under plain Uvicorn there is no exporter, and /metrics answers all the same, at its path and within its limit."""
    instance = make_instance(AUTHLY_METRICS_PATH="/internal/metrics", AUTHLY_METRICS_RATE_LIMIT="2")
    host, port = instance.address.split(":")
    instance.command = [sys.executable, "-m", "uvicorn", "authly.main:app", "--host", host, "--port", port]
    instance.start(exporter=False)
    ask_often(instance, 5)
    status, headers, body = instance.get("/internal/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    series = parse(body.decode())
    assert counted(series) == 5
    assert total(series, "authly_exporter_directory_up") == 1
    assert [instance.get("/internal/metrics")[0] for _ in range(2)] == [200, 429]
    assert instance.get("/metrics")[0] == 404
    assert is_gone(instance.metrics_address)


def test_the_path_of_the_metrics_can_be_chosen(make_instance: MakeInstance) -> None:
    """AUTHLY_METRICS_PATH moves the exposition on both ports, and leaves nothing at /metrics."""
    instance = make_instance(AUTHLY_WORKERS="1", AUTHLY_METRICS_PATH="/internal/metrics").start()
    ask_often(instance, 5)
    for ask in (instance.get, instance.scrape):
        status, _, body = ask("/internal/metrics")
        assert status == 200
        assert counted(parse(body.decode())) == 5
        assert ask("/metrics")[0] == 404


# Metrics switched off


@pytest.mark.parametrize(("worker_class", "exists"), [("uvicorn", False), ("asgi", True)])
def test_metrics_switched_off_leave_no_trace(
    worker_class: str, exists: bool, make_instance: MakeInstance, tmp_path: Path
) -> None:
    """Without metrics there is no exporter, no file, no directory, not even a configured one, and /metrics is 404."""
    directory = tmp_path / "metrics"
    if exists:
        directory.mkdir()
    instance = make_instance(
        AUTHLY_WORKER_CLASS=worker_class,
        AUTHLY_WORKERS="2",
        AUTHLY_METRICS_ENABLED="false",
        PROMETHEUS_MULTIPROC_DIR=str(directory),
    ).start(exporter=False)
    wait_until(lambda: len(instance.workers()) == 2)
    ask_often(instance, 10)
    assert instance.get("/metrics")[0] == 404
    assert instance.exporters() == []
    assert is_gone(instance.metrics_address)
    assert directory.exists() == exists
    assert not exists or os.listdir(directory) == []
    assert not (instance.folder / "state/metrics").exists()


def test_the_middleware_is_there_only_with_metrics(tmp_path: Path) -> None:
    """Switched off, metrics are not in the way of a request: their middleware is not in the stack."""
    # In a process of its own: this one has decided by now where its metrics are.
    code = (
        "import os\n"
        "from authly.app import create_app\n"
        "for enabled in 'false', 'true':\n"
        "    os.environ['AUTHLY_METRICS_ENABLED'] = enabled\n"
        "    print(*(middleware.cls.__name__ for middleware in create_app().user_middleware))\n"
    )
    environment = {
        **os.environ,
        "AUTHLY_STATE_DIR": str(tmp_path / "state"),
        "AUTHLY_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    }
    stacks = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    without, with_metrics = (line.split() for line in stacks.stdout.splitlines())
    assert "LoggingMiddleware" in without
    assert "LoggingMiddleware" in with_metrics
    assert "MetricsMiddleware" not in without
    assert "MetricsMiddleware" in with_metrics


# Settings


# Two of many: what is wrong, and what is said of it, has tests of its own where settings are read.
WRONG = [
    ("AUTHLY_WORKERS", "many", "'many'", "a whole number from 1 to 256"),
    ("AUTHLY_DATABASE_URL", "mysql://u:secret@h/x", "mysql", "a postgresql:// URL"),
]


@pytest.mark.parametrize("launcher", ["gunicorn", "authly serve"])
@pytest.mark.parametrize(("variable", "value", "shown", "accepted"), WRONG)
def test_a_wrong_setting_stops_the_start_with_one_line(
    launcher: str, variable: str, value: str, shown: str, accepted: str, make_instance: MakeInstance
) -> None:
    """A wrong setting is one line with its name, what it holds (no password), and what it accepts; the status is 1."""
    instance = make_instance(**{variable: value})
    if launcher == "authly serve":
        instance.command = [str(AUTHLY), "serve"]
    instance.spawn()
    assert instance.process.wait(20) == 1
    (line,) = instance.log().splitlines()
    assert variable in line
    assert shown in line
    assert accepted in line
    assert "cret" not in line


# Correlation ids and logs


@both_worker_classes
def test_request_ids_and_log_lines(worker_class: str, make_instance: MakeInstance) -> None:
    """A sane X-Request-ID comes back on each kind of answer and stands in the log, every line of which is JSON."""
    instance = make_instance("failing:app", AUTHLY_WORKER_CLASS=worker_class, AUTHLY_WORKERS="1")
    (instance.folder / "failing.py").write_text(FAILING)
    instance.start()
    (worker,) = instance.workers()
    asked = [
        ("GET", "/health/live", 200),
        ("GET", "/health/ready", 503),
        ("GET", "/nowhere", 404),
        ("POST", "/health/live", 405),
        ("GET", "/fails", 500),
    ]
    for method, path, status in asked:
        given = f"Mine-{status}.x_y"
        url = f"http://{instance.address}{path}"
        got, headers, body = get(url, headers={"X-Request-ID": given}, method=method)
        assert (got, headers["x-request-id"]) == (status, given)
        got, headers, _ = get(url, method=method)
        assert got == status
        assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    assert json.loads(body)["error"] == "server_error"
    assert b"on purpose" not in body

    # Gunicorn's own lines: a reload, a killed worker, the end.
    os.kill(instance.master, signal.SIGHUP)
    wait_until(lambda: not is_alive(worker) and len(instance.workers()) == 1)
    kill(instance.workers()[0])
    wait_until(lambda: "SIGKILL" in instance.log() and instance.is_live())
    kill(instance.exporters()[0])
    wait_until(lambda: "starting it again" in instance.log())
    instance.stop()
    lines = log_lines(instance)
    assert {"gunicorn.error", "authly.request"} <= {line["logger"] for line in lines}
    for method, path, status in asked:
        (line,) = [
            line for line in lines if line["event"] == "request" and line.get("request_id") == f"Mine-{status}.x_y"
        ]
        assert (line["method"], line["path"], line["status"]) == (method, path, status)
    (failure,) = [line for line in lines if "exception" in line and line["request_id"] == "Mine-500.x_y"]
    assert "on purpose" in json.dumps(failure["exception"])
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", line["request_id"]) for line in lines if "request_id" in line)


def test_insane_request_ids_are_replaced(served: Instance) -> None:
    """An X-Request-ID that could forge headers or log lines is refused by the server, or replaced by a new one."""
    instance = served
    for number, value in enumerate(
        [
            b"",
            b"two words",
            b"x" * 129,
            b"a%0aForged: 1",
            b'a","level":"critical',
            "ä".encode(),
            b"a\tForged",
            b"a\n Forged: 1",
            b"a\r\n Forged: 1",
            b"a\rForged: 1",
            b"a\x00b",
        ]
    ):
        head = _ask_raw(instance, f"/insane/{number}", value).partition(b"\r\n\r\n")[0] + b"\r\n"
        status = int(head.split(b" ", 2)[1])
        ids = re.findall(rb"(?im)^x-request-id: *(.*?)\r$", head)
        assert b"Forged" not in head, value
        if status == 404:
            assert len(ids) == 1, value
            assert re.fullmatch(rb"[0-9a-f]{32}", ids[0]), value
        else:
            # Only for what HTTP itself forbids, before anything of Authly has run.
            assert status == 400, value
            assert {0, 10, 13} & set(value), value
    longest = b"x" * 128
    assert longest in _ask_raw(instance, "/insane/longest", longest)
    lines = log_lines(instance)
    assert not [line for line in lines if line["level"] == "critical"]
    assert not [line for line in lines if "Forged" in str(line.get("request_id", ""))]
    assert len([line for line in lines if str(line.get("path", "")).startswith("/insane/")]) >= 8


def _ask_raw(instance: Instance, path: str, request_id: bytes) -> bytes:
    host, port = instance.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: " + request_id
        )
        connection.sendall(b"\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer
