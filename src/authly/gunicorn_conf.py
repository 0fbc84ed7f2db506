"""Gunicorn's configuration: settings, and hooks of one line each.

``gunicorn.conf.py`` at the top of the repository is this file. Gunicorn evaluates it again at each SIGHUP.
"""

import contextlib
import gc
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from authly.core import logging
from authly.core.embedded_postgres import EmbeddedPostgresError, of_master
from authly.core.secret_key import SecretKeyError, read_or_create
from authly.measuring import exporter_configuration
from authly.monitoring.gunicorn import Hooks, NullMonitoring, StartRefusedError, at_each_turn
from authly.monitoring.gunicorn import monitoring as monitoring_of
from authly.settings import SettingsError, load_settings

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(f"Authly cannot start: {error}")

logging.configure(settings.log_level, settings.log_format)
# The master is the server's user for as long as it lives.
_embedded_postgres = of_master(settings.database_url, settings.state_path)
monitoring: Hooks = (
    monitoring_of(exporter_configuration(settings), settings.metrics_bind, settings.metrics_max_bytes)
    if settings.metrics_enabled
    else NullMonitoring()
)

wsgi_app = "authly.main:app"
bind = settings.bind
workers = settings.workers
worker_class = {"uvicorn": "uvicorn_worker.UvicornWorker", "asgi": "asgi"}[settings.worker_class]
# All workers start together; without jitter they would all be replaced together too.
max_requests = settings.max_requests
max_requests_jitter = settings.max_requests // 10
graceful_timeout = settings.graceful_timeout
keepalive = 5
loglevel = settings.log_level
logger_class = "authly.core.logging.GunicornLogger"
# A heartbeat that waits for a disk makes healthy workers look hung.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108
# Nobody's forwarded headers are believed, not even a local process's.
forwarded_allow_ips = ""
# The default path is shared by all instances of a user, which then take it from one another. A Unix socket's path has
# at most 107 bytes; where the state directory lies too deep, Gunicorn goes without.
control_socket = str(settings.state_path / f"gunicorn-{os.getpid()}.ctl")
control_socket_disable = len(os.fsencode(control_socket)) > 107

# What FastAPI imports when it sees the first route.
_IMPORTED_LATE = ("pydantic.v1",)


def on_starting(server: Any) -> None:
    """Prepare the state directory, the metrics directory and the database."""
    # For the control socket at least; where it cannot be made, Gunicorn says so and goes without.
    with contextlib.suppress(OSError):
        settings.state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_secret_key()
    monitoring.on_starting(server)
    _start_database(server)


def when_ready(server: Any) -> None:
    """Start the exporter, see to it that the database stays, and make ready what all workers need."""
    monitoring.when_ready(server)
    _keep_database(server)
    _import_application(server)


def post_fork(server: Any, worker: Any) -> None:
    """Give a worker its place among the metrics."""
    monitoring.post_fork(server, worker)


def pre_exec(server: Any) -> None:
    """Hand the exporter's sockets down to the next master, which shall be a user of the database too."""
    monitoring.pre_exec(server)
    if _embedded_postgres is not None:
        # Gunicorn keeps the environment that it found when it last read its configuration: since a SIGHUP, ours.
        server.cfg.env_orig.pop("AUTHLY_DATABASE_URL", None)


def on_exit(server: Any) -> None:
    """End the exporter."""
    monitoring.on_exit(server)


def _make_secret_key() -> None:
    """Make the secret key where none is configured; a worker that cannot would end the service with a traceback."""
    if settings.secret_key is not None:
        return
    try:
        read_or_create(settings.state_path)
    except SecretKeyError as error:
        raise StartRefusedError(str(error)) from error


def _start_database(server: Any) -> None:
    """Start, or join, the embedded PostgreSQL where no other is configured."""
    if _embedded_postgres is None:
        return
    try:
        # The workers find it as they would find any other.
        os.environ["AUTHLY_DATABASE_URL"] = _embedded_postgres.start()
    except EmbeddedPostgresError as error:
        raise StartRefusedError(str(error)) from error
    server.log.info("PostgreSQL in: %s", settings.state_path / "postgres")


def _keep_database(server: Any) -> None:
    """Replace the keeper of the embedded PostgreSQL should it be gone; a server that is gone is the keeper's matter."""
    if _embedded_postgres is None:
        return
    look_at = 0.0

    def look() -> None:
        nonlocal look_at
        if time.monotonic() < look_at:
            return
        try:
            # Not start(), which waits for the server: meanwhile the master would replace neither workers nor exporter.
            _embedded_postgres.keep()
        except EmbeddedPostgresError as error:
            look_at = time.monotonic() + 60.0
            server.log.error("%s", error)

    at_each_turn(server, look)


def _import_application(server: Any) -> None:
    """Import the application's modules, and no more: workers start in a fraction of the time, and share the memory.

    The application itself is each worker's own. Workers that end when the code changes have to import it themselves.
    """
    if server.cfg.reload:
        return
    # A collection writes into all objects that it looks at, and what is written to is shared no more.
    gc.disable()
    for module in ("authly.app", *_IMPORTED_LATE):
        importlib.import_module(module)
    gc.freeze()
    gc.enable()


def _forget_control_sockets(folder: Path) -> None:
    """Delete the control sockets of masters that are no more."""
    for path in folder.glob("gunicorn-*.ctl"):
        pid = path.stem.removeprefix("gunicorn-")
        if not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)


_forget_control_sockets(settings.state_path)
