"""The exporter's process: ``python -m authly.monitoring.exporter``, started by the Gunicorn master.

It gets its listening sockets from its parent, so that a connection made while one exporter replaces another waits in
the backlog, and it ends when the pipe from its parent does.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from authly.monitoring.exporter.access.denials import Denials
from authly.monitoring.exporter.access.guard import Access, Everybody, Guard
from authly.monitoring.exporter.application import Application, Configuration
from authly.monitoring.exporter.collectors.runner import Collector
from authly.monitoring.exporter.server import Server

GRACE_SECONDS = 5.0


class Log:
    """Writes lines in the shape that the rest of Authly writes its log in.

    Args:
        format_: json (an object a line) or console (for people).
    """

    def __init__(self, format_: str) -> None:
        self._format = format_

    def info(self, words: str) -> None:
        """Write a line that asks nothing of anybody."""
        self._write("info", words)

    def warn(self, words: str) -> None:
        """Write a line that somebody should read."""
        self._write("warning", words)

    def _write(self, level: str, words: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"event": words, "level": level, "logger": "authly.exporter", "timestamp": now}
        line = json.dumps(record) if self._format == "json" else f"{now} [{level:9}] {words} [authly.exporter]"
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def arguments(
    configuration: Configuration, listeners: Sequence[socket.socket], watch_fd: int, memory_fd: int = -1
) -> tuple[list[str], list[int]]:
    """Return the arguments that start this module as a process of that configuration, and the descriptors it needs.

    Args:
        configuration: how it is set up.
        listeners: the sockets it shall answer at.
        watch_fd: the read end of a pipe, with whose end it ends.
        memory_fd: memory for what it counts, which outlives it; -1 where there is none.
    """
    fds = [listener.fileno() for listener in listeners]
    record = configuration._asdict() | {"directory": str(configuration.directory or "")}
    return [
        f"--configuration={json.dumps(record)}",
        f"--listen-fds={','.join(map(str, fds))}",
        f"--watch-fd={watch_fd}",
        f"--memory-fd={memory_fd}",
    ], [*fds, watch_fd, *([memory_fd] if memory_fd >= 0 else [])]


def _collectors(configuration: Configuration) -> list[Collector]:
    """Return what the exporter collects besides the metric files."""
    # Not at the top: the master imports this module, and does without psutil.
    from authly.monitoring.exporter.collectors.gunicorn import GunicornCollector
    from authly.monitoring.exporter.collectors.processes import Cpu
    from authly.monitoring.exporter.collectors.system import Instance, SystemCollector

    instance = Instance(configuration.master, Cpu(*configuration.ended_exporters), Cpu(*configuration.ended_others))
    collectors: list[Collector] = [SystemCollector(instance)]
    if configuration.directory is not None:
        collectors.append(GunicornCollector(configuration.directory))
    return collectors


def _allow_many_files() -> None:
    """Raise the limit of open files to what is allowed: each worker has half a dozen, and they stay open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _warn_of_openness(access: Access, listeners: Sequence[socket.socket], log: Log) -> None:
    """Say so if anybody who reaches this machine may look."""
    if access.protects:
        return
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            continue
        host, port = listener.getsockname()[:2]
        if not (host == "::1" or host.removeprefix("::ffff:").startswith("127.")):
            log.warn(
                f"Everybody who reaches {host} port {port} can read the metrics: bind the exporter to 127.0.0.1 "
                "(AUTHLY_METRICS_BIND), or say who may look (AUTHLY_METRICS_WEB_CONFIG_FILE)."
            )


def main(argv: Sequence[str]) -> int:
    """Serve until told to end or until the parent is gone."""
    options = dict(argument.removeprefix("--").split("=", 1) for argument in argv)
    record = json.loads(options["configuration"])
    configuration = Configuration(**record)._replace(
        directory=Path(record["directory"]) if record["directory"] else None,
        collectors=tuple(record["collectors"]),
        constant_labels=tuple(tuple(label) for label in record["constant_labels"]),
        ended_exporters=tuple(record["ended_exporters"]),
        ended_others=tuple(record["ended_others"]),
        settings=tuple(tuple(setting) for setting in record["settings"]),
    )
    _allow_many_files()
    listeners = [socket.socket(fileno=int(fd)) for fd in options["listen-fds"].split(",") if fd]
    log = Log(configuration.log_format)
    access: Access = Everybody()
    if configuration.web_config_file:
        denials = Denials(int(options["memory-fd"]))
        access = Guard(Path(configuration.web_config_file), denials, time.monotonic, log.warn)
    _warn_of_openness(access, listeners, log)
    application = Application(configuration, time.monotonic, log.warn, _collectors(configuration), access.collect)
    # What a custom collector measures with prometheus-client stays in this process, and leaves no files behind.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    application.load_collectors()
    server = Server(
        listeners,
        lambda request: access.respond(request, application.begin),
        access,
        watch_fd=int(options["watch-fd"]),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
