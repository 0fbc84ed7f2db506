"""Locks, names and the log of the keeper."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from authly.core import postgres_keeper
from authly.core.postgres_keeper import KEEPER, STARTING, USERS, is_locked, lock, socket_name


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    """The same file, opened three times."""
    descriptors = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(3)]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_locks_belong_to_the_open_file(files: list[int]) -> None:
    """Readers share a byte, a writer waits for all of them, and bytes do not disturb each other."""
    first, second, writer = files
    assert lock(first, USERS, fcntl.F_RDLCK, wait=False)
    assert lock(second, USERS, fcntl.F_RDLCK, wait=False)
    assert not lock(writer, USERS, fcntl.F_WRLCK, wait=False)
    assert lock(writer, KEEPER, fcntl.F_WRLCK, wait=False)
    assert is_locked(first, KEEPER)
    assert not is_locked(first, STARTING)
    assert not is_locked(writer, KEEPER)
    lock(first, USERS, fcntl.F_UNLCK)
    assert not lock(writer, USERS, fcntl.F_WRLCK, wait=False)
    lock(second, USERS, fcntl.F_UNLCK)
    assert lock(writer, USERS, fcntl.F_WRLCK, wait=False)


def test_socket_name_is_stable_and_differs_for_a_copy(tmp_path: Path) -> None:
    """One data directory has one name, wherever it is moved; a copy, or another password, has another."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    for folder in (original, copy):
        (folder / "data").mkdir(parents=True)
    name = socket_name(original, "sesame")
    assert socket_name(original.rename(tmp_path / "moved"), "sesame") == name
    assert socket_name(copy, "sesame") != name
    assert socket_name(tmp_path / "moved", "other") != name
    # "@:" keeps psycopg from asking the DNS; see there.
    assert name.startswith("@:authly-")
    assert len(f"{name}/.s.PGSQL.5432") < 107


def test_log_is_put_aside_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log never takes more than two files of its limit, and keeps its last lines at hand."""
    monkeypatch.setattr(postgres_keeper, "_LOG_LIMIT", 1000)
    log = postgres_keeper._Log(tmp_path / "postgres.log")
    for number in range(200):
        log.write(f"line {number:04}\n".encode())
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"postgres.log", "postgres.log.1"}
    assert max(sizes.values()) <= 1010
    assert log.tail().splitlines()[-1] == "  line 0199"
    log._file.close()


def test_keeper_imports_only_light_modules() -> None:
    """It lives as long as the service, so it brings none of the service's modules into memory."""
    script = "import sys, authly.core.postgres_keeper; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert not {"psycopg", "pydantic", "structlog", "asyncio", "importlib.metadata"} & set(run.stdout.split())
