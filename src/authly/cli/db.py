"""``authly db``: the database, for people who look after it."""

import asyncio
import json
from contextlib import nullcontext
from typing import Any

import click

from authly.core import migrations
from authly.core.database import connect
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.settings import Settings, load_settings, without_password


@click.group()
def db() -> None:
    """Look at the database and bring it up to date."""


@db.command()
def url() -> None:
    """Print the URL of the database, with its password, for psql and the like.

    \b
    Example:
      psql "$(authly db url)"
    """
    with _database(load_settings()) as found:
        click.echo(found)


@db.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(as_json: bool) -> None:
    """Tell whether the database answers and which migrations it has."""
    with _database(load_settings()) as found:
        facts = asyncio.run(_status(found))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):20} {', '.join(value) if isinstance(value, list) else value}")


@db.command()
def migrate() -> None:
    """Apply the migrations that the database does not have yet."""
    with _database(load_settings()) as found:
        applied = asyncio.run(_migrate(found))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("the database is up to date")


def _database(settings: Settings) -> Any:
    return nullcontext(settings.database_url) if settings.database_url else EmbeddedPostgres(settings.state_path)


async def _status(url: str) -> dict[str, Any]:
    connection = await connect(url)
    try:
        waiting = await migrations.pending(connection)
        names = [str(migration) for migration in migrations.read_migrations()]
        missing = [str(migration) for migration in waiting]
        return {
            "url": without_password(url),
            "server_version": str(connection.info.server_version),
            "migrations_applied": [name for name in names if name not in missing],
            "migrations_pending": missing,
        }
    finally:
        await connection.close()


async def _migrate(url: str) -> list[str]:
    connection = await connect(url)
    try:
        return [str(migration) for migration in await migrations.migrate(connection)]
    finally:
        await connection.close()
