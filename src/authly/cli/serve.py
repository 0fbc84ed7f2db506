"""``authly serve``."""

import os
import sys
import sysconfig
from pathlib import Path

import click

import authly.settings


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("gunicorn_options", nargs=-1, type=click.UNPROCESSED)
def serve(gunicorn_options: tuple[str, ...]) -> None:
    """Serve: Gunicorn with its workers, the exporter, and an embedded PostgreSQL unless AUTHLY_DATABASE_URL is set.

    GUNICORN_OPTIONS are passed on to Gunicorn, after Authly's own configuration.

    \b
    Examples:
      authly serve
      AUTHLY_WORKERS=8 AUTHLY_BIND=0.0.0.0:8000 authly serve
      authly serve --timeout 60
    """
    # Here too, so that a wrong one is one line and not Gunicorn's traceback.
    authly.settings.load_settings()
    # Gunicorn's own script, executed: what SIGUSR2 executes again is then what was called. (`python -m gunicorn`
    # would put Gunicorn's folder, with its module named http, in front of the standard library the second time.)
    gunicorn = Path(sysconfig.get_path("scripts")) / "gunicorn"
    configuration = Path(authly.__file__).with_name("gunicorn_conf.py")
    arguments = [sys.executable, str(gunicorn), "--config", str(configuration), *gunicorn_options]
    os.execv(arguments[0], arguments)  # noqa: S606
