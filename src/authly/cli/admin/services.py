"""The services, for the length of a command."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import NamedTuple, TypeVar

import click

from authly.admin.service import AdministrationService
from authly.administration import administration_of
from authly.audit.models import Party, PartyKind
from authly.core import logging, migrations
from authly.core.database import connect, create_pool, explain
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.repository import Database, DatabaseUnavailableError
from authly.core.secret_key import SecretKeyError
from authly.identity import Identity
from authly.keys.encryption import KeyUnreadableError
from authly.oauth.client_service import ClientError
from authly.oauth.scope_service import ScopeError
from authly.oauth_server import OAuthServer
from authly.settings import Settings, load_settings
from authly.shared_state import SharedState
from authly.users.models import User, UserDataError
from authly.users.passwords import PasswordRefusedError

T = TypeVar("T")
_REFUSED = (ClientError, ScopeError, UserDataError, PasswordRefusedError, SecretKeyError, KeyUnreadableError)


class Services(NamedTuple):
    """What a command works with."""

    identity: Identity
    server: OAuthServer
    administration: AdministrationService
    # Who is at the keyboard, as the audit log has it.
    operator: Party

    async def user(self, username: str) -> User:
        """Return the user of a name.

        Raises:
            ClickException: there is none.
        """
        user = await self.identity.users.find(username)
        if user is None:
            raise click.ClickException(f"There is no user {username}.")
        return user


def run(act: Callable[[Services], Awaitable[T]]) -> T:
    """Do something with the services, and return what it returns.

    Raises:
        ClickException: it cannot be done; the message says why.
        SettingsError: a variable of the environment holds something it does not accept.
    """
    settings = load_settings()
    # Standard output is for what was asked for.
    logging.configure("warning", "console")
    found = nullcontext(settings.database_url) if settings.database_url else EmbeddedPostgres(settings.state_path)
    with found as url:
        return asyncio.run(_run(settings, url, act))


async def _run(settings: Settings, url: str, act: Callable[[Services], Awaitable[T]]) -> T:
    try:
        async with _services(settings, url) as services:
            return await act(services)
    except _REFUSED as error:
        text = str(error)
        raise click.ClickException(f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}") from error
    except DatabaseUnavailableError as error:
        raise click.ClickException(str(error)) from error


@asynccontextmanager
async def _services(settings: Settings, url: str) -> AsyncIterator[Services]:
    await _check_schema(url)
    async with create_pool(url, 2) as pool:
        database = Database(pool)
        identity = Identity(settings, database)
        # Not started: a command remembers nothing, but tells the workers what it changed.
        shared = SharedState(settings, database, pool, url)
        try:
            server = OAuthServer(settings, database, identity.audit, caches=shared.caches)
            operator = Party(PartyKind.OPERATOR, getpass.getuser())
            yield Services(identity, server, administration_of(identity, server), operator)
        finally:
            identity.hasher.close()
            await shared.stop()


async def _check_schema(url: str) -> None:
    try:
        connection = await connect(url)
    except Exception as error:
        raise click.ClickException(f"The database cannot be reached: {explain(error, url)}.") from error
    try:
        if await migrations.pending(connection):
            raise click.ClickException("The database is not up to date. Run: authly db migrate")
    except migrations.MigrationError as error:
        raise click.ClickException(str(error)) from error
    finally:
        await connection.close()
