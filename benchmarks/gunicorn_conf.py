"""Gunicorn's configuration for what is measured with it: the hooks of Authly's monitoring, and nothing else."""

import os
from pathlib import Path
from typing import Any

from authly.monitoring.gunicorn import Configuration, monitoring

_monitoring = monitoring(
    Configuration(Path(os.environ["BENCHMARK_DIRECTORY"]), web_config_file=os.environ["BENCHMARK_WEB_CONFIG"]),
    os.environ["BENCHMARK_METRICS_BIND"],
)

wsgi_app = "benchmarks.application:with_many_series()"
bind = os.environ["BENCHMARK_BIND"]
workers = int(os.environ["BENCHMARK_WORKERS"])
worker_class = "uvicorn_worker.UvicornWorker"
keepalive = 60
loglevel = "warning"
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Prepare the metrics directory."""
    _monitoring.on_starting(server)


def when_ready(server: Any) -> None:
    """Start the exporter."""
    _monitoring.when_ready(server)


def post_fork(server: Any, worker: Any) -> None:
    """Give a worker its place among the metrics."""
    _monitoring.post_fork(server, worker)


def on_exit(server: Any) -> None:
    """End the exporter."""
    _monitoring.on_exit(server)
