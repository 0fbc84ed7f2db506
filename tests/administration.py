"""A running instance with its administration interface, for the tests of a module."""

import asyncio
import base64
import http.client
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from authly.core.database import create_pool
from authly.core.repository import Database
from authly.identity import Identity
from authly.oauth_server import OAuthServer
from authly.settings import Settings
from tests.instance import Instance

T = TypeVar("T")


class Answer(NamedTuple):
    """What an instance answered."""

    status: int
    headers: dict[str, str]
    body: Any


class Services(NamedTuple):
    """The services on an instance's database, in the test's own process."""

    identity: Identity
    server: OAuthServer


class Administration:
    """An instance as administrators use it.

    Args:
        instance: a running one.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.token = ""

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``authly admin``."""
        done = subprocess.run(
            [sys.executable, "-m", "authly.cli", "admin", *arguments],
            env=self.instance.environment,
            cwd=self.instance.folder,
            input=stdin,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Run ``authly admin ... --json`` and return what it prints."""
        return json.loads(self.run(*arguments, "--json", stdin=stdin).stdout)

    def new_client(self, *scopes: str, redirect_uri: str = "", resources: tuple[str, ...] = ()) -> dict[str, Any]:
        """Register a confidential client: with a redirect URI one for users, else one for itself."""
        grants = ["authorization_code", "refresh_token"] if redirect_uri else ["client_credentials"]
        body = {
            "name": "Test",
            "type": "confidential",
            "grant_types": grants,
            "scopes": scopes,
            "resources": resources,
            "redirect_uris": [redirect_uri] if redirect_uri else [],
        }
        answer = self.call("POST", "/clients", body)
        assert answer.status == 201, answer
        return dict(answer.body)

    def client_token(self, client: dict[str, Any], scope: str) -> str:
        """Return an access token that a client gets for itself."""
        answer = self.form("/oauth2/token", client, grant_type="client_credentials", scope=scope)
        assert answer.status == 200, answer
        return str(answer.body["access_token"])

    def form(self, path: str, client: dict[str, Any], traceparent: str = "", **fields: str) -> Answer:
        """Send a form as an authenticated client, and as part of a trace if there is one."""
        credentials = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
        headers = {"authorization": f"Basic {credentials}", "content-type": "application/x-www-form-urlencoded"}
        if traceparent:
            headers["traceparent"] = traceparent
        return self._request("POST", path, headers, urlencode(fields).encode())

    def call(self, method: str, path: str, body: object = None, token: str | None = None) -> Answer:
        """Call the administration interface."""
        headers = {"authorization": f"Bearer {self.token if token is None else token}"} if token != "" else {}
        if body is None:
            return self._request(method, f"/admin/v1{path}", headers, b"")
        return self._request(
            method, f"/admin/v1{path}", {**headers, "content-type": "application/json"}, json.dumps(body).encode()
        )

    def inside(self, act: Callable[[Services], Awaitable[T]]) -> T:
        """Do something with the services on the instance's database, as one of its workers would."""

        async def do() -> T:
            environment = self.instance.environment
            settings = Settings.model_validate(
                {
                    "bind": environment["AUTHLY_BIND"],
                    "state_dir": environment["AUTHLY_STATE_DIR"],
                    "database_url": environment["AUTHLY_DATABASE_URL"],
                    "password_hash_time": 1,
                    "password_hash_memory": 8,
                }
            )
            async with create_pool(environment["AUTHLY_DATABASE_URL"], 2) as pool:
                database = Database(pool)
                identity = Identity(settings, database)
                try:
                    return await act(Services(identity, OAuthServer(settings, database, identity.audit)))
                finally:
                    identity.hasher.close()

        return asyncio.run(do())

    def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.instance.address, timeout=20)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            is_json = "json" in found.get("content-type", "")
            return Answer(answer.status, found, json.loads(content) if is_json and content else content)
        finally:
            connection.close()
