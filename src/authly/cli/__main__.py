"""The ``authly`` command."""

import sys

import click

from authly import __version__
from authly.cli.admin import admin
from authly.cli.db import db
from authly.cli.serve import serve
from authly.core.embedded_postgres import EmbeddedPostgresError
from authly.core.secret_key import SecretKeyError
from authly.settings import SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="Authly %(version)s")
def authly() -> None:
    """Authly, an OAuth 2.1 / OpenID Connect authorization server.

    Settings come from the environment; docs/configuration.md lists them.
    """


authly.add_command(admin)
authly.add_command(db)
authly.add_command(serve)


def main() -> None:
    """Run the command; say what was wrong in a line rather than a traceback."""
    try:
        authly(prog_name="authly")
    except (SettingsError, EmbeddedPostgresError, SecretKeyError) as error:
        click.echo(f"authly: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
