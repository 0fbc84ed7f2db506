"""``authly admin keys``."""

from datetime import timedelta
from typing import Any, get_args

import click

from authly.cli.admin.output import as_json, print_one, print_rows
from authly.cli.admin.services import Services, run
from authly.keys.models import Algorithm


@click.group()
def keys() -> None:
    """What signs tokens."""


@keys.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List signing keys, the oldest first. Private parts are never shown."""

    async def act(services: Services) -> list[dict[str, Any]]:
        return [
            {
                "kid": key.kid,
                "algorithm": key.algorithm,
                "state": state,
                "active_at": key.active_at,
                "expires_at": key.expires_at,
                "public_key": key.public_key,
            }
            for key, state in await services.server.keys.states()
        ]

    rows = run(act)
    columns = ["kid", "algorithm", "state", "active_at", "expires_at"]
    print_rows(rows, columns, json_wanted=as_json, most=len(rows))


@keys.command()
@click.option(
    "--algorithm", type=click.Choice(get_args(Algorithm)), default="ES256", show_default=True, help="Whose key."
)
@click.option(
    "--signs-after",
    type=click.IntRange(0, 86400),
    help="Seconds for which the new key is published before it signs. By default longer than clients cache keys, and "
    "less than that fails requests.",
)
@as_json
def rotate(algorithm: Algorithm, signs_after: int | None, as_json: bool) -> None:
    """Make the successor of a signing key. The old one is published for as long as anything it signed is valid.

    \b
    Example:
      authly admin keys rotate --algorithm ES256
    """

    async def act(services: Services) -> None:
        delay = None if signs_after is None else timedelta(seconds=signs_after)
        if not await services.administration.rotate_key(algorithm, services.operator, delay):
            raise click.ClickException(
                f"Somebody else has rotated the key of {algorithm} at this moment. See: authly admin keys list"
            )

    run(act)
    print_one({"algorithm": algorithm, "signs_after": signs_after}, json_wanted=as_json)
