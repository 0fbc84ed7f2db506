"""Whatever is wrong with the metrics directory, Authly serves, says so once, and /metrics answers."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.administration import Administration
from tests.instance import REPOSITORY, Instance, Series, total
from tests.processes import kill, wait_until
from tests.requirements import require

MakeInstance = Callable[..., Instance]

PAGE = "/openapi.json"
COUNTER = "authly_http_requests_total"
NOBODY = 65534
# The head of a metric file without entries.
EMPTY_METRIC_FILE = (8).to_bytes(4, "little") + bytes(16380)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return what mounts a file system of so many KiB; it must be asked for before the instances that use it."""
    disk = tmp_path / "disk"

    def make(kibibytes: int) -> Path:
        disk.mkdir()
        options = f"size={kibibytes}k,mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
        require("mount", mounted, "a tmpfs cannot be mounted here: run as root, in a container with CAP_SYS_ADMIN")
        return disk

    yield make
    if disk.is_mount():
        wait_until(lambda: subprocess.run(["umount", str(disk)], capture_output=True).returncode == 0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="authly-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def complaints(instance: Instance) -> list[dict[str, Any]]:
    """Return the warnings and errors about the directory."""
    lines = [json.loads(line) for line in instance.log().splitlines()]
    return [line for line in lines if line["level"] in {"warning", "error"} and "metrics directory" in str(line)]


def metrics_of_both_ports(instance: Instance) -> list[Series]:
    """Scrape the exporter and the application."""
    found = []
    for ask in (instance.scrape, instance.get):
        status, headers, body = ask("/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        found.append(instance.parse(body))
    return found


def assert_serves_without_metrics(instance: Instance, *words: str) -> None:
    """Check what must hold for each directory that cannot be used.

    Args:
        instance: a running one.
        words: what the one line about it must contain, besides the directory.
    """
    wait_until(lambda: len(instance.workers()) == int(instance.environment["AUTHLY_WORKERS"]))
    workers = instance.workers()
    for _ in range(10):
        assert instance.get(PAGE)[0] == 200
    for series in metrics_of_both_ports(instance):
        assert total(series, "authly_exporter_directory_up") == 0
        assert total(series, COUNTER) == 0
    status, _, body = instance.scrape("/-/ready")
    assert status == 503
    assert str(instance.directory).encode() in body
    (line,) = complaints(instance)
    assert line["level"] == "error"
    for word in (str(instance.directory), *words):
        assert word in line["event"]
    assert instance.workers() == workers


def flows_of(instance: Instance) -> Callable[[], None]:
    """Return what asks for a token and for what it is worth, and is refused one, by a client that this registers."""
    administration = Administration(instance)
    client = administration.json(
        *("clients", "create", "--name", "Service", "--type", "confidential", "--scope", "admin:read")
    )

    def flows() -> None:
        token = administration.client_token(client, "admin:read")
        assert administration.form("/oauth2/introspect", client, token=token).body["active"] is True
        wrong = {**client, "client_secret": "wrong"}
        assert administration.form("/oauth2/token", wrong, grant_type="client_credentials").status == 401
        assert administration.form("/oauth2/revoke", client, token=token).status == 200
        assert administration.form("/oauth2/introspect", client, token=token).body["active"] is False
        assert instance.get("/login")[0] == 200
        assert instance.get(PAGE)[0] == 200

    return flows


def test_a_second_instance_is_refused(make_instance: MakeInstance, tmp_path: Path) -> None:
    """A second instance on the same directory does not start and names the first, which does not notice."""
    directory = tmp_path / "metrics"
    first = make_instance(AUTHLY_WORKERS="1", PROMETHEUS_MULTIPROC_DIR=str(directory)).start()
    for _ in range(5):
        assert first.get(PAGE)[0] == 200
    files = sorted(os.listdir(directory))
    second = make_instance(AUTHLY_WORKERS="1", PROMETHEUS_MULTIPROC_DIR=str(directory)).spawn()
    assert second.process.wait(15) != 0
    assert "Traceback" not in second.log()
    (line,) = [line for line in second.log().splitlines() if str(directory) in line]
    assert "in use" in line
    assert f"process {first.master} " in line
    assert first.address in line
    assert "PROMETHEUS_MULTIPROC_DIR" in line

    assert first.get(PAGE)[0] == 200
    assert total(first.series(), COUNTER, endpoint=PAGE) == 6
    assert sorted(os.listdir(directory)) == files


@pytest.mark.produces("authly_exporter_skipped_files", reason=("corrupt", "not_a_file"))
def test_foreign_files_are_kept(make_instance: MakeInstance, tmp_path: Path) -> None:
    """Of what lies in the directory only the metric files of dead processes are deleted, at start, run and end."""
    directory = tmp_path / "metrics"
    directory.mkdir(mode=0o700)
    outside = tmp_path / "outside.db"
    outside.write_bytes(EMPTY_METRIC_FILE)
    foreign = {
        "notes.txt": b"mine",
        "counter.db": EMPTY_METRIC_FILE,
        "mine.db": b"\x00" * 64,
        "counter_s40.db": b"my own text, not a metric file",
        "counter_s41.db.bak": EMPTY_METRIC_FILE,
    }
    for name, content in foreign.items():
        (directory / name).write_bytes(content)
    (directory / "histogram_s42.db").mkdir()
    (directory / "gauge_max_s43.db").symlink_to(outside)
    stale = ["counter_s44.db", "gauge_livesum_s45.db", "histogram_4711.db"]
    for name in stale:
        (directory / name).write_bytes(EMPTY_METRIC_FILE)

    instance = make_instance(AUTHLY_WORKERS="1", PROMETHEUS_MULTIPROC_DIR=str(directory)).start()
    assert not [name for name in stale if (directory / name).exists()]
    assert instance.get(PAGE)[0] == 200
    kill(instance.workers()[0])
    wait_until(instance.is_live)
    for series in metrics_of_both_ports(instance):
        assert total(series, "authly_exporter_directory_up") == 1
        assert total(series, COUNTER, endpoint=PAGE) == 1
    instance.stop()

    assert {name: (directory / name).read_bytes() for name in foreign} == foreign
    assert (directory / "histogram_s42.db").is_dir()
    assert (directory / "gauge_max_s43.db").is_symlink()
    assert outside.read_bytes() == EMPTY_METRIC_FILE


def test_a_directory_of_somebody_else_is_not_used(make_instance: MakeInstance, tmp_path: Path) -> None:
    """A directory that belongs to another user is left alone; the log names both users."""
    require("root", os.geteuid() == 0, "only root can give a directory away")
    directory = tmp_path / "metrics"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    instance = make_instance(AUTHLY_WORKERS="2", PROMETHEUS_MULTIPROC_DIR=str(directory)).start()
    assert_serves_without_metrics(instance, f"belongs to user id {NOBODY}", f"runs as {os.geteuid()}", "chown")
    assert os.listdir(directory) == []


def test_a_directory_open_to_everybody_is_not_used(make_instance: MakeInstance, tmp_path: Path) -> None:
    """A directory that everybody may write to is not trusted; the log gives its mode and the remedy."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    directory.chmod(0o777)
    instance = make_instance(
        AUTHLY_WORKER_CLASS="asgi", AUTHLY_WORKERS="2", PROMETHEUS_MULTIPROC_DIR=str(directory)
    ).start()
    assert_serves_without_metrics(instance, "0777", f"chmod o-w {directory}")
    assert os.listdir(directory) == []


@pytest.mark.parametrize(
    ("below", "words"), [("/metrics", ("cannot be created", "Not a directory")), ("", ("is not a directory", "move"))]
)
def test_a_file_in_the_way_of_the_directory(
    below: str, words: tuple[str, ...], make_instance: MakeInstance, tmp_path: Path
) -> None:
    """Where a file is in the way of the directory, the log says what to do, and the file stays."""
    file = tmp_path / "file"
    file.write_text("mine")
    instance = make_instance(AUTHLY_WORKERS="1", PROMETHEUS_MULTIPROC_DIR=f"{file}{below}").start()
    assert_serves_without_metrics(instance, *words)
    assert file.read_text() == "mine"


def test_a_directory_without_permission_to_write(public_folder: Path, make_instance: MakeInstance) -> None:
    """A directory that the user of Authly owns but may not write to is not used; the log gives mode and remedy."""
    directory = public_folder / "instance/metrics"
    directory.mkdir(parents=True)
    instance = make_instance(
        folder=public_folder / "instance", AUTHLY_WORKERS="2", PROMETHEUS_MULTIPROC_DIR=str(directory)
    )
    if os.geteuid() == 0:
        # Permissions do not stop root, so the instance is somebody else's.
        instance.uid = NOBODY
        instance.command[0] = _python_for(NOBODY)
        instance.environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        for path in (instance.folder, directory):
            os.chown(path, NOBODY, NOBODY)
    directory.chmod(0o500)
    instance.start()
    assert_serves_without_metrics(instance, "0500", f"chmod u+rwx {directory}")
    assert os.listdir(directory) == []


@pytest.mark.produces("authly_exporter_scrapes_total", outcome=("directory_error",))
@pytest.mark.produces("authly_exporter_skipped_files", reason=("unreadable",))
@pytest.mark.parametrize("harm", ["deleted", "unreadable"])
def test_a_directory_that_is_lost(
    harm: str, public_folder: Path, make_instance: MakeInstance, database_url: str
) -> None:
    """Where the directory is lost under a running instance, both ports say so, and every flow goes on."""
    instance = make_instance(folder=public_folder / "instance", AUTHLY_WORKERS="1", AUTHLY_DATABASE_URL=database_url)
    if os.geteuid() == 0:
        # Permissions do not stop root, so the instance is somebody else's.
        instance.uid = NOBODY
        instance.command[0] = _python_for(NOBODY)
        instance.environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.chown(instance.folder, NOBODY, NOBODY)
    instance.start()
    wait_until(lambda: "database_available" in instance.log(), 30)
    workers, exporters = instance.workers(), instance.exporters()
    flows = flows_of(instance)
    flows()
    # Of somebody else, who may not know that it lies there.
    (instance.directory / "counter_s50.db").touch(mode=0)
    assert total(instance.series(), "authly_exporter_skipped_files", reason="unreadable") == 1
    if harm == "deleted":
        shutil.rmtree(instance.directory)
    else:
        instance.directory.chmod(0)
    for _ in range(3):
        for series in metrics_of_both_ports(instance):
            assert total(series, "authly_exporter_directory_up") == 0
        flows()
    assert (instance.workers(), instance.exporters()) == (workers, exporters)
    # One line of each process that looked, however often it did.
    lines = complaints(instance)
    assert len(lines) == 2
    assert all(str(instance.directory) in str(line) for line in lines)
    assert "Traceback" not in instance.log()
    if harm == "unreadable":
        instance.directory.chmod(0o700)
        assert total(instance.series(), "authly_oauth_tokens_issued_total", grant_type="client_credentials") == 4


def test_a_full_disk_costs_series_but_no_request(make_disk: Callable[[int], Path], make_instance: MakeInstance) -> None:
    """On a full disk requests are answered and no worker dies; with room again it counts, and says what was dropped."""
    small_disk = make_disk(512)
    ballast = small_disk / "ballast"
    _fill(ballast)
    instance = make_instance(
        AUTHLY_WORKER_CLASS="asgi", AUTHLY_WORKERS="1", PROMETHEUS_MULTIPROC_DIR=str(small_disk)
    ).start()
    wait_until(lambda: len(instance.workers()) == 1)
    workers = instance.workers()
    for _ in range(20):
        assert instance.get(PAGE)[0] == 200
    assert instance.get("/nowhere")[0] == 404
    for series in metrics_of_both_ports(instance):
        assert total(series, COUNTER) == 0
    (line,) = complaints(instance)
    for word in (str(small_disk), "nearly full", "make room"):
        assert word in line["event"]

    ballast.unlink()

    def counted() -> float:
        assert instance.get(PAGE)[0] == 200
        return total(instance.series(), COUNTER, endpoint=PAGE, status_code="200")

    # What was counted in memory meanwhile is not lost: the file takes over, with the series' next request.
    wait_until(lambda: counted() > 20)
    wait_until(lambda: total(instance.series(), "authly_metrics_dropped_series_total", reason="disk_full") > 0)
    assert instance.workers() == workers


def test_a_disk_that_fills_up_does_not_kill_a_worker(
    make_disk: Callable[[int], Path], make_instance: MakeInstance, database_url: str
) -> None:
    """Series that exist go on counting on a disk that has filled up since; more of them cost no worker its life."""
    small_disk = make_disk(512)
    instance = make_instance(
        AUTHLY_WORKERS="1", AUTHLY_DATABASE_URL=database_url, PROMETHEUS_MULTIPROC_DIR=str(small_disk)
    ).start()
    wait_until(lambda: "database_available" in instance.log(), 30)
    workers = instance.workers()
    flows = flows_of(instance)
    assert instance.get(PAGE)[0] == 200
    before = total(instance.series(), COUNTER, endpoint=PAGE)
    assert before == 1
    _fill(small_disk / "ballast")
    for _ in range(3):
        flows()
    for _ in range(20):
        assert instance.get(PAGE)[0] == 200
    for number in range(20):
        assert instance.get(f"/nowhere/{number}", headers={"X-Request-ID": str(number)})[0] == 404
    for series in metrics_of_both_ports(instance):
        assert total(series, COUNTER, endpoint=PAGE) == 24
        assert total(series, "authly_exporter_directory_up") == 1
    assert instance.workers() == workers


def _fill(ballast: Path) -> None:
    """Write until there is no room left."""
    disk = os.statvfs(ballast.parent)
    ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize))
    assert os.statvfs(ballast.parent).f_bavail == 0


def _python_for(uid: int) -> str:
    """Return a Python of this version that a user can run together with this environment's packages."""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            command = [python, "-c", "import authly.settings, gunicorn, uvicorn"]
            probe = subprocess.run(
                command, env=environment, cwd="/", user=uid, group=uid, extra_groups=[], capture_output=True
            )
            if probe.returncode == 0:
                return python
    require("nobody", False, f"user {uid} cannot read {REPOSITORY} and run a Python of this version")
    raise AssertionError("require() does not return")
