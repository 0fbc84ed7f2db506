"""Pool, migrations and resource manager against a real PostgreSQL."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import structlog

from authly.core.database import connect, create_pool, explain
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.migrations import Migration, MigrationError, installation_id, migrate, pending, read_migrations
from authly.core.resource_manager import Readiness, ResourceManager
from tests.instance import Instance
from tests.postgres import freeze, has_keeper, keeper_pid, postmaster_pid, with_database
from tests.processes import is_alive, kill, wait_until

pytestmark = pytest.mark.anyio

FIRST = Migration(1, "first", "CREATE TABLE first (number integer); INSERT INTO first VALUES (1);")
SECOND = Migration(2, "second", "ALTER TABLE first ADD name text")


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as Authly does."""
    return "asyncio"


@pytest.fixture
def own_server(create_state: Callable[[Path], None]) -> Iterator[tuple[Path, str]]:
    """A server that a test may stop, freeze and kill: its state directory and its URL."""
    state = Path(tempfile.mkdtemp(prefix="authly-"))
    create_state(state)
    server = EmbeddedPostgres(state)
    yield state, server.start()
    server.release()
    wait_until(lambda: not has_keeper(state))
    shutil.rmtree(state)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


async def becomes_ready(manager: ResourceManager) -> None:
    """Wait until a manager is ready."""

    async def ready() -> bool:
        return (await manager.check()).ready

    await eventually(ready)


async def test_own_migrations_apply_once(database_url: str) -> None:
    """All migrations apply to an empty database, and a second run has nothing to do."""
    async with await connect(database_url) as connection:
        assert await pending(connection) == read_migrations()
        assert await migrate(connection) == read_migrations()
        assert await pending(connection) == []
        name = await installation_id(connection)
        assert await migrate(connection) == []
        assert await installation_id(connection) == name


async def test_migrations_apply_once_in_concurrent_tasks(database_url: str) -> None:
    """Of eight connections that migrate at once, each step is taken by one."""

    async def one() -> list[Migration]:
        async with await connect(database_url) as connection:
            return await migrate(connection, [FIRST, SECOND])

    done = await asyncio.gather(*(one() for _ in range(8)))
    assert sorted((step for steps in done for step in steps), key=str) == [FIRST, SECOND]
    async with await connect(database_url) as connection:
        rows = await connection.execute("SELECT number FROM first")
        assert await rows.fetchall() == [(1,)]


async def test_migrations_apply_once_in_concurrent_processes(database_url: str) -> None:
    """Eight processes that start at once, as workers do, all succeed and apply each step once."""
    script = """
import asyncio, sys
from authly.core.database import connect
from authly.core.migrations import migrate
async def main():
    async with await connect(sys.argv[1]) as connection:
        print(len(await migrate(connection)))
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, database_url], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sum(map(int, answers)) == len(read_migrations())


async def test_failing_migration_leaves_nothing_behind(database_url: str) -> None:
    """A step that fails is undone as a whole, named, and taken again once it is right."""
    wrong = Migration(2, "second", "CREATE TABLE half (); SELECT nonsense")
    async with await connect(database_url) as connection:
        with pytest.raises(MigrationError, match=r"0002_second failed and was undone.*nonsense"):
            await migrate(connection, [FIRST, wrong])
        rows = await connection.execute("SELECT to_regclass('half')")
        assert await rows.fetchone() == (None,)
        assert await migrate(connection, [FIRST, SECOND]) == [SECOND]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([Migration(1, "first", FIRST.sql + " "), SECOND], "0001_first was changed after"),
        ([FIRST], "newer than this version of Authly: it has migration 0002_second"),
        ([FIRST, Migration(2, "other", "")], "0002_second, whose file is missing"),
    ],
)
async def test_files_that_contradict_the_database(database_url: str, files: list[Migration], message: str) -> None:
    """A changed file, a missing file and a database of a later version are each called by their name."""
    async with await connect(database_url) as connection:
        await migrate(connection, [FIRST, SECOND])
        with pytest.raises(MigrationError, match=message):
            await migrate(connection, files)
        with pytest.raises(MigrationError, match=message):
            await pending(connection, files)


async def test_gap_in_the_database(database_url: str) -> None:
    """A database that lacks a step before its last one is refused."""
    async with await connect(database_url) as connection:
        await migrate(connection, [FIRST, SECOND])
        await connection.execute("DELETE FROM schema_migrations WHERE number = 1")
        with pytest.raises(MigrationError, match="lacks migration 0001"):
            await migrate(connection, [FIRST, SECOND])


async def test_pool_survives_a_restart(own_server: tuple[Path, str]) -> None:
    """After the server was killed and came back, the pool hands out working connections, none broken."""
    state, url = own_server
    pool = create_pool(url, 4)
    await pool.open(wait=False)
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
    pid = postmaster_pid(state)
    kill(pid)
    wait_until(lambda: not is_alive(pid))
    with EmbeddedPostgres(state):
        for _ in range(8):
            async with pool.connection(10) as connection:
                rows = await connection.execute("SELECT current_setting('application_name')")
                assert await rows.fetchone() == ("authly",)
    await pool.close()


async def test_manager_becomes_ready(database_url: str) -> None:
    """It migrates in the background, then says so, and names the installation."""
    manager = ResourceManager(database_url, 4)
    assert await manager.check() == Readiness(ready=False, reason="migrations have not run yet")
    await manager.start()
    await becomes_ready(manager)
    assert await manager.check() == Readiness(ready=True, reason="ready")
    assert manager.installation is not None
    async with manager.pool.connection() as connection:
        assert await installation_id(connection) == manager.installation
    await manager.stop()
    assert await manager.check() == Readiness(ready=False, reason="shutting down")


async def test_manager_waits_for_a_server_that_is_not_there_yet(create_state: Callable[[Path], None]) -> None:
    """It starts without a database, says what is wrong, and becomes ready when there is one; two log lines."""
    state = Path(tempfile.mkdtemp(prefix="authly-"))
    create_state(state)
    server = EmbeddedPostgres(state)
    url = server.start()
    server.release()
    wait_until(lambda: not has_keeper(state))
    with structlog.testing.capture_logs() as logs:
        manager = ResourceManager(url, 4)
        began = time.monotonic()
        await manager.start()
        assert time.monotonic() - began < 2.0

        async def refused() -> bool:
            return await manager.check() == Readiness(ready=False, reason="database unreachable: connection refused")

        await eventually(refused)
        with pytest.raises(psycopg.OperationalError):
            async with manager.pool.connection():
                pass
        server.start()
        await becomes_ready(manager)
    assert [entry["event"] for entry in logs] == ["database_unavailable", "database_available"]
    await manager.stop()
    server.release()
    wait_until(lambda: not has_keeper(state))
    shutil.rmtree(state)


async def test_manager_notices_that_the_server_goes_and_returns(own_server: tuple[Path, str]) -> None:
    """A server that goes away and returns makes it unready and ready again, with one log line each."""
    state, url = own_server
    manager = ResourceManager(url, 4)
    await manager.start()
    await becomes_ready(manager)
    keeper, pid = keeper_pid(state), postmaster_pid(state)
    with structlog.testing.capture_logs() as logs:
        # The keeper first, or it would start another one at once.
        kill(keeper)
        wait_until(lambda: not is_alive(pid))
        began = time.monotonic()
        seen = await manager.check()
        assert time.monotonic() - began < 2.5
        assert seen == Readiness(ready=False, reason="database unreachable: connection refused")
        await manager.check()
        server = EmbeddedPostgres(state)
        server.start()
        await becomes_ready(manager)
    assert [entry["event"] for entry in logs] == ["database_unavailable", "database_available"]
    async with manager.pool.connection() as connection:
        await connection.execute("SELECT 1")
    await manager.stop()
    server.release()


async def test_manager_stops_though_the_server_hangs(own_server: tuple[Path, str]) -> None:
    """A server that answers no more makes it unready within a second, and does not keep it from stopping."""
    state, url = own_server
    manager = ResourceManager(url, 4)
    await manager.start()
    await becomes_ready(manager)
    frozen = freeze(postmaster_pid(state))
    try:
        for _ in range(2):
            began = time.monotonic()
            seen = await manager.check()
            # Less than an attempt to connect would take.
            assert time.monotonic() - began < 2.5
            assert seen == Readiness(ready=False, reason="database unreachable: no answer in time")
    finally:
        began = time.monotonic()
        await manager.stop()
        took = time.monotonic() - began
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert took < 5


async def test_manager_tells_a_busy_pool_from_a_missing_database(database_url: str) -> None:
    """A pool that is in use up to its last connection is not ready, and says that and nothing else."""
    manager = ResourceManager(database_url, 1)
    await manager.start()
    await becomes_ready(manager)
    async with manager.pool.connection():
        busy = await manager.check()
        assert busy == Readiness(ready=False, reason="no connection of the pool is free")
    await becomes_ready(manager)
    await manager.stop()


async def test_manager_says_when_migrations_fail(database_url: str) -> None:
    """A database of a later version keeps it unready with the words of the migration error, until it is put right."""
    later = [*read_migrations(), Migration(len(read_migrations()) + 1, "later", "SELECT 1")]
    async with await connect(database_url) as connection:
        await migrate(connection, later)
        manager = ResourceManager(database_url, 2)
        await manager.start()

        async def newer() -> bool:
            return "migrations failed: The database is newer" in (await manager.check()).reason

        await eventually(newer)
        await connection.execute("DELETE FROM schema_migrations WHERE name = 'later'")
        await becomes_ready(manager)
        await manager.stop()


async def test_reasons_hold_no_password(postgres_server: str) -> None:
    """What went wrong is said in words, without the password, whatever went wrong."""
    wrong_password = postgres_server.replace("authly:", "authly:wrong", 1)
    for url, reason in [
        (wrong_password, "the user name or the password is wrong"),
        (with_database(postgres_server, "nowhere"), 'database "nowhere" does not exist'),
        ("postgresql://authly:sesame@127.0.0.1:1/authly", "connection refused"),
        ("postgresql://authly:sesame@name.invalid/authly", "the host name cannot be resolved"),
        ("postgresql://authly:sesame@[::1/authly", "the database URL cannot be understood"),
    ]:
        with pytest.raises(psycopg.Error) as caught:
            await connect(url)
        said = explain(caught.value, url)
        assert reason in said
        assert "sesame" not in said
        assert "wrong@" not in said


def test_a_worker_answers_when_it_can_do_its_work(database_url: str, make_instance: Callable[..., Instance]) -> None:
    """No request meets a worker that has yet to connect: not the first of all, and none while workers are replaced."""
    instance = make_instance(AUTHLY_DATABASE_URL=database_url).spawn()
    answers: list[int] = []

    def asked(workers: int) -> bool:
        with contextlib.suppress(OSError):
            answers.append(instance.get("/health/ready")[0])
        return bool(answers) and instance.log().count("database_available") >= workers

    wait_until(partial(asked, 3), 30)
    for workers in (6, 9):
        os.kill(instance.master, signal.SIGHUP)
        wait_until(partial(asked, workers), 30)
    assert set(answers) == {200}
