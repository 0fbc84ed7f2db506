"""``authly metrics``: tools for the people who run Authly. One file for each command.

Owns what is typed and what is shown. What is wrong with an instance is found by ``authly.monitoring.diagnosis``, what
an exposition says by ``authly.monitoring.inspection``. docs/cli.md documents every command, option and exit code.
"""

import click

from authly.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "catalog": "authly.cli.metrics.catalog:catalog",
        "client": "authly.cli.metrics.client:client",
        "doctor": "authly.cli.metrics.doctor:doctor",
        "dump": "authly.cli.metrics.dump:dump",
        "prepare": "authly.cli.metrics.prepare:prepare",
        "serve": "authly.cli.metrics.serve:serve",
        "top": "authly.cli.metrics.top:top",
    },
)
def metrics() -> None:
    """Prepare, diagnose and read the metrics of an instance, running or not.

    \b
    Exit codes of all of these:
      0  what was asked for is done; doctor: nothing is wrong
      1  it cannot be done; a line says why and what to do
      2  the command line is wrong
      3  doctor: there are warnings, and no errors
      4  doctor: there are errors
    """
