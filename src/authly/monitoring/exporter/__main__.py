"""The exporter's process: ``python -m authly.monitoring.exporter``, started by the Gunicorn master.

It gets its listening sockets from its parent, so that a connection made while one exporter replaces another waits in
the backlog, and it ends when the pipe from its parent does.
"""

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from authly.monitoring.exporter.application import Application, Configuration
from authly.monitoring.exporter.server import Server

GRACE_SECONDS = 5.0


def _report(line: str) -> None:
    sys.stderr.write(f"authly exporter: {line}\n")
    sys.stderr.flush()


def arguments(
    configuration: Configuration, listeners: Sequence[socket.socket], watch_fd: int
) -> tuple[list[str], list[int]]:
    """Return the arguments that start this module as a process of that configuration, and the descriptors it needs."""
    fds = [listener.fileno() for listener in listeners]
    options = {
        "directory": str(configuration.directory or ""),
        "path": configuration.path,
        "rate-limit": str(configuration.rate_limit),
        "problem": configuration.problem,
        "listen-fds": ",".join(map(str, fds)),
        "watch-fd": str(watch_fd),
    }
    return [f"--{name}={value}" for name, value in options.items()], [*fds, watch_fd]


def main(argv: Sequence[str]) -> int:
    """Serve until told to end or until the parent is gone."""
    options = dict(argument.removeprefix("--").split("=", 1) for argument in argv)
    configuration = Configuration(
        directory=Path(options["directory"]) if options["directory"] else None,
        path=options["path"],
        rate_limit=int(options["rate-limit"]),
        problem=options["problem"],
    )
    listeners = [socket.socket(fileno=int(fd)) for fd in options["listen-fds"].split(",") if fd]
    application = Application(configuration, time.monotonic, _report)
    server = Server(listeners, application.respond, watch_fd=int(options["watch-fd"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
