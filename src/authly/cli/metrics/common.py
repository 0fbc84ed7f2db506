"""What the commands have in common: options, exit codes, how they fail."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

FAILED: Final = 1
WARNINGS: Final = 3
ERRORS: Final = 4


class Failure(click.ClickException):
    """What was asked for cannot be done; the message says why and what to do."""

    exit_code = FAILED

    def show(self, file: Any = None) -> None:
        """Write the message to standard error."""
        click.echo(f"authly: {self.message}", file=file, err=True)


def _absolute(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    return None if value is None else value.expanduser().absolute()


def directory_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command be told the directory of the metric files; None if it is not."""
    return click.option(
        "--directory",
        envvar="PROMETHEUS_MULTIPROC_DIR",
        type=click.Path(path_type=Path),
        callback=_absolute,
        metavar="DIR",
        help="The directory of the metric files. Default: $PROMETHEUS_MULTIPROC_DIR, else `metrics` below the state "
        "directory ($AUTHLY_STATE_DIR).",
    )(function)


def json_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command be asked for JSON.

    Args:
        what: there will be on standard output.
    """
    return click.option("--json", "as_json", is_flag=True, help=what)


def print_json(record: Any) -> None:
    """Print one JSON document on a line; numbers that JSON does not have become texts, as in PromQL's answers."""
    click.echo(json.dumps(_finite(record), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def configured_directory() -> Path:
    """Return the directory that the settings name.

    Raises:
        SettingsError: a setting holds something it does not accept.
    """
    # Not at the top: the import takes longer than everything else together.
    from authly.settings import load_settings

    return load_settings().metrics_directory


def configured_path() -> str:
    """Return the path of the exposition that the settings name.

    Raises:
        SettingsError: a setting holds something it does not accept.
    """
    from authly.settings import load_settings

    return load_settings().metrics_path
