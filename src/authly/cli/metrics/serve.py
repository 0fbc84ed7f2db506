"""``authly metrics serve``."""

import os
import sys
from pathlib import Path

import click

from authly.cli.metrics.common import Failure, directory_option, json_option
from authly.measuring import exporter_configuration
from authly.monitoring.exporter import __main__ as exporter
from authly.monitoring.exporter.sockets import bind_tcp
from authly.settings import load_settings


@click.command()
@directory_option
@click.option("--bind", metavar="HOST:PORT", help="Where to answer. Default: $AUTHLY_METRICS_BIND.")
@json_option("Write the log as JSON, an object a line, whatever $AUTHLY_LOG_FORMAT says.")
def serve(directory: Path | None, bind: str | None, as_json: bool) -> None:
    """Answer scrapes of a directory that others write to: the exporter alone, as a sidecar.

    Reads the directory and takes nothing in it: no lock, no slot, no socket, and no file is deleted. Where the
    directory is not there yet, it says so, answers with its own metrics, and with all of them from the moment the
    directory appears. Ends with SIGTERM or SIGINT, after the requests it has begun to answer.

    \b
    Examples:
      authly metrics serve
      authly metrics serve --directory /run/authly/metrics --bind 0.0.0.0:9464

    \b
    Exit codes:
      0  it was told to end
      1  it cannot listen at that address
      2  the command line is wrong
    """
    settings = load_settings()
    configuration = exporter_configuration(settings)
    if directory is not None:
        configuration = configuration._replace(directory=directory)
    if as_json:
        configuration = configuration._replace(log_format="json")
    address = bind or settings.metrics_bind
    try:
        listener = bind_tcp(address)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bind") from error
    except OSError as error:
        raise Failure(
            f"cannot listen at {address} ({error.strerror or error}): stop what listens there (an instance has an "
            "exporter of its own), or choose another address with --bind"
        ) from error
    log = exporter.Log(configuration.log_format)
    assert configuration.directory is not None
    if configuration.directory.is_dir():
        log.info(f"Metrics of {configuration.directory} at: http://{address}{configuration.path}")
    else:
        log.warn(
            f"The metrics directory {configuration.directory} is not there yet: answering at "
            f"http://{address}{configuration.path} without its metrics until Authly creates it. If it has another, "
            "name it with --directory or PROMETHEUS_MULTIPROC_DIR."
        )
    # An exporter ends with the other end of its pipe. Nobody supervises this one: it holds that end itself.
    watch_fd, own_end = os.pipe()
    os.set_inheritable(own_end, True)
    arguments, fds = exporter.arguments(configuration, [listener], watch_fd)
    for fd in fds:
        os.set_inheritable(fd, True)
    # A process that had to know all settings is three times the size of an exporter. -P: what lies in the working
    # directory is not what shall be imported.
    command = [sys.executable, "-P", "-m", "authly.monitoring.exporter", *arguments]
    os.execv(command[0], command)  # noqa: S606
