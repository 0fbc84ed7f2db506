"""``authly admin sessions``."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

import click

from authly.cli.admin.output import as_json, limit, print_rows
from authly.cli.admin.services import Services, run


@click.group()
def sessions() -> None:
    """Browsers in which users are logged in."""


@sessions.command("list")
@click.option("--username", help="Those of one user.")
@limit
@as_json
def list_sessions(username: str | None, limit: int, as_json: bool) -> None:
    """List sessions in force, the latest first."""

    async def act(services: Services) -> list[dict[str, Any]]:
        user_id = (await services.user(username)).user_id if username else None
        return [asdict(session) for session in await services.identity.sessions.list(user_id, limit + 1)]

    columns = ["session_id", "user_id", "client_address", "authenticated_at", "last_seen_at", "expires_at"]
    print_rows(run(act), columns, json_wanted=as_json, most=limit)


@sessions.command()
@click.argument("session_id", type=click.UUID)
def end(session_id: UUID) -> None:
    """End a session, and revoke what was allowed in it."""

    async def act(services: Services) -> None:
        if not await services.administration.end_session(session_id, services.operator):
            raise click.ClickException(f"There is no session {session_id} in force.")

    run(act)
    click.echo(f"{session_id} is ended")
