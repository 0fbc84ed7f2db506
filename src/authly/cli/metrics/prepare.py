"""``authly metrics prepare``."""

import shlex
from pathlib import Path

import click

from authly.cli.metrics.common import Failure, configured_directory, directory_option, json_option, print_json
from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess.directory import DirectoryUnusableError


@click.command()
@directory_option
@json_option("One JSON object: directory, export, owner, warnings.")
def prepare(directory: Path | None, as_json: bool) -> None:
    """Create and check the directory of the metric files; print the line that a deploy script evaluates.

    On standard output there is that line and nothing else; messages go to standard error. Nothing in the directory is
    changed or deleted, and an instance that runs there is not disturbed.

    \b
    Examples:
      eval "$(authly metrics prepare)"
      eval "$(authly metrics prepare --directory /run/authly/metrics)"
      authly metrics prepare --json | jq -r .directory

    \b
    Exit codes:
      0  the directory can be used (there may be warnings)
      1  it cannot; a line says why and what to do
      2  the command line is wrong
    """
    directory = directory or configured_directory()
    try:
        warnings = metrics_directory.check(directory)
        owner = metrics_directory.owner(directory)
    except DirectoryUnusableError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"the lock file in {directory} cannot be opened ({error.strerror}): delete it") from error
    for warning in warnings:
        click.echo(f"authly: {warning}", err=True)
    if owner is not None:
        click.echo(f"authly: {directory} is in use by {owner}", err=True)
    export = f"export PROMETHEUS_MULTIPROC_DIR={shlex.quote(str(directory))}"
    if as_json:
        print_json({"directory": str(directory), "export": export, "owner": owner, "warnings": warnings})
    else:
        click.echo(export)
