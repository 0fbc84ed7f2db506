"""Gunicorn's configuration: three workers, whose metrics outlive them, and an exporter beside them."""

import os
from pathlib import Path
from typing import Any

from authly.monitoring.gunicorn import Configuration, monitoring

_monitoring = monitoring(
    Configuration(Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "metrics"))),
    os.environ.get("METRICS_BIND", "127.0.0.1:9464"),
)

wsgi_app = "app:app"
bind = "127.0.0.1:8000"
workers = 3
worker_class = "asgi"


def on_starting(server: Any) -> None:
    """Prepare the metrics directory."""
    _monitoring.on_starting(server)


def when_ready(server: Any) -> None:
    """Start the exporter."""
    _monitoring.when_ready(server)


def post_fork(server: Any, worker: Any) -> None:
    """Give a worker its place in the directory."""
    _monitoring.post_fork(server, worker)


def pre_exec(server: Any) -> None:
    """Hand the exporter's sockets down to the next master."""
    _monitoring.pre_exec(server)


def on_exit(server: Any) -> None:
    """End the exporter."""
    _monitoring.on_exit(server)
