"""Accounts and clients for the load, made in one go: ``python -m loadtests seed``."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from authly.cli.admin.services import Services, run
from authly.oauth.models import ClientSettings, ClientType, GrantType
from authly.users.models import Profile
from benchmarks.agent import REPOSITORY, AgentError

_PASSWORD = "correct horse battery staple"
_WEB = 4
_FOR_USERS = (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN)
_FOR_ITSELF = (GrantType.CLIENT_CREDENTIALS,)


def seed(path: Path, users: int) -> None:
    """Make what the load needs in the database that the settings name, and write down what there is.

    A second time makes as much again, of other names.

    Args:
        path: the file to write to.
        users: how many accounts.

    Raises:
        ClickException: it cannot be done; the message says why.
        SettingsError: a variable of the environment holds something it does not accept.
    """
    found = run(lambda services: _make(services, users))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.write_text(json.dumps(found, indent=1) + "\n")


async def _make(services: Services, users: int) -> dict[str, Any]:
    server, identity, operator = services.server, services.identity, services.operator
    known = {scope.name for scope in await server.scopes.list()}
    for name, description in (("profile", "See your profile"), ("email", "See your address"), ("read", "Read")):
        if name not in known:
            await server.scopes.create(name, description, operator)

    async def client(settings: ClientSettings, type_: ClientType = ClientType.CONFIDENTIAL) -> dict[str, str]:
        made, secret = await server.clients.create(settings, type_, operator, None)
        redirect_uri = settings.redirect_uris[0] if settings.redirect_uris else ""
        return {"client_id": made.client_id, "client_secret": secret or "", "redirect_uri": redirect_uri}

    def for_users(name: str, redirect_uri: str) -> ClientSettings:
        return ClientSettings(
            name, redirect_uris=(redirect_uri,), grant_types=_FOR_USERS, scopes=("openid", "profile", "email")
        )

    mark = os.urandom(3).hex()
    names = [f"load-{mark}-{number}" for number in range(users)]
    for name in names:
        await identity.users.create(Profile(name, None), _PASSWORD, operator)
    administration = ClientSettings(
        "Load administration", redirect_uris=(), grant_types=_FOR_ITSELF, scopes=("admin:read",)
    )
    service = ClientSettings("Load service", redirect_uris=(), grant_types=_FOR_ITSELF, scopes=("read",))
    return {
        "users": names,
        "password": _PASSWORD,
        "web": [
            await client(for_users(f"Load web {number}", "https://client.example/callback")) for number in range(_WEB)
        ],
        # Anybody can pretend to be one of these, so their users are asked each time.
        "native": [await client(for_users("Load native", "com.example.load:/callback"), ClientType.PUBLIC)],
        "service": await client(service),
        "administration": await client(administration),
    }


def seed_instance(path: Path, environment: Mapping[str, str], users: int) -> None:
    """Do it in a process of its own, with the settings of an instance.

    Raises:
        AgentError: it cannot be done.
    """
    command = [sys.executable, "-m", "loadtests", "seed", "--output", str(path), "--users", str(users)]
    paths = f"{REPOSITORY / 'src'}:{REPOSITORY}"
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**environment, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AgentError(f"seeding failed:\n{done.stdout}{done.stderr}")
