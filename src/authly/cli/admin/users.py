"""``authly admin users``."""

import sys
from typing import Any

import click

from authly.cli.admin.output import as_json, limit, print_one, print_rows
from authly.cli.admin.services import Services, run
from authly.users.models import Profile, User
from authly.users.passwords import generate_password
from authly.users.repository import UserFilter

_password = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def users() -> None:
    """People who log in."""


@users.command()
@click.option("--username", required=True, help="1 to 64 letters, digits and . _ @ + -")
@click.option("--email", help="Their e-mail address.")
@click.option("--email-verified", is_flag=True, help="It is known to be theirs.")
@click.option("--name", help="Their full name.")
@click.option("--admin", "is_admin", is_flag=True, help="An administrator.")
@_password
@as_json
def create(
    username: str,
    email: str | None,
    email_verified: bool,
    name: str | None,
    is_admin: bool,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Create a user. Without --password-stdin a password is made up, and printed.

    \b
    Examples:
      authly admin users create --username alice --email alice@example.org
      echo "$PASSWORD" | authly admin users create --username bob --password-stdin --json
    """
    given = _read_password() if password_stdin else None
    password = given or generate_password()

    async def act(services: Services) -> User:
        profile = Profile(username, email, email_verified, name, is_admin=is_admin)
        return await services.identity.users.create(profile, password, services.operator)

    facts = _facts(run(act))
    print_one(facts if given else {**facts, "password": password}, json_wanted=as_json)


@users.command("list")
@click.option("--search", help="Part of the username, the e-mail address or the name.")
@click.option("--admins", is_flag=True, help="Administrators only.")
@limit
@as_json
def list_users(search: str | None, admins: bool, limit: int, as_json: bool) -> None:
    """List users, the oldest first."""

    async def act(services: Services) -> list[dict[str, Any]]:
        found = await services.identity.users.list(UserFilter(search, is_admin=admins or None), limit + 1)
        return [_facts(user) for user in found]

    columns = ["username", "email", "name", "is_admin", "disabled_at", "user_id"]
    print_rows(run(act), columns, json_wanted=as_json, most=limit)


@users.command()
@click.argument("username")
@as_json
def show(username: str, as_json: bool) -> None:
    """Show a user."""

    async def act(services: Services) -> User:
        return await services.user(username)

    print_one(_facts(run(act)), json_wanted=as_json)


@users.command("reset-password")
@click.argument("username")
@_password
@as_json
def reset_password(username: str, password_stdin: bool, as_json: bool) -> None:
    """Give a user another password, end their sessions, and revoke what clients hold in their name.

    Without --password-stdin the password is made up, and printed.

    \b
    Examples:
      authly admin users reset-password alice
      echo "$PASSWORD" | authly admin users reset-password alice --password-stdin
    """
    given = _read_password() if password_stdin else None

    async def act(services: Services) -> str | None:
        user = await services.user(username)
        return await services.administration.reset_password(user.user_id, services.operator, given)

    password = run(act)
    facts = {"username": username}
    print_one(facts if given else {**facts, "password": str(password)}, json_wanted=as_json)


@users.command("end-sessions")
@click.argument("username")
@as_json
def end_sessions(username: str, as_json: bool) -> None:
    """End all sessions of a user, and revoke what clients hold in their name."""

    async def act(services: Services) -> int:
        user = await services.user(username)
        return await services.administration.end_sessions(user.user_id, services.operator)

    print_one({"username": username, "sessions_ended": run(act)}, json_wanted=as_json)


@users.command()
@click.argument("username")
def disable(username: str) -> None:
    """Keep a user from logging in, end their sessions, and revoke what clients hold in their name."""

    async def act(services: Services) -> None:
        user = await services.user(username)
        await services.administration.disable_user(user.user_id, services.operator)

    run(act)
    click.echo(f"{username} is disabled")


@users.command()
@click.argument("username")
def enable(username: str) -> None:
    """Let a user log in again."""

    async def act(services: Services) -> None:
        user = await services.user(username)
        await services.identity.users.enable(user.user_id, services.operator)

    run(act)
    click.echo(f"{username} is enabled")


@users.command()
@click.argument("username")
@_yes
def delete(username: str, yes: bool) -> None:
    """Delete a user with all that is theirs."""
    if not yes:
        click.confirm(f"Delete {username} with all that is theirs?", abort=True)

    async def act(services: Services) -> None:
        user = await services.user(username)
        await services.identity.users.delete(user.user_id, services.operator)

    run(act)
    click.echo(f"{username} is deleted")


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.ClickException("There is no password on standard input.")
    return password


def _facts(user: User) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "username": user.username,
        "email": user.email,
        "email_verified": user.email_verified,
        "name": user.name,
        "claims": dict(user.claims),
        "is_admin": user.is_admin,
        "disabled_at": user.disabled_at,
        "created_at": user.created_at,
    }
