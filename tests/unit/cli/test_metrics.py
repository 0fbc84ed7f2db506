"""`authly metrics prepare` and `dump`, and what all commands have in common."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authly.cli.__main__ import authly
from authly.monitoring.multiprocess import directory as directories
from tests.processes import wait_until
from tests.unit.monitoring.multiprocess.support import Console, key, metric_file


@pytest.fixture(autouse=True)
def private_files() -> Iterator[None]:
    """Let modes be what the code asks for, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory of metric files in which two workers have counted."""
    path = tmp_path / "metrics"
    path.mkdir(0o700)
    labels = {"method": "GET", "endpoint": "/a", "status_code": "200"}
    name = "authly_http_requests"
    for slot, value in ((0, 3.0), (1, 4.0)):
        entries = [(key(name, f"{name}_total", labels), value, 1_700_000_000.0)]
        (path / f"counter_s{slot}.db").write_bytes(metric_file(entries))
    return path


def call(*arguments: str, **environment: str) -> Result:
    """Call the command in this process."""
    result = CliRunner().invoke(authly, ["metrics", *arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# prepare


def test_prepare_prints_one_line_for_a_shell(tmp_path: Path) -> None:
    """The directory is created for its owner alone; a shell that evaluates the output has the variable."""
    path = tmp_path / "it's $HOME; `true`"
    result = call("prepare", "--directory", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o700
    assert result.stdout == f"export PROMETHEUS_MULTIPROC_DIR={shlex.quote(str(path))}\n"
    script = f'{result.stdout}printf %s "$PROMETHEUS_MULTIPROC_DIR"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == str(path)


def test_prepare_takes_the_directory_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable comes before the state directory; both become absolute."""
    result = call("prepare", AUTHLY_STATE_DIR=str(tmp_path / "state"))
    assert result.stdout == f"export PROMETHEUS_MULTIPROC_DIR={tmp_path / 'state/metrics'}\n"
    result = call("prepare", AUTHLY_STATE_DIR=str(tmp_path), PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "chosen"))
    assert result.stdout == f"export PROMETHEUS_MULTIPROC_DIR={tmp_path / 'chosen'}\n"
    monkeypatch.chdir(tmp_path)
    assert call("prepare", "--directory", "below").stdout.endswith(f"={tmp_path}/below\n")


def test_prepare_of_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """Nothing for the shell, one line for people, exit code 1."""
    (tmp_path / "file").write_text("")
    for extra in ([], ["--json"]):
        result = call("prepare", "--directory", str(tmp_path / "file"), *extra)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("authly: the metrics directory")
        assert "move that file away" in result.stderr
        assert result.stderr.count("\n") == 1


def test_prepare_as_json_tells_who_runs_there(directory: Path) -> None:
    """A running instance is named and not disturbed; its files stay."""
    before = sorted(os.listdir(directory))
    record = json.loads(call("prepare", "--directory", str(directory), "--json").stdout)
    assert record == {
        "directory": str(directory),
        "export": f"export PROMETHEUS_MULTIPROC_DIR={directory}",
        "owner": None,
        "warnings": [],
    }
    assert sorted(os.listdir(directory)) == before
    with Console(
        "from pathlib import Path\nfrom authly.monitoring.multiprocess import directory as directories\n"
    ) as other:
        other.run(f"lock = directories.own(Path({str(directory)!r}), 'the instance of process 1 (here)')")
        result = call("prepare", "--directory", str(directory))
        assert result.exit_code == 0
        assert "in use by the instance of process 1 (here)" in result.stderr
    wait_until(lambda: directories.owner(directory) is None)


def test_a_setting_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    """Where settings are needed, a wrong one is reported without a traceback, with exit code 1."""
    environment = {**os.environ, "AUTHLY_WORKERS": "many", "AUTHLY_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "authly.cli", "metrics", "prepare"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "authly: AUTHLY_WORKERS holds 'many', but accepts a whole number from 1 to 256.\n"


def test_prepare_loads_only_what_it_needs(tmp_path: Path) -> None:
    """Deploy scripts wait for it: with the directory given, neither settings nor the web framework are imported."""
    code = (
        "import sys\n"
        "from authly.cli.__main__ import authly\n"
        f"authly(['metrics', 'prepare', '--directory', {str(tmp_path / 'metrics')!r}], standalone_mode=False)\n"
        "heavy = {'pydantic', 'fastapi', 'prometheus_client', 'psycopg', 'gunicorn', 'http.client', 'asyncio'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# dump


def test_dump_merges_the_files_where_no_exporter_runs(directory: Path) -> None:
    """The exposition is that of all workers together, in either format, or as JSON."""
    result = call("dump", "--directory", str(directory))
    assert result.exit_code == 0
    assert 'authly_http_requests_total{endpoint="/a",method="GET",status_code="200"} 7.0\n' in result.stdout
    assert call("dump", "--directory", str(directory), "--format", "openmetrics").stdout.endswith("# EOF\n")
    (sample,) = json.loads(call("dump", "--directory", str(directory), "--json").stdout)
    assert sample == {
        "name": "authly_http_requests_total",
        "labels": {"method": "GET", "endpoint": "/a", "status_code": "200"},
        "value": 7.0,
    }


def test_dump_of_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """One line says what to do; the exit code is 1."""
    result = call("dump", "--directory", str(tmp_path / "nowhere"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be read (No such file or directory)" in result.stderr
    assert "--directory" in result.stderr


def test_dump_of_one_file(tmp_path: Path) -> None:
    """Key, value, timestamp, slot, and whether a series was removed: as text and as JSON."""
    path = tmp_path / "gauge_mostrecent_s7.db"
    entries = [
        (key("x", labels={"a": 'say "hi"'}), 1.5, 1_700_000_000.25),
        (key("x", labels={"a": "gone"}), 2.0, -1.0),
        (key("x", labels={"a": "never"}), 0.0, 0.0),
        ("no key", float("nan"), 0.0),
    ]
    path.write_bytes(metric_file(entries, unused=64))
    lines = call("dump", "--file", str(path)).stdout.splitlines()
    assert lines[0].startswith(f"# {path}: gauge mostrecent, slot 7, ")
    assert "4 entries" in lines[0]
    assert lines[1:] == [
        'x{a="say \\"hi\\""}  1.5  2023-11-14T22:13:20.250Z',
        'x{a="gone"}  2  removed',
        'x{a="never"}  0',
        "'no key'  NaN  (not a key that prometheus-client writes)",
    ]
    record = json.loads(call("dump", "--file", str(path), "--json").stdout)
    assert (record["type"], record["mode"], record["slot"]) == ("gauge", "mostrecent", 7)
    assert record["size"] == record["used"] + 64
    assert [entry["removed"] for entry in record["entries"]] == [False, True, False, False]
    assert record["entries"][0]["labels"] == {"a": 'say "hi"'}
    assert record["entries"][3]["value"] == "NaN"


@pytest.mark.parametrize("content", [b"\x07" * 64, b"x", metric_file([(key("x"), 1.0, 0.0)])[:-8]])
def test_dump_of_a_corrupt_file(tmp_path: Path, content: bytes) -> None:
    """What is wrong with its bytes is said in one line; the exit code is 1."""
    path = tmp_path / "counter_s0.db"
    path.write_bytes(content)
    result = call("dump", "--file", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "corrupt" in result.stderr
    assert result.stderr.count("\n") == 1


def test_dump_of_what_is_no_file(tmp_path: Path) -> None:
    """A directory, a FIFO and nothing at all are reported, and none of them is waited for."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "nothing"):
        result = call("dump", "--file", str(path))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "cannot be read" in result.stderr


def test_dump_of_the_difference_between_saved_expositions(tmp_path: Path) -> None:
    """A line for each series that changed; buckets only where they are asked for."""
    old, new = tmp_path / "old", tmp_path / "new"
    text = """# TYPE x_total counter
x_total{{a="1"}} {}
x_total{{a="2"}} {}
# TYPE y gauge
y {}
# TYPE z histogram
z_bucket{{le="+Inf"}} {}
z_count {}
z_sum 1
"""
    old.write_text(text.format(5, 9, 1, 1, 1))
    new.write_text(text.format(25, 4, "NaN", 2, 2))
    os.utime(old, (1000, 1000))
    os.utime(new, (1010, 1010))
    lines = call("dump", "--compare", str(old), str(new)).stdout.splitlines()
    assert lines == [
        'x_total{a="1"}  5 -> 25  2/s',
        'x_total{a="2"}  9 -> 4  0.4/s  (began anew)',
        "y  1 -> NaN",
        "z_count  1 -> 2  0.1/s",
    ]
    records = json.loads(call("dump", "--compare", str(old), str(new), "--buckets", "--json").stdout)
    assert [record["name"] for record in records] == ["x_total", "x_total", "y", "z_bucket", "z_count"]
    assert records[0]["per_second"] == 2.0
    assert records[2]["after"] == "NaN"


def test_dump_of_what_changes_in_a_moment(directory: Path) -> None:
    """While nobody counts, nothing changes."""
    result = call("dump", "--directory", str(directory), "--diff", "0.01")
    assert (result.exit_code, result.stdout) == (0, "")


def test_dump_of_something_that_is_no_exposition(tmp_path: Path) -> None:
    """A file that was not saved by dump is named."""
    path = tmp_path / "page.html"
    path.write_text("<html>{</html>\n")
    result = call("dump", "--compare", str(path), str(path))
    assert result.exit_code == 1
    assert f"{path} is not an exposition" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dump", "--diff", "1", "--file", "x"], "Choose one of"),
        (["dump", "--url", "ftp://x"], "not an http:// or https:// URL"),
        (["dump", "--url", "http://127.0.0.1:9", "--header", "nonsense"], "is not 'NAME: VALUE'"),
        (["dump", "--header", "A: b"], "for an exporter at a --url"),
        (["top"], "This is not a terminal"),
        (["top", "--sort", "luck"], "Invalid value"),
        (["serve", "--bind", "nonsense"], "not HOST:PORT"),
        (["doctor", "--gunicorn-config", "/nowhere"], "does not exist"),
        (["doctor", "--address", "nonsense"], "not HOST:PORT"),
        (["doctor", "--user", "nobody-of-this-name"], "there is no user"),
        (["nonsense"], "No such command"),
    ],
)
def test_a_command_line_that_is_wrong(arguments: list[str], words: str, directory: Path) -> None:
    """The exit code is 2 and the message says which option it is about."""
    result = call(*arguments, PROMETHEUS_MULTIPROC_DIR=str(directory))
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


@pytest.mark.parametrize("command", ["prepare", "doctor", "dump", "top", "serve"])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    """Each command's help shows examples and exit codes, a line each."""
    lines = call(command, "--help").stdout.splitlines()
    assert "  Examples:" in lines
    assert any(
        line.startswith(f"    authly metrics {command}") or f"authly metrics {command})" in line for line in lines
    )
    assert "  Exit codes:" in lines
    assert any(line.startswith("    0  ") for line in lines)
    assert any(line.startswith("  --json") for line in lines)
