"""Gunicorn's settings that harm metrics, or the instance as a whole."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from authly.monitoring.diagnosis.findings import Finding, error, warning
from authly.monitoring.diagnosis.subject import Subject
from authly.monitoring.multiprocess.directory import file_system

_IN_MEMORY = {"tmpfs", "ramfs"}


def evaluation(subject: Subject) -> Iterator[Finding]:
    """Check that Gunicorn accepts its configuration."""
    if subject.gunicorn_problem:
        yield error(
            "gunicorn_configuration",
            f"Gunicorn's configuration cannot be evaluated: {subject.gunicorn_problem}.",
            "Gunicorn does not start with it, nor reload it.",
            "Correct it; `gunicorn --check-config -c FILE APP` shows the whole error.",
        )


def hooks(subject: Subject) -> Iterator[Finding]:
    """Check that the configuration calls all hooks of the monitoring."""
    if subject.gunicorn and subject.measuring and subject.gunicorn.missing_hooks:
        missing = ", ".join(subject.gunicorn.missing_hooks)
        yield error(
            "hooks_missing",
            f"Gunicorn's configuration does not define {missing}.",
            "Without on_starting nobody owns the directory, without when_ready there is no exporter, without post_fork "
            "workers write files named after process ids, without pre_exec and on_exit nothing is handed on or ended.",
            "Use Authly's gunicorn.conf.py, or define them as docs/exporter.md shows.",
        )


def preload(subject: Subject) -> Iterator[Finding]:
    """Check that the application is loaded after the hooks have chosen where metrics go."""
    if subject.gunicorn and subject.gunicorn.preload_app:
        yield warning(
            "preload_app",
            "Gunicorn's setting preload_app is on.",
            "The application is then loaded before on_starting and post_fork, and its metrics are constructed before "
            "it is decided where they are kept: each worker keeps them to itself. And SIGHUP loads no new code.",
            "Switch it off; or call `values.install` before the application constructs its first metric.",
        )


def jitter(subject: Subject) -> Iterator[Finding]:
    """Check that workers are not all replaced at once."""
    gunicorn = subject.gunicorn
    if gunicorn and gunicorn.max_requests and not gunicorn.max_requests_jitter and gunicorn.workers > 1:
        yield warning(
            "no_jitter",
            f"Gunicorn's setting max_requests is {gunicorn.max_requests}, and max_requests_jitter 0.",
            "Workers that started together reach it together, and for a moment nobody answers.",
            f"Set max_requests_jitter, to {max(1, gunicorn.max_requests // 10)} for example.",
        )


def heartbeat(subject: Subject) -> Iterator[Finding]:
    """Check that heartbeats do not wait for a disk."""
    gunicorn = subject.gunicorn
    if gunicorn is None:
        return
    folder = gunicorn.worker_tmp_dir or tempfile.gettempdir()
    kind = file_system(Path(folder))
    if kind and kind not in _IN_MEMORY and os.access("/dev/shm", os.W_OK | os.X_OK):  # noqa: S108
        yield warning(
            "heartbeat_on_disk",
            f"Gunicorn's workers keep their heartbeat in {folder}, on a {kind} file system (worker_tmp_dir).",
            "A heartbeat that waits for a busy disk makes a healthy worker look hung, and the master kills it.",
            "Set worker_tmp_dir to a directory in memory, such as /dev/shm.",
        )


def control_socket(subject: Subject) -> Iterator[Finding]:
    """Check that the control socket is this instance's alone."""
    gunicorn = subject.gunicorn
    if gunicorn and gunicorn.shares_control_socket:
        yield warning(
            "control_socket_shared",
            f"Gunicorn's control socket is at its default path, {gunicorn.control_socket}.",
            "All instances of a user share that path, and each takes it from the one before: commands reach the wrong "
            "instance.",
            "Set control_socket to a path of its own for each instance, or control_socket_disable.",
        )


def reuse_port(subject: Subject) -> Iterator[Finding]:
    """Check that the master owns the listening sockets."""
    if subject.gunicorn and subject.gunicorn.reuse_port:
        yield warning(
            "reuse_port",
            "Gunicorn's setting reuse_port is on.",
            "Each worker then has a listening socket of its own: connections that wait for a worker which ends are "
            "refused, and nobody can tell how many wait.",
            "Switch it off.",
        )


def number_of_workers(subject: Subject) -> Iterator[Finding]:
    """Check that there are not many more workers than processors."""
    processors = len(os.sched_getaffinity(0))
    if subject.gunicorn and subject.gunicorn.workers > 4 * processors + 1:
        yield warning(
            "many_workers",
            f"Gunicorn starts {subject.gunicorn.workers} workers for {processors} processors.",
            "They get in each other's way, and each takes memory, connections to the database, and a set of files "
            "that every scrape reads.",
            f"Set AUTHLY_WORKERS to between {processors + 1} and {2 * processors + 1}.",
        )


def timeout(subject: Subject) -> Iterator[Finding]:
    """Check that a worker that hangs is replaced."""
    if subject.gunicorn and not subject.gunicorn.timeout:
        yield warning(
            "no_timeout",
            "Gunicorn's setting timeout is 0.",
            "A worker that hangs is never replaced.",
            "Set timeout to some seconds, 30 for example.",
        )
