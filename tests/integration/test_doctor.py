"""`authly metrics doctor` finds planted faults, each of them, and nothing where nothing is wrong."""

import http.server
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from authly.cli.metrics.doctor import doctor
from authly.monitoring.diagnosis.checks import directory as directory_checks
from authly.monitoring.diagnosis.checks import exporter as exporter_checks
from authly.monitoring.diagnosis.checks import numbers as number_checks
from authly.monitoring.diagnosis.gunicorn_settings import GunicornSettings, evaluate
from authly.monitoring.multiprocess.lease import held_slots
from tests.instance import Instance, free_port
from tests.processes import is_alive, kill, wait_until
from tests.requirements import require
from tests.unit.monitoring.multiprocess.support import Console, fill, key, metric_file, small_disk

MakeInstance = Callable[..., Instance]

NOBODY = 65534
PRELUDE = (
    "import os, resource, subprocess, sys\n"
    "from pathlib import Path\n"
    "from authly.monitoring.multiprocess import directory as directories\n"
    "from authly.monitoring.multiprocess import values\n"
    "from authly.monitoring.multiprocess.lease import Lease\n"
)
# Authly's own, and what a test changes in it.
CONFIGURATION = "from authly.gunicorn_conf import *\n"
FAR_FUTURE = 4_000_000_000.0


class Site:
    """A place where Authly could run, in which a fault is planted.

    Args:
        folder: a temporary one.
        stack: takes what has to be undone.
        monkeypatch: changes the process that the doctor runs in.
    """

    def __init__(self, folder: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.stack = stack
        self.monkeypatch = monkeypatch
        self.directory = folder / "metrics"
        self.directory.mkdir(mode=0o700)
        self.port = free_port()
        self.environment = {
            "PROMETHEUS_MULTIPROC_DIR": str(self.directory),
            "AUTHLY_STATE_DIR": str(folder / "state"),
            "AUTHLY_METRICS_BIND": f"127.0.0.1:{self.port}",
            "AUTHLY_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
            "AUTHLY_WORKERS": "2",
        }
        self.options: list[str] = []

    def console(self, code: str) -> Console:
        """Start a process, and let it execute code in which ``directory`` is the directory."""
        prelude = PRELUDE + f"directory = Path({str(self.directory)!r})\n"
        console = self.stack.enter_context(Console(prelude, self.environment))
        console.run(code)
        return console

    def write(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        """Put a file into the directory."""
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def configure(self, configuration: str) -> None:
        """Let Gunicorn have a configuration file."""
        path = self.folder / "changed.conf.py"
        path.write_text(configuration)
        self.options += ["--gunicorn-config", str(path)]

    def mount(self, options: str) -> None:
        """Mount a small disk in the place of the directory."""
        self.directory.rmdir()
        self.stack.enter_context(small_disk(self.directory, options))

    def diagnose(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Call the doctor; return its exit code and its findings by code."""
        result = CliRunner().invoke(doctor, ["--json", *self.options], env=self.environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        findings = json.loads(result.stdout)["findings"]
        return result.exit_code, {finding["code"]: finding for finding in findings}


_evaluated: dict[Any, GunicornSettings] = {}


def evaluate_once(arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None) -> GunicornSettings:
    """Evaluate a Gunicorn configuration once for all sites that differ in their paths alone."""
    paths = {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir", "AUTHLY_STATE_DIR", "AUTHLY_METRICS_BIND"}
    others = {name: value for name, value in environment.items() if name not in paths and name != "PYTEST_CURRENT_TEST"}
    question = tuple(arguments), tuple(sorted(others.items()))
    if question not in _evaluated:
        _evaluated[question] = evaluate(arguments, environment, folder)
    return _evaluated[question]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a place without fault, where no instance runs."""
    # Instances here are pretended by one process, and no master will bring an exporter back.
    monkeypatch.setattr(exporter_checks, "_PATIENCE", 0.0)
    monkeypatch.setattr(sys.modules["authly.cli.metrics.doctor"], "evaluate", evaluate_once)
    umask = os.umask(0o077)
    try:
        with ExitStack() as stack:
            yield Site(tmp_path, stack, monkeypatch)
    finally:
        os.umask(umask)


class Fault(NamedTuple):
    """A fault to plant.

    Args:
        code: of the finding.
        plant: what plants it.
        remedy: words that the remedy must contain.
        severity: of the finding.
        also: findings that cannot but come along.
    """

    code: str
    plant: Callable[[Site], object]
    remedy: str
    severity: str = "error"
    also: frozenset[str] = frozenset()


PRETENDED = frozenset({"exporter_silent", "exporter_socket"})
FAULTS: list[Fault] = []


def fault(
    code: str, remedy: str, severity: str = "error", also: frozenset[str] = frozenset()
) -> Callable[[Callable[[Site], object]], Callable[[Site], object]]:
    """Register what plants a fault."""

    def register(plant: Callable[[Site], object]) -> Callable[[Site], object]:
        FAULTS.append(Fault(code, plant, remedy, severity, also))
        return plant

    return register


# The directory


@fault("directory_missing", "authly metrics prepare")
def _(site: Site) -> None:
    site.directory.rmdir()


@fault("directory_not_a_directory", "Move that file away")
def _(site: Site) -> None:
    site.directory.rmdir()
    site.directory.write_text("")


@fault("directory_symlink", "elsewhere", "warning")
def _(site: Site) -> None:
    site.directory.rename(site.folder / "elsewhere")
    site.directory.symlink_to(site.folder / "elsewhere")


@fault("directory_owner", "chown")
def _(site: Site) -> None:
    require("root", os.geteuid() == 0, "only root can give a directory away")
    os.chown(site.directory, NOBODY, NOBODY)


@fault("directory_not_writable", "chmod u+rwx")
def _(site: Site) -> None:
    site.directory.chmod(0o500)


@fault("directory_open_to_everybody", "chmod o-w")
def _(site: Site) -> None:
    site.directory.chmod(0o777)


@fault("directory_open_to_group", "chmod g-w", "warning")
def _(site: Site) -> None:
    site.directory.chmod(0o770)


@fault("parent_open_to_everybody", "chmod o-w", "warning")
def _(site: Site) -> None:
    site.folder.chmod(0o777)


@fault("space_low", "enlarge the file system", also=frozenset({"foreign_files"}))
def _(site: Site) -> None:
    site.mount("size=128k")
    fill(site.directory / "ballast")


@fault("inodes_low", "nr_inodes", "error", frozenset({"foreign_files"}))
def _(site: Site) -> None:
    site.mount("size=4m,nr_inodes=8")
    for number in range(os.statvfs(site.directory).f_favail):
        site.write(f"ballast{number}", b"")


@fault("read_only", "Mount it writable")
def _(site: Site) -> None:
    site.mount("size=4m")
    subprocess.run(["mount", "-o", "remount,ro", str(site.directory)], check=True)


@fault("file_system", "/dev/shm")
def _(site: Site) -> None:
    # No network is at hand to mount something from.
    site.monkeypatch.setattr(directory_checks, "file_system", lambda _: "nfs4")


# Users


@fault("process_user", "chown -R", also=PRETENDED | {"lock_file"})
def _(site: Site) -> None:
    require("root", os.geteuid() == 0, "only root can give a directory away")
    site.console("lock = directories.own(directory, f'the instance of process {os.getpid()} (x)')")
    os.chown(site.directory, NOBODY, NOBODY)


@fault("worker_user", "as user id 65534")
def _(site: Site) -> None:
    require("root", os.geteuid() == 0, "only root can change to another user")
    site.configure(f"{CONFIGURATION}user = {NOBODY}\n")


# Locks


@fault("lock_file", "delete")
def _(site: Site) -> None:
    (site.directory / "s0.lock").symlink_to(site.folder)


@fault("orphaned_writers", "kill")
def _(site: Site) -> None:
    site.console("lease = Lease.acquire(directory)")


@fault("owner_dead", "start Authly again", also=PRETENDED)
def _(site: Site) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    site.console(
        f"lock = directories.own(directory, 'the instance of process {gone.pid} (x)')\nlease = Lease.acquire(directory)"
    )


@fault("files_deleted", "Restart Authly", also=PRETENDED)
def _(site: Site) -> None:
    site.console(
        "lock = directories.own(directory, f'the instance of process {os.getpid()} (x)')\n"
        "values.install(directory)\n"
        "from prometheus_client import Counter\n"
        "Counter('x', 'X.').inc()\n"
    )
    (site.directory / "counter_s0.db").unlink()


@fault("lock_shared", "close_fds", "warning", frozenset({"orphaned_writers"}))
def _(site: Site) -> None:
    console = site.console(
        "lease = Lease.acquire(directory)\n"
        "os.set_inheritable(lease.fd, True)\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
    )
    site.stack.callback(console.run, "child.kill(); child.wait()")


# Files


@fault("file_corrupt", "Restart Authly")
def _(site: Site) -> None:
    site.write("counter_s0.db", b"\x07" * 4096)


@fault("file_unreadable", "Move it away")
def _(site: Site) -> None:
    (site.directory / "gauge_max_s0.db").symlink_to("/etc/hostname")


@fault("entries_broken", "authly metrics dump --file")
def _(site: Site) -> None:
    site.write("counter_s0.db", metric_file([("no key", 1.0, 0.0), (key("x", "x_total"), 1.0, 0.0)]))


@fault("type_conflict", "rename one")
def _(site: Site) -> None:
    site.write("counter_s0.db", metric_file([(key("x", "x_total"), 1.0, 0.0)]))
    site.write("gauge_max_s0.db", metric_file([(key("x"), 1.0, 1.0)]))


@fault("file_owner", "chown -R")
def _(site: Site) -> None:
    require("root", os.geteuid() == 0, "only root can give a file away")
    os.chown(site.write("counter_s0.db", metric_file([])), NOBODY, NOBODY)


@fault("file_open_to_others", "chmod go-w", "warning")
def _(site: Site) -> None:
    site.write("counter_s0.db", metric_file([]), 0o666)


@fault("file_set_aside", "delete it", "warning")
def _(site: Site) -> None:
    site.write("counter_s0.db", b"\x07" * 4096)
    # A worker finds it, and puts it aside.
    site.console("values.install(directory)\nfrom prometheus_client import Counter\nCounter('x', 'X.').inc()\n").kill()
    # What it counted meanwhile says so as well.
    (site.directory / "counter_s0.db").unlink()


@fault("stale_files", "directory of its own", "warning")
def _(site: Site) -> None:
    code = "from prometheus_client import Counter\nCounter('x', 'X.').inc()\n"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(site.directory)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@fault("foreign_files", "Move them elsewhere", "warning")
def _(site: Site) -> None:
    site.write("notes.txt", b"mine")


# Numbers


@fault("dropped_series", "AUTHLY_METRICS_MAX_BYTES", "warning")
def _(site: Site) -> None:
    site.console(
        "values.install(directory, 20_000)\n"
        "from prometheus_client import Counter\n"
        "counter = Counter('x', 'X.', ['label'])\n"
        "for number in range(500): counter.labels(str(number)).inc()\n"
    ).kill()


@fault("label_overflow", "template", "warning")
def _(site: Site) -> None:
    site.console(
        "values.install(directory)\n"
        "from prometheus_client import Counter\n"
        "Counter('authly_metrics_label_overflow_total', 'X.', ['metric']).labels('x').inc(3)\n"
    ).kill()


@fault("clock", "Synchronise", "warning")
def _(site: Site) -> None:
    site.console(
        "values.install(directory)\n"
        "from prometheus_client import Gauge\n"
        "import time\n"
        f"time.time = lambda: {FAR_FUTURE}\n"
        "Gauge('x', 'X.', multiprocess_mode='mostrecent').set(1)\n"
    ).kill()


@fault("budget", "fewer labels", "warning")
def _(site: Site) -> None:
    site.environment["AUTHLY_METRICS_MAX_BYTES"] = "20000"
    site.write("counter_s0.db", metric_file([], unused=19_000))


@fault("many_series", "too many values", "warning")
def _(site: Site) -> None:
    site.monkeypatch.setattr(number_checks, "_MANY_SERIES", 100)
    entries = [(key("x", "x_total", {"label": str(number)}), 1.0, 0.0) for number in range(101)]
    site.write("counter_s0.db", metric_file(entries))


# Limits


@fault("open_files", "LimitNOFILE", "warning", frozenset({"orphaned_writers"}))
def _(site: Site) -> None:
    site.console(
        "lease = Lease.acquire(directory)\n"
        "used = len(os.listdir('/proc/self/fd')) - 1\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
    )


# The exporter


@fault("exporter_silent", "AUTHLY_METRICS_BIND", also=PRETENDED)
def _(site: Site) -> None:
    site.console("lock = directories.own(directory, f'the instance of process {os.getpid()} (x)')")


def serve_page(site: Site, content_type: str, body: bytes) -> None:
    """Answer each request at the exporter's address with a page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", site.port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.stack.callback(server.server_close)
    site.stack.callback(thread.join)
    site.stack.callback(server.shutdown)


@fault("port_taken", "free address")
def _(site: Site) -> None:
    serve_page(site, "text/html", b"<p>Welcome to somebody else's page.</p>")


@fault("port_taken", "Stop that process")
def _(site: Site) -> None:
    # Greets before it was asked anything, as a mail server does.
    listener = site.stack.enter_context(socket.create_server(("127.0.0.1", site.port)))

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"220 ready\r\n")
                connection.recv(4096)

    thread = threading.Thread(target=greet)
    thread.start()
    site.stack.callback(thread.join)
    site.stack.callback(listener.shutdown, socket.SHUT_RDWR)


@fault("content_type", "proxy")
def _(site: Site) -> None:
    serve_page(site, "text/html", b'authly_exporter_build_info{version="1"} 1\n')


@fault("exporter_of_another", "AUTHLY_METRICS_BIND of its own")
def _(site: Site) -> None:
    other = site.folder / "other"
    other.mkdir()
    command = [sys.executable, "-m", "authly.cli", "metrics", "serve", "--directory", str(other)]
    process = subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{site.port}"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, **site.environment},
    )
    site.stack.callback(process.wait)
    site.stack.callback(process.terminate)
    wait_until(lambda: Instance.answers(f"http://127.0.0.1:{site.port}/-/healthy"), 20)


# Gunicorn


def changed(line: str) -> Callable[[Site], None]:
    """Return what changes a line in Gunicorn's configuration."""
    return lambda site: site.configure(f"{CONFIGURATION}{line}\n")


fault("gunicorn_configuration", "gunicorn --check-config")(lambda site: site.configure("workers = = 3\n"))
fault("hooks_missing", "docs/exporter.md", also=frozenset({"heartbeat_on_disk", "control_socket_shared"}))(
    lambda site: site.configure("worker_tmp_dir = '/usr'\n")
)
fault("preload_app", "Switch it off", "warning")(changed("preload_app = True"))
fault("no_jitter", "max_requests_jitter, to 100 ", "warning")(changed("max_requests, max_requests_jitter = 1000, 0"))
fault("heartbeat_on_disk", "/dev/shm", "warning")(changed("worker_tmp_dir = '/usr'"))
fault("control_socket_shared", "path of its own", "warning")(
    changed("from gunicorn.config import ControlSocket\ncontrol_socket = ControlSocket.default")
)
fault("reuse_port", "Switch it off", "warning")(changed("reuse_port = True"))
fault("many_workers", "AUTHLY_WORKERS", "warning")(changed("workers = 4000"))
fault("no_timeout", "Set timeout", "warning")(changed("timeout = 0"))
fault("gunicorn_names_another_directory", "Remove it from raw_env")(
    changed("raw_env = ['PROMETHEUS_MULTIPROC_DIR=/somewhere/else']")
)


# The environment


def variables(**values: str) -> Callable[[Site], None]:
    """Return what sets variables of the environment."""
    return lambda site: site.environment.update(values)


fault("setting_invalid", "what it accepts", also=frozenset({"gunicorn_configuration"}))(
    variables(AUTHLY_METRICS_RATE_LIMIT="plenty")
)
fault("lower_case_variable", "Unset it", "warning")(variables(prometheus_multiproc_dir="/run/metrics"))
fault("switched_off_with_directory", "Unset PROMETHEUS_MULTIPROC_DIR", "warning")(
    variables(AUTHLY_METRICS_ENABLED="false")
)
fault("unknown_setting", "Did you mean AUTHLY_METRICS_PATH?", "warning")(variables(AUTHLY_METRICS_PTH="/metrics"))


@fault("relative_directory", "absolute path", "warning")
def _(site: Site) -> None:
    site.environment["PROMETHEUS_MULTIPROC_DIR"] = os.path.relpath(site.directory)


@fault("dependency_version", "pip install 'prometheus-client")
def _(site: Site) -> None:
    record = site.folder / "packages/prometheus_client-0.99.0.dist-info/METADATA"
    record.parent.mkdir(parents=True)
    record.write_text("Metadata-Version: 2.1\nName: prometheus-client\nVersion: 0.99.0\n")
    site.monkeypatch.syspath_prepend(record.parent.parent)


@pytest.mark.parametrize("planted", FAULTS, ids=[fault.code for fault in FAULTS])
def test_a_planted_fault_is_found(planted: Fault, site: Site) -> None:
    """The doctor finds a fault and those that come with it, no others, says what to do, and ends with the code."""
    planted.plant(site)
    code, findings = site.diagnose()
    assert planted.code in findings
    assert set(findings) <= {planted.code, *planted.also}, findings
    finding = findings[planted.code]
    assert finding["severity"] == planted.severity
    assert planted.remedy in finding["remedy"]
    assert finding["what"]
    assert finding["why"]
    assert code == (4 if any(finding["severity"] == "error" for finding in findings.values()) else 3)


def test_the_user_of_the_instance_can_be_named(site: Site) -> None:
    """Root can look at the directory of another user, by name or number."""
    require("root", os.geteuid() == 0, "only root can give a directory away")
    os.chown(site.directory, NOBODY, NOBODY)
    for name in (pwd.getpwuid(NOBODY).pw_name, str(NOBODY)):
        site.options = ["--user", name]
        assert site.diagnose() == (0, {})


def test_nothing_is_found_before_an_instance_has_run(site: Site) -> None:
    """In a directory that was prepared nothing is wrong."""
    assert site.diagnose() == (0, {})


def test_a_check_that_fails_costs_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked at is reported as such, and everything else is looked at."""

    def fails(_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(directory_checks, "file_system", fails)
    site.write("notes.txt", b"mine")
    code, findings = site.diagnose()
    assert set(findings) == {"not_checked", "foreign_files"}
    assert "file system is a local one" in findings["not_checked"]["what"]
    assert code == 3


def run_doctor(instance: Instance, *options: str) -> "subprocess.CompletedProcess[str]":
    """Call the command as an operator does, with the environment of an instance."""
    command = [sys.executable, "-m", "authly.cli", "metrics", "doctor", *options]
    return subprocess.run(command, env=instance.environment, cwd=instance.folder, capture_output=True, text=True)


def test_nothing_is_wrong_with_a_healthy_instance(make_instance: MakeInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a running instance nothing is found, nor after a worker was killed, nor after its end; what befalls it is."""
    instance = make_instance(AUTHLY_WORKERS="2").start()
    for _ in range(20):
        assert instance.get("/login")[0] == 200
    assert instance.get("/nowhere")[0] == 404
    wait_until(lambda: len(instance.workers()) == 2)

    done = run_doctor(instance)
    assert (done.returncode, done.stderr) == (0, "")
    assert "in use by the instance of process" in done.stdout
    assert "nothing is wrong" in done.stdout

    victim = instance.workers()[0]
    kill(victim)
    wait_until(lambda: not is_alive(victim) and held_slots(instance.directory) == [0, 1])
    done = run_doctor(instance, "--json")
    assert done.returncode == 0, done.stdout
    record = json.loads(done.stdout)
    assert record["findings"] == []
    assert (record["directory"], record["running"]) == (str(instance.directory), True)
    assert record["masters"] == [instance.master]
    assert sorted(pid for (pid,) in record["slots"].values()) == sorted(instance.workers())

    # Who asks without the environment of the instance, or with another, is told about the instance all the same.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AUTHLY_")}
    command = [sys.executable, "-m", "authly.cli", "metrics", "doctor", "--directory", str(instance.directory)]
    assert subprocess.run(command, env=bare, capture_output=True).returncode == 0
    done = subprocess.run(
        [*command, "--json"], env={**bare, "AUTHLY_METRICS_BIND": "127.0.0.1:9"}, capture_output=True, text=True
    )
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["code"] == "environment_differs"
    assert instance.metrics_address in finding["what"]

    # Upgraded under the running instance.
    monkeypatch.setattr(exporter_checks, "__version__", "99.0")
    result = CliRunner().invoke(doctor, ["--json"], env=instance.environment)
    assert [finding["code"] for finding in json.loads(result.stdout)["findings"]] == ["version_mismatch"]

    # Its exporter's socket is gone, and the master does not know.
    (instance.directory / "exporter.sock").unlink()
    done = run_doctor(instance)
    assert done.returncode == 4
    assert "error: exporter_socket" in done.stdout
    assert "-> Look for `exporter` in Authly's log" in done.stdout
    assert "1 error, 0 warnings" in done.stdout

    instance.stop()
    done = run_doctor(instance, "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["running"] is False


def test_a_master_that_replaced_another_is_the_owner(make_instance: MakeInstance) -> None:
    """After SIGUSR2 and the end of the old master, whose name the lock still bears, nothing is wrong."""
    instance = make_instance(AUTHLY_WORKERS="1").start()
    old = instance.master
    wait_until(lambda: len(instance.workers()) == 1)
    os.kill(old, signal.SIGUSR2)
    wait_until(lambda: len(instance.exporters(_next_master(instance))) == 1 if _next_master(instance) else False, 20)
    os.kill(old, signal.SIGTERM)
    instance.process.wait(20)
    wait_until(instance.is_live, 20)
    done = run_doctor(instance, "--json")
    assert done.returncode == 0, done.stdout


def _next_master(instance: Instance) -> int:
    """Return the process id of the master that a master has executed; 0 for none."""
    known = {instance.master, *instance.workers(), *instance.exporters()}
    return next((pid for pid in instance.family() if pid not in known and instance.exporters(pid)), 0)
