"""The ``authly`` command."""

import sys

import click

from authly import __version__
from authly.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "admin": "authly.cli.admin:admin",
        "db": "authly.cli.db:db",
        "metrics": "authly.cli.metrics:metrics",
        "serve": "authly.cli.serve:serve",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="Authly %(version)s")
def authly() -> None:
    """Authly, an OAuth 2.1 / OpenID Connect authorization server.

    Settings come from the environment; docs/configuration.md lists them.
    """


def main() -> None:
    """Run the command; say what was wrong in a line rather than a traceback."""
    try:
        authly(prog_name="authly")
    except Exception as error:
        # Not at the top: a command that gets by without settings and database does not wait for their import.
        from authly.core.embedded_postgres import EmbeddedPostgresError
        from authly.core.secret_key import SecretKeyError
        from authly.settings import SettingsError

        if not isinstance(error, (SettingsError, EmbeddedPostgresError, SecretKeyError)):
            raise
        click.echo(f"authly: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
