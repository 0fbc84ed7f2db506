"""A database that is away: Authly stays up, says what is the matter, and recovers by itself."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.migrations import read_migrations
from tests.instance import Instance
from tests.postgres import has_keeper
from tests.processes import is_alive, kill, wait_until

MakeInstance = Callable[..., Instance]

PAGE = "/login"
both_worker_classes = pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])


class Server:
    """A PostgreSQL that a test stops and starts again, always in the same directory and at the same address.

    Args:
        state: its state directory.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._postgres = EmbeddedPostgres(state)

    def start(self) -> str:
        """Start it, and return its URL."""
        return self._postgres.start()

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        self._postgres.release()
        wait_until(lambda: not has_keeper(self._state))


@pytest.fixture
def server(create_state: Callable[[Path], None]) -> Iterator[Server]:
    """A PostgreSQL of this test's own, not started yet."""
    state = Path(tempfile.mkdtemp(prefix="authly-"))
    create_state(state)
    server = Server(state)
    yield server
    server.stop()
    shutil.rmtree(state)


def readiness(instance: Instance) -> tuple[int, str]:
    """Return the status and the reason that a worker gives."""
    status, _, body = instance.get("/health/ready")
    answer = json.loads(body)
    assert answer["status"] == ("ready" if status == 200 else "not_ready")
    return status, answer["reason"]


def all_are_ready(instance: Instance) -> bool:
    """Tell whether ten questions in a row find a worker that is ready."""
    return all(readiness(instance)[0] == 200 for _ in range(10))


@both_worker_classes
def test_workers_recycle_while_the_database_is_away(
    worker_class: str, server: Server, make_instance: MakeInstance
) -> None:
    """Without its database Authly stays up through killed and recycled workers, and is ready soon after its return."""
    url = server.start()
    instance = make_instance(
        AUTHLY_WORKER_CLASS=worker_class, AUTHLY_DATABASE_URL=url, AUTHLY_WORKERS="2", AUTHLY_MAX_REQUESTS="30"
    ).start()
    wait_until(lambda: len(instance.workers()) == 2 and all_are_ready(instance))
    seen = set(instance.workers())

    server.stop()
    wait_until(lambda: readiness(instance) == (503, "database unreachable: connection refused"))
    for _ in range(2):
        kill(instance.workers()[0])
        wait_until(lambda: len(instance.workers()) == 2 and _is_live(instance))
        seen.update(instance.workers())
    # Twelve times what a worker may answer, unless one was recycled by then.
    for _ in range(360):
        _ask(instance)
        if set(instance.workers()) - seen:
            break
    wait_until(lambda: len(set(instance.workers()) - seen) > 0)
    wait_until(lambda: len(instance.workers()) == 2)
    for _ in range(10):
        status, reason = _patient_readiness(instance)
        assert status == 503
        assert reason in {"database unreachable: connection refused", "migrations have not run yet"}
    assert _is_live(instance)
    assert instance.process.poll() is None
    assert instance.scrape()[0] == 200

    assert server.start() == url
    wait_until(lambda: all(_patient_readiness(instance)[0] == 200 for _ in range(10)), 15)
    assert instance.process.poll() is None


def test_a_start_without_the_database(server: Server, make_instance: MakeInstance) -> None:
    """Started before its database, Authly is live and not ready, and applies the migrations when it comes."""
    url = server.start()
    server.stop()
    instance = make_instance(AUTHLY_WORKERS="2", AUTHLY_DATABASE_URL=url).start()
    wait_until(lambda: readiness(instance) == (503, "database unreachable: connection refused"))
    workers = instance.workers()
    assert _is_live(instance)
    server.start()
    wait_until(lambda: all_are_ready(instance), 15)
    assert instance.workers() == workers
    # Said once by each worker, however often it tried; one that came late may have nothing to say.
    events = [json.loads(line)["event"] for line in instance.log().splitlines()]
    assert 1 <= events.count("database_unavailable") <= 2
    wait_until(lambda: instance.log().count("database_available") == 2)


def test_workers_that_start_at_once_migrate_once(database_url: str, make_instance: MakeInstance) -> None:
    """Of six workers that find an empty database at once, each migration is applied by one; all become ready."""
    instance = make_instance(AUTHLY_WORKERS="6", AUTHLY_DATABASE_URL=database_url).start()
    wait_until(lambda: instance.log().count("database_available") == 6, 30)
    lines = [json.loads(line) for line in instance.log().splitlines()]
    known = [str(migration) for migration in read_migrations()]
    applied = [name for line in lines if line["event"] == "database_available" for name in line["migrations_applied"]]
    assert sorted(applied) == known
    assert len({line["installation"] for line in lines if line["event"] == "database_available"}) == 1
    assert not [line for line in lines if line["level"] in {"warning", "error", "critical"}]
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT number FROM schema_migrations ORDER BY number").fetchall()
        assert rows == [(number,) for number in range(1, len(known) + 1)]
        assert connection.execute("SELECT count(*) FROM installation").fetchone() == (1,)
    assert all_are_ready(instance)
    assert all(map(is_alive, instance.workers()))


def _is_live(instance: Instance) -> bool:
    """Tell whether a worker answers, of which any may have been replaced at this moment."""
    return Instance.answers(f"http://{instance.address}/health/live")


def _ask(instance: Instance) -> None:
    """Ask for a page; a connection that was lost to a worker being recycled is tried again."""
    wait_until(lambda: Instance.answers(f"http://{instance.address}{PAGE}"))


def _patient_readiness(instance: Instance) -> tuple[int, str]:
    found: list[tuple[int, str]] = []

    def answered() -> bool:
        try:
            found.append(readiness(instance))
        except OSError:
            return False
        return True

    wait_until(answered)
    return found[0]
