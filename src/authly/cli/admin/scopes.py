"""``authly admin scopes``."""

from typing import Any

import click

from authly.cli.admin.output import as_json, print_one, print_rows
from authly.cli.admin.services import Services, run


@click.group()
def scopes() -> None:
    """What clients can be allowed."""


@scopes.command("list")
@as_json
def list_scopes(as_json: bool) -> None:
    """List scopes by name."""

    async def act(services: Services) -> list[dict[str, Any]]:
        found = await services.server.scopes.list()
        return [
            {"name": scope.name, "description": scope.description, "created_at": scope.created_at} for scope in found
        ]

    rows = run(act)
    print_rows(rows, ["name", "description"], json_wanted=as_json, most=len(rows))


@scopes.command()
@click.argument("name")
@click.argument("description")
@as_json
def create(name: str, description: str, as_json: bool) -> None:
    """Add a scope. DESCRIPTION is what users are told that it allows.

    \b
    Example:
      authly admin scopes create orders:read "See your orders"
    """

    async def act(services: Services) -> None:
        await services.server.scopes.create(name, description, services.operator)

    run(act)
    print_one({"name": name, "description": description}, json_wanted=as_json)


@scopes.command()
@click.argument("name")
@click.argument("description")
def describe(name: str, description: str) -> None:
    """Change what users are told that a scope allows."""

    async def act(services: Services) -> None:
        if not await services.server.scopes.describe(name, description, services.operator):
            raise click.ClickException(f"There is no scope {name}.")

    run(act)
    click.echo(f"{name}: {description}")


@scopes.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a scope, and take it from all clients and consents."""
    if not yes:
        click.confirm(f"Delete the scope {name}, and take it from all clients and consents?", abort=True)

    async def act(services: Services) -> None:
        if not await services.server.scopes.delete(name, services.operator):
            raise click.ClickException(f"There is no scope {name}.")

    run(act)
    click.echo(f"{name} is deleted")
