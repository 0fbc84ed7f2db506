"""The Gunicorn hooks: the directory before the workers, an exporter beside them, a slot in each of them.

Works for any Gunicorn application; ``gunicorn.conf.py`` needs one object and a line for each hook::

    from pathlib import Path
    from authly.monitoring.gunicorn import Configuration, monitoring

    _monitoring = monitoring(Configuration(Path("/run/app/metrics")), "127.0.0.1:9464")

    def on_starting(server):
        _monitoring.on_starting(server)

and likewise ``when_ready``, ``post_fork``, ``pre_exec`` and ``on_exit``.

Hooks run in the master, whose end is the end of everything: they start no threads, wait for nothing, and what can
fail in them fails with a line in the log.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from authly.monitoring.exporter import __main__ as exporter
from authly.monitoring.exporter.application import Configuration, sentence
from authly.monitoring.exporter.sockets import bind_tcp, bind_unix
from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess.directory import DirectoryInUseError, DirectoryUnusableError, InstanceLock

__all__ = ["Configuration", "Hooks", "Monitoring", "NullMonitoring", "StartRefusedError", "at_each_turn", "monitoring"]

DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
# Tells a re-executed master (SIGUSR2) which descriptors it was handed.
HANDED_DOWN_VARIABLE: Final = "AUTHLY_MONITORING_HANDED_DOWN"
_RETRY_BIND_SECONDS: Final = 5.0
_MAX_DELAY: Final = 60.0
_SOON: Final = 5.0
_STOP_SECONDS: Final = exporter.GRACE_SECONDS + 1.0
_PR_SET_PDEATHSIG: Final = 1


class StartRefusedError(RuntimeError):
    """The instance must not start; Gunicorn prints the message and exits with status 1."""


class Hooks(Protocol):
    """What ``gunicorn.conf.py`` calls, hook by hook."""

    def on_starting(self, server: Any) -> None:
        """Prepare, before anything listens."""

    def when_ready(self, server: Any) -> None:
        """Start what runs beside the workers."""

    def post_fork(self, server: Any, worker: Any) -> None:
        """Prepare a new worker."""

    def pre_exec(self, server: Any) -> None:
        """Hand on to the next master what it shall not open itself."""

    def on_exit(self, server: Any) -> None:
        """End what runs beside the workers."""


class NullMonitoring:
    """The hooks where nothing is to be measured."""

    def on_starting(self, server: Any) -> None:
        """Do nothing."""

    def when_ready(self, server: Any) -> None:
        """Do nothing."""

    def post_fork(self, server: Any, worker: Any) -> None:
        """Do nothing but let the worker end with its master."""
        end_with_parent(worker.ppid)

    def pre_exec(self, server: Any) -> None:
        """Do nothing."""

    def on_exit(self, server: Any) -> None:
        """Do nothing."""


class Monitoring:
    """The monitoring of one Gunicorn master and its workers.

    Args:
        configuration: how the exporter is set up, and where the workers keep their metrics.
        bind: ``HOST:PORT`` of the exporter.
        max_bytes: how many bytes of the directory each worker may take; 0 sets no limit.
    """

    def __init__(self, configuration: Configuration, bind: str, max_bytes: int = 0) -> None:
        if configuration.directory is None:
            raise ValueError("monitoring needs a directory for the metrics of the workers")
        self._configuration = configuration
        self._configured_directory = configuration.directory.absolute()
        self._bind = bind
        self._max_bytes = max_bytes
        # None until on_starting found the directory fit for use.
        self._directory: Path | None = None
        self._problem = ""
        self._lock: InstanceLock | None = None
        self._tcp: socket.socket | None = None
        self._unix: socket.socket | None = None
        self._pipe: tuple[int, int] | None = None
        self._exporter: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._delay = 0.0
        self._bind_at = 0.0
        # Processor time of children that this master has waited for, and that were no workers.
        self._ended_exporters = (0.0, 0.0)
        self._ended_others = (0.0, 0.0)

    # Hooks

    def on_starting(self, server: Any) -> None:
        """Check the directory and make it this instance's, before anything listens.

        Raises:
            StartRefusedError: another instance owns the directory.
        """
        handed_down = self._take_what_was_handed_down()
        try:
            for warning in metrics_directory.check(self._configured_directory):
                server.log.warning("%s", sentence(warning))
            if "lock" in handed_down:
                # The description is the other master's too: both own the directory until one of them ends.
                self._lock = InstanceLock(handed_down["lock"])
            else:
                holder = f"the instance of process {os.getpid()} ({', '.join(map(str, server.cfg.bind))})"
                self._lock = metrics_directory.own(self._configured_directory, holder)
        except DirectoryInUseError as error:
            raise StartRefusedError(sentence(str(error))) from error
        except DirectoryUnusableError as error:
            self._problem = str(error)
            server.log.error("%s Until then each worker keeps its metrics to itself.", sentence(str(error)))
            os.environ.pop(DIRECTORY_VARIABLE, None)
        else:
            self._directory = self._configured_directory
            os.environ[DIRECTORY_VARIABLE] = str(self._directory)
            if "unix" in handed_down:
                self._unix = socket.socket(fileno=handed_down["unix"])
        if "tcp" in handed_down:
            self._tcp = socket.socket(fileno=handed_down["tcp"])

    def when_ready(self, server: Any) -> None:
        """Open the exporter's sockets, start it, and see to it that it stays."""
        self._pipe = os.pipe()
        # Gunicorn calls this before it forks its first worker.
        self._ended_others = _ended_children()
        if self._directory is not None and self._unix is None:
            try:
                self._unix = bind_unix(self._directory)
            except OSError as error:
                server.log.error("The exporter has no socket in %s: %s.", self._directory, error)
        self._open_tcp(server)
        self._supervise(server)
        at_each_turn(server, lambda: self._supervise(server))

    def post_fork(self, server: Any, worker: Any) -> None:
        """Close the master's ends of things, and give the worker its place in the directory."""
        self._close_sockets()
        if self._pipe is not None:
            # With a worker's copy open the exporter would outlive the master.
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None
        end_with_parent(worker.ppid)
        # Not at the top: the import costs 14 MB, which the master and the exporter can do without.
        from authly.monitoring.multiprocess import values

        values.install(self._directory, self._max_bytes)

    def pre_exec(self, server: Any) -> None:
        """Hand the lock and the listening sockets down to the next master; runs in a child about to become it."""
        handed_down = {
            "lock": self._lock.fd if self._lock else None,
            "tcp": self._tcp.fileno() if self._tcp else None,
            "unix": self._unix.fileno() if self._unix else None,
        }
        fds = {name: fd for name, fd in handed_down.items() if fd is not None}
        for fd in fds.values():
            os.set_inheritable(fd, True)
        # Gunicorn executes with the environment it was started with, plus what is put into this copy of it.
        server.cfg.env_orig[HANDED_DOWN_VARIABLE] = json.dumps({"bind": self._bind, "fds": fds})

    def on_exit(self, server: Any) -> None:
        """End the exporter; it answers what it has begun to read."""
        if self._exporter is not None and self._exporter.poll() is None:
            self._exporter.terminate()
            try:
                self._exporter.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._exporter.kill()
                self._exporter.wait()
        self._close_sockets()

    # The exporter

    def _take_what_was_handed_down(self) -> dict[str, int]:
        text = os.environ.pop(HANDED_DOWN_VARIABLE, "")
        if not text:
            return {}
        record = json.loads(text)
        fds: dict[str, int] = record["fds"]
        for fd in fds.values():
            os.set_inheritable(fd, False)
        if record["bind"] != self._bind and "tcp" in fds:
            os.close(fds.pop("tcp"))
        return fds

    def _open_tcp(self, server: Any) -> None:
        """Listen for Prometheus; where somebody else does, say so and try again later."""
        if self._tcp is not None or time.monotonic() < self._bind_at:
            return
        first = self._bind_at == 0.0
        self._bind_at = time.monotonic() + _RETRY_BIND_SECONDS
        try:
            self._tcp = bind_tcp(self._bind)
        except OSError as error:
            if first:
                reason = (
                    "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
                )
                server.log.error(
                    "The exporter cannot listen at %s: %s. Authly runs on, and %s on its own port answers; stop the "
                    "other process, or set AUTHLY_METRICS_BIND to a free address. Trying again every %d s.",
                    self._bind,
                    reason,
                    self._configuration.path,
                    _RETRY_BIND_SECONDS,
                )
        else:
            host, port = self._tcp.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            server.log.info("Metrics at: http://%s:%d%s", shown, port, self._configuration.path)
            if not first and self._exporter is not None:
                # The running exporter has no part in the new socket; its successor will.
                self._exporter.terminate()

    def _supervise(self, server: Any) -> None:
        """Start the exporter if it does not run. Called again and again from the arbiter's loop; never raises."""
        try:
            self._open_tcp(server)
            if self._exporter is not None and self._has_ended(self._exporter):
                self._note_end(server, self._exporter)
                self._exporter = None
            if self._exporter is None and time.monotonic() >= self._start_at:
                self._start(server)
        except Exception:  # the master goes on, whatever it is
            self._start_at = time.monotonic() + _MAX_DELAY
            server.log.exception("The exporter could not be started; trying again in %d s.", _MAX_DELAY)

    def _has_ended(self, exporter: "subprocess.Popen[bytes]") -> bool:
        """Tell whether an exporter has ended, and if so add its processor time to that of those before it."""
        before = _ended_children()
        if exporter.poll() is None:
            return False
        user, system = _ended_children()
        self._ended_exporters = (
            self._ended_exporters[0] + user - before[0],
            self._ended_exporters[1] + system - before[1],
        )
        return True

    def _note_end(self, server: Any, ended: "subprocess.Popen[bytes]") -> None:
        now = time.monotonic()
        failed_to_start = ended.returncode > 0 and now - self._started_at < _SOON
        self._delay = min(_MAX_DELAY, max(1.0, 2 * self._delay)) if failed_to_start else 0.0
        self._start_at = now + self._delay
        server.log.warning(
            "The exporter (pid:%s) ended%s; starting it again%s.",
            ended.pid,
            f" with code {ended.returncode}" if ended.returncode > 0 else "",
            f" in {self._delay:.0f} s" if self._delay else "",
        )

    def _start(self, server: Any) -> None:
        assert self._pipe is not None
        listeners = [listener for listener in (self._tcp, self._unix) if listener is not None]
        if not listeners:
            return
        configuration = self._configuration._replace(
            directory=self._directory,
            problem=self._problem,
            master=os.getpid(),
            ended_exporters=self._ended_exporters,
            ended_others=self._ended_others,
        )
        arguments, fds = exporter.arguments(configuration, listeners, self._pipe[0])
        self._exporter = subprocess.Popen(
            # -P: what lies in the working directory is not what shall be imported.
            [sys.executable, "-P", "-m", "authly.monitoring.exporter", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            # Ctrl-C in a terminal reaches the whole foreground group; the exporter ends when its master says so.
            start_new_session=True,
        )
        self._started_at = time.monotonic()
        server.log.info("Booting exporter with pid: %s", self._exporter.pid)

    def _close_sockets(self) -> None:
        for listener in (self._tcp, self._unix):
            if listener is not None:
                listener.close()
        self._tcp = self._unix = None


_monitoring: Monitoring | None = None


def monitoring(configuration: Configuration, bind: str, max_bytes: int = 0) -> Monitoring:
    """Return the monitoring of this master.

    Gunicorn evaluates its configuration again at each SIGHUP; what runs by then stays as it is, and so the first call
    decides.

    Args:
        configuration: how the exporter is set up, and where the workers keep their metrics.
        bind: ``HOST:PORT`` of the exporter.
        max_bytes: how many bytes of the directory each worker may take; 0 sets no limit.
    """
    global _monitoring
    if _monitoring is None:
        _monitoring = Monitoring(configuration, bind, max_bytes)
    return _monitoring


def _ended_children() -> tuple[float, float]:
    """Return the processor time, user and system, of all children that this process has waited for."""
    times = os.times()
    return times.children_user, times.children_system


def end_with_parent(parent: int) -> None:
    """Let this process be told to end (SIGTERM) when its parent dies, however that dies.

    Args:
        parent: the process id of the parent.

    Raises:
        SystemExit: it died before the kernel was asked.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def at_each_turn(server: Any, call: Callable[[], None]) -> None:
    """Let the arbiter call something at each turn of its loop, and before it reaps.

    The loop turns at least once a second, and as soon as a child ends: a supervisor without a thread, a timer or a
    process of its own. Only this one object changes.

    Args:
        server: the arbiter.
        call: must be quick, and must not raise.
    """
    for name in ("manage_workers", "reap_workers"):
        setattr(server, name, _preceded(getattr(server, name), call))


def _preceded(method: Callable[[], None], first: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        method()

    return both
