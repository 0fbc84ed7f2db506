"""``authly admin clients``."""

import json
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import click

from authly.cli.admin.output import as_json, limit, print_one, print_rows
from authly.cli.admin.services import Services, run
from authly.keys.models import Algorithm
from authly.oauth.models import AuthMethod, Client, ClientSettings, ClientType, GrantType, SubjectType


@click.group()
def clients() -> None:
    """Applications that log users in, and services that get tokens."""


@clients.command()
@click.option("--name", required=True, help="What users are shown.")
@click.option(
    "--type",
    "type_",
    required=True,
    type=click.Choice([kind.value for kind in ClientType]),
    help="Whether it can keep a secret.",
)
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="Where users come back to. Repeatable.")
@click.option("--scope", "scopes", multiple=True, help="What it may ask for. Repeatable.")
@click.option(
    "--grant-type",
    "grant_types",
    multiple=True,
    type=click.Choice([grant.value for grant in GrantType]),
    help="Repeatable. By default client_credentials for what has no redirect URI, else the other two.",
)
@click.option("--resource", "resources", multiple=True, help="An audience that it may ask for. Repeatable.")
@click.option(
    "--auth-method",
    type=click.Choice([method.value for method in AuthMethod]),
    help="By default client_secret_basic, or none.",
)
@click.option(
    "--jwks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with its public keys, for private_key_jwt.",
)
@click.option("--access-token-ttl", type=click.IntRange(1, 86400), help="Seconds; by default what the settings say.")
@click.option("--no-consent", is_flag=True, help="Do not ask users: an application of your own.")
@click.option("--require-par", is_flag=True, help="Accept pushed authorization requests only.")
@click.option(
    "--post-logout-redirect-uri",
    "post_logout_redirect_uris",
    multiple=True,
    help="Where users may be sent after a logout. Repeatable.",
)
@click.option("--backchannel-logout-uri", help="Where it is told of the ends of sessions.")
@click.option("--pairwise", is_flag=True, help="Give it subjects that clients of other sectors do not know.")
@click.option("--sector-identifier", help="The host that names its sector; by default that of the redirect URIs.")
@click.option(
    "--id-token-alg",
    type=click.Choice(get_args(Algorithm)),
    default="RS256",
    show_default=True,
    help="With what its ID tokens are signed.",
)
@click.option(
    "--userinfo-alg", type=click.Choice(get_args(Algorithm)), help="Sign what userinfo tells it; by default it is JSON."
)
@click.option("--no-pkce", is_flag=True, help="Exempt it from PKCE. It is less safe then, and the audit log says so.")
@as_json
def create(
    name: str,
    type_: str,
    redirect_uris: tuple[str, ...],
    scopes: tuple[str, ...],
    grant_types: tuple[str, ...],
    resources: tuple[str, ...],
    auth_method: str | None,
    jwks: Path | None,
    access_token_ttl: int | None,
    no_consent: bool,
    require_par: bool,
    post_logout_redirect_uris: tuple[str, ...],
    backchannel_logout_uri: str | None,
    pairwise: bool,
    sector_identifier: str | None,
    id_token_alg: Algorithm,
    userinfo_alg: Algorithm | None,
    no_pkce: bool,
    as_json: bool,
) -> None:
    """Register a client, and print its id and its secret. Nobody sees the secret again.

    \b
    Examples:
      authly admin clients create --name Shop --type confidential \\
          --redirect-uri https://shop.example.org/callback --scope openid --scope email
      authly admin clients create --name Reports --type confidential --grant-type client_credentials \\
          --scope orders:read --json
      authly admin clients create --name "Phone app" --type public --redirect-uri com.example.app:/callback \\
          --scope openid
    """
    settings = ClientSettings(
        name=name,
        redirect_uris=redirect_uris,
        grant_types=tuple(map(GrantType, grant_types)) or _default_grants(type_, redirect_uris),
        scopes=scopes,
        resources=resources,
        require_consent=not no_consent,
        require_pushed_authorization_requests=require_par,
        access_token_ttl=None if access_token_ttl is None else timedelta(seconds=access_token_ttl),
        jwks=None if jwks is None else _read_keys(jwks),
        require_pkce=not no_pkce,
        subject_type=SubjectType.PAIRWISE if pairwise else SubjectType.PUBLIC,
        sector_identifier=sector_identifier,
        id_token_signed_response_alg=id_token_alg,
        userinfo_signed_response_alg=userinfo_alg,
        post_logout_redirect_uris=post_logout_redirect_uris,
        backchannel_logout_uri=backchannel_logout_uri,
    )
    method = AuthMethod(auth_method) if auth_method else None

    async def act(services: Services) -> tuple[Client, str | None]:
        return await services.server.clients.create(settings, ClientType(type_), services.operator, method)

    client, secret = run(act)
    facts = _facts(client)
    first = {"client_id": facts.pop("client_id"), "client_secret": secret}
    print_one({**first, **facts}, json_wanted=as_json)


@clients.command("list")
@click.option("--search", help="Part of the name or the id.")
@limit
@as_json
def list_clients(search: str | None, limit: int, as_json: bool) -> None:
    """List clients by name."""

    async def act(services: Services) -> list[dict[str, Any]]:
        return [_facts(client) for client in await services.server.clients.list(limit + 1, search=search)]

    columns = ["client_id", "name", "type", "grant_types", "scopes", "enabled"]
    print_rows(run(act), columns, json_wanted=as_json, most=limit)


@clients.command()
@click.argument("client_id")
@as_json
def show(client_id: str, as_json: bool) -> None:
    """Show a client."""

    async def act(services: Services) -> Client:
        return await _find(services, client_id)

    print_one(_facts(run(act)), json_wanted=as_json)


@clients.command("rotate-secret")
@click.argument("client_id")
@as_json
def rotate_secret(client_id: str, as_json: bool) -> None:
    """Give a client another secret, and print it. The old one is void at once."""

    async def act(services: Services) -> str:
        secret = await services.server.clients.rotate_secret(client_id, services.operator)
        if secret is None:
            raise click.ClickException(f"There is no client {client_id} that has a secret.")
        return secret

    print_one({"client_id": client_id, "client_secret": run(act)}, json_wanted=as_json)


@clients.command()
@click.argument("client_id")
@click.argument("required", type=click.Choice(["require", "exempt"]))
def pkce(client_id: str, required: str) -> None:
    """Require PKCE of a confidential client, or exempt it. The audit log says so."""
    _change(client_id, require_pkce=required == "require")
    click.echo(f"{client_id} {'has to use PKCE' if required == 'require' else 'is exempt from PKCE'}")


@clients.command()
@click.argument("client_id")
def disable(client_id: str) -> None:
    """Keep a client from doing anything, and revoke what it holds."""
    _change(client_id, enabled=False)
    click.echo(f"{client_id} is disabled")


@clients.command()
@click.argument("client_id")
def enable(client_id: str) -> None:
    """Let a client work again."""
    _change(client_id, enabled=True)
    click.echo(f"{client_id} is enabled")


@clients.command()
@click.argument("client_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(client_id: str, yes: bool) -> None:
    """Delete a client and everything that was issued to it."""
    if not yes:
        click.confirm(f"Delete the client {client_id} and everything that was issued to it?", abort=True)

    async def act(services: Services) -> None:
        if not await services.server.clients.delete(client_id, services.operator):
            raise click.ClickException(f"There is no client {client_id}.")

    run(act)
    click.echo(f"{client_id} is deleted")


def _change(client_id: str, **changes: Any) -> None:
    async def act(services: Services) -> None:
        client = await _find(services, client_id)
        settings = replace(client.settings, **changes)
        await services.server.clients.update(client_id, settings, services.operator)

    run(act)


async def _find(services: Services, client_id: str) -> Client:
    client = await services.server.clients.find(client_id)
    if client is None:
        raise click.ClickException(f"There is no client {client_id}.")
    return client


def _default_grants(type_: str, redirect_uris: tuple[str, ...]) -> tuple[GrantType, ...]:
    if redirect_uris or type_ == ClientType.PUBLIC:
        return (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN)
    return (GrantType.CLIENT_CREDENTIALS,)


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        keys = json.loads(path.read_text())
    except ValueError as error:
        raise click.ClickException(f"{path} holds no JSON: {error}.") from error
    if not isinstance(keys, dict):
        raise click.ClickException(f"{path} holds no JWK Set: that is an object with a list of keys.")
    return keys


def _facts(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.settings.name,
        "type": client.type,
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
        **asdict(client.settings),
        "created_at": client.created_at,
        "updated_at": client.updated_at,
    }
