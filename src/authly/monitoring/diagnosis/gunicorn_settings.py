"""How Gunicorn is set up, found out as Gunicorn finds it out, in a process of its own.

A configuration is a program: it may print, exit, or change what it runs in. So it is evaluated elsewhere:
``python -m authly.monitoring.diagnosis.gunicorn_settings ARGUMENTS`` prints what matters as JSON. The application is
not loaded.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

HOOKS: Final = ("on_starting", "when_ready", "post_fork", "pre_exec", "on_exit")
_SECONDS: Final = 30.0


class GunicornSettingsError(Exception):
    """The configuration cannot be evaluated; the message says why."""


class GunicornSettings(NamedTuple):
    """What the checks look at; names and meaning are Gunicorn's.

    Args:
        missing_hooks: those of :data:`HOOKS` that the configuration does not define.
        user: the user id that workers change to; None where they stay what the master is.
        shares_control_socket: whether the control socket is at the path that all instances of a user have by default.
    """

    workers: int
    preload_app: bool
    max_requests: int
    max_requests_jitter: int
    timeout: int
    reuse_port: bool
    worker_tmp_dir: str | None
    control_socket: str
    shares_control_socket: bool
    user: int | None
    raw_env: tuple[str, ...]
    missing_hooks: tuple[str, ...]


def evaluate(arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None) -> GunicornSettings:
    """Return what Gunicorn would make of its configuration.

    Args:
        arguments: of Gunicorn's command line.
        environment: what it runs with.
        folder: its working directory; None for that of this process.

    Raises:
        GunicornSettingsError: Gunicorn would not start with it, or it takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, *arguments],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GunicornSettingsError(str(error)) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise GunicornSettingsError(lines[-1] if lines else f"the evaluation ended with {done.returncode}")
    try:
        record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise GunicornSettingsError("the configuration ended the evaluation early") from error
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return GunicornSettings(**values)


def arguments_of(command: Sequence[str]) -> list[str] | None:
    """Return Gunicorn's arguments from the command line of its master; None where they cannot be told."""
    for index, word in enumerate(command):
        if Path(word).name == "gunicorn":
            return list(command[index + 1 :])
    return None


def _evaluate_here() -> dict[str, Any]:
    from gunicorn import config
    from gunicorn.app.wsgiapp import WSGIApplication

    cfg = WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn").cfg
    default_socket = config.ControlSocket.default
    return {
        "workers": cfg.workers,
        "preload_app": cfg.preload_app,
        "max_requests": cfg.max_requests,
        "max_requests_jitter": cfg.max_requests_jitter,
        "timeout": cfg.timeout,
        "reuse_port": cfg.reuse_port,
        "worker_tmp_dir": cfg.worker_tmp_dir,
        "control_socket": cfg.control_socket,
        "shares_control_socket": not cfg.control_socket_disable and cfg.control_socket == default_socket,
        "user": cfg.uid if cfg.uid != os.geteuid() else None,
        "raw_env": list(cfg.raw_env),
        # Gunicorn's own do nothing.
        "missing_hooks": [name for name in HOOKS if getattr(cfg, name).__module__ == config.__name__],
    }


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(_evaluate_here())}\n")
