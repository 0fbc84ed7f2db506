"""Options that say where an exposition comes from."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from authly.cli.metrics.common import configured_directory, configured_path, directory_option
from authly.monitoring.inspection.source import AddressSource, LocalSource, Source


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command be told where the exposition comes from: ``directory``, ``url``, ``header``, ``ca_file``."""
    for option in (
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Certificates to trust for an https:// URL, in the place of the system's.",
        ),
        click.option(
            "--header",
            multiple=True,
            metavar="'NAME: VALUE'",
            help="Send this header to the URL, such as 'Authorization: Bearer TOKEN'; may be given several times.",
        ),
        click.option(
            "--url",
            metavar="URL",
            help="Ask the exporter at this URL. Default: the exporter of the directory, over its socket; where none "
            "answers, the files themselves.",
        ),
        directory_option,
    ):
        function = option(function)
    return function


def source_of(directory: Path | None, url: str | None, header: Iterable[str], ca_file: Path | None) -> Source:
    """Return the source that the options describe.

    Raises:
        click.UsageError: they describe none.
        SettingsError: a setting holds something it does not accept.
    """
    if url is None:
        if header or ca_file:
            raise click.UsageError("--header and --ca-file are for an exporter at a --url.")
        return LocalSource(directory or configured_directory(), configured_path())
    headers = {}
    for line in header:
        name, colon, value = line.partition(":")
        if not (colon and name.strip()):
            raise click.BadParameter(f"{line!r} is not 'NAME: VALUE'", param_hint="--header")
        headers[name.strip()] = value.strip()
    try:
        return AddressSource(url, headers, ca_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
