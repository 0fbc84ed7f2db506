"""An authorization server for tests: a running instance, clients and users of it, and people with browsers."""

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx
import psycopg
from pydantic import SecretStr

from authly.audit.models import SYSTEM
from authly.core.database import create_pool
from authly.core.embedded_postgres import EmbeddedPostgres
from authly.core.repository import Database
from authly.identity import Identity
from authly.oauth.models import AuthMethod, Client, ClientSettings, ClientType, GrantType
from authly.oauth_server import OAuthServer
from authly.settings import Settings
from authly.users.models import Profile
from tests.instance import Instance
from tests.plain import NO_TLS

T = TypeVar("T")

SECRET_KEY = "a secret key for tests, which everybody may know"
PASSWORD = "correct horse battery staple"
CALLBACK = "https://client.example/callback"
# Cheap passwords, and no limits: many tests share one server, and all come from one address.
SETTINGS = {
    "AUTHLY_SECRET_KEY": SECRET_KEY,
    "AUTHLY_PASSWORD_HASH_TIME": "1",
    "AUTHLY_PASSWORD_HASH_MEMORY": "64",
    "AUTHLY_RATE_LIMIT_LOGIN": "off",
    "AUTHLY_RATE_LIMIT_TOKEN": "off",
    "AUTHLY_RATE_LIMIT_INTROSPECT": "off",
    "AUTHLY_RATE_LIMIT_DEFAULT": "off",
    # They also change clients behind the back of the workers.
    "AUTHLY_CACHE_TTL": "0",
}


@dataclass(frozen=True)
class Registered:
    """A client, and what it authenticates with."""

    client: Client
    secret: str | None

    @property
    def id(self) -> str:
        """The client_id."""
        return self.client.client_id

    @property
    def basic(self) -> tuple[str, str]:
        """What httpx authenticates with."""
        assert self.secret
        return self.id, self.secret


@dataclass(frozen=True)
class Pkce:
    """A code verifier and its challenge, made as a client makes them."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        """SHA-256 in base64url without padding (RFC 7636, section 4.2)."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Answer:
    """What a client is told by redirect."""

    location: str

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query; each is there once."""
        pairs = parse_qsl(urlsplit(self.location).query, keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs), self.location
        return dict(pairs)

    @property
    def error(self) -> str:
        """The error code; nothing for a success."""
        return self.parameters.get("error", "")

    @property
    def code(self) -> str:
        """The authorization code."""
        return self.parameters["code"]


class Server:
    """A running instance.

    Args:
        instance: answers requests.
        database_url: its database.
    """

    def __init__(self, instance: Instance, database_url: str) -> None:
        self.instance = instance
        self.url = f"http://{instance.address}"
        self.database_url = database_url
        self.http = httpx.Client(base_url=self.url, timeout=30, verify=NO_TLS)

    def run(self, work: Callable[[OAuthServer, Identity], Awaitable[T]]) -> T:
        """Call services as the command line does: in a process of their own, on the same database."""
        settings = Settings(
            issuer=self.url,
            secret_key=SecretStr(SECRET_KEY),
            password_hash_time=1,
            password_hash_memory=64,
        )

        async def call() -> T:
            async with create_pool(self.database_url, 2) as pool:
                database = Database(pool)
                identity = Identity(settings, database)
                try:
                    return await work(OAuthServer(settings, database, identity.audit), identity)
                finally:
                    identity.hasher.close()

        # In a thread of its own: that of a test with a browser has an event loop already.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(call())).result()

    def client(
        self,
        *,
        public: bool = False,
        auth_method: AuthMethod | None = None,
        redirect_uris: tuple[str, ...] = (CALLBACK,),
        grant_types: tuple[GrantType, ...] = (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN),
        scopes: tuple[str, ...] = ("profile", "email"),
        **settings: Any,
    ) -> Registered:
        """Register a client."""
        wanted = ClientSettings(
            settings.pop("name", "Test client"),
            redirect_uris=redirect_uris,
            grant_types=grant_types,
            scopes=scopes,
            **settings,
        )
        type_ = ClientType.PUBLIC if public else ClientType.CONFIDENTIAL

        async def register(server: OAuthServer, _: Identity) -> Registered:
            known = {scope.name for scope in await server.scopes.list()}
            for scope in set(scopes) - known:
                await server.scopes.create(scope, f"Do what {scope} allows", SYSTEM)
            return Registered(*await server.clients.create(wanted, type_, SYSTEM, auth_method))

        return self.run(register)

    def service(self, **settings: Any) -> Registered:
        """Register a client that acts for itself."""
        wanted: dict[str, Any] = {
            "redirect_uris": (),
            "grant_types": (GrantType.CLIENT_CREDENTIALS,),
            "scopes": ("read", "write"),
        }
        return self.client(**{**wanted, **settings})

    def update(self, registered: Registered, **changes: Any) -> None:
        """Change what a client may do, as an administrator does."""

        async def update(server: OAuthServer, _: Identity) -> None:
            client = await server.clients.find(registered.id)
            assert client
            await server.clients.update(registered.id, replace(client.settings, **changes), SYSTEM)

        self.run(update)

    def person(self, **profile: Any) -> "Person":
        """Create a user, of whom some things can be said, and give them a browser."""
        username = f"user-{secrets.token_hex(6)}"

        async def create(_: OAuthServer, identity: Identity) -> str:
            return str((await identity.users.create(Profile(username, **profile), PASSWORD, SYSTEM)).user_id)

        return Person(self, username, self.run(create))

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database behind Authly's back, or change it."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def authorize_url(self, client: Registered, pkce: Pkce | None = None, **parameters: Any) -> str:
        """Return the address of an authorization request; a parameter that is None is left out."""
        pkce = pkce or Pkce()
        wanted = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": client.client.settings.redirect_uris[0] if client.client.settings.redirect_uris else None,
            "scope": " ".join(client.client.settings.scopes),
            "state": "a state",
            "code_challenge": pkce.challenge,
            "code_challenge_method": "S256",
            **parameters,
        }
        query = urlencode([(name, value) for name, value in wanted.items() if value is not None], doseq=True)
        return f"{self.url}/oauth2/authorize?{query}"

    def post(self, path: str, client: Registered | None = None, **data: Any) -> httpx.Response:
        """Send a form, as a client that authenticates as it is registered to."""
        if client is not None and client.secret is None:
            data = {"client_id": client.id, **data}
        if client is not None and client.secret is not None:
            return self.http.post(path, data=data, auth=client.basic)
        return self.http.post(path, data=data)

    def token(self, client: Registered | None = None, **data: Any) -> httpx.Response:
        """Ask for tokens."""
        return self.post("/oauth2/token", client, **data)

    def introspect(self, client: Registered, token: str) -> dict[str, Any]:
        """Ask what a token is worth."""
        answer = self.post("/oauth2/introspect", client, token=token)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def code(self, client: Registered, pkce: Pkce, person: "Person | None" = None, **parameters: Any) -> str:
        """Let a user allow a client everything; return the code."""
        person = person or self.person()
        answer = person.authorize(self.authorize_url(client, pkce, **parameters))
        assert "code" in answer.parameters, answer.location
        return answer.code

    def redeem(self, client: Registered, code: str, pkce: Pkce, **data: Any) -> httpx.Response:
        """Redeem a code."""
        return self.token(client, grant_type="authorization_code", code=code, code_verifier=pkce.verifier, **data)

    def tokens(self, client: Registered, person: "Person | None" = None, **parameters: Any) -> dict[str, Any]:
        """Take a client through the whole flow; return its tokens."""
        pkce = Pkce()
        answer = self.redeem(client, self.code(client, pkce, person, **parameters), pkce)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def refresh(self, client: Registered, refresh_token: str, **data: Any) -> httpx.Response:
        """Exchange a refresh token."""
        return self.token(client, grant_type="refresh_token", refresh_token=refresh_token, **data)


def short_lived(seconds: int = 1) -> timedelta:
    """Return a lifetime that a test can wait for."""
    return timedelta(seconds=seconds)


class Person:
    """A user with a browser that has no JavaScript: it keeps cookies, follows redirects and fills in forms.

    Its cookies are kept by hand: browsers take loopback addresses for secure, and Python's cookie jar does not.

    Args:
        server: where they are a user.
        username: of the user.
        user_id: of the user.
    """

    def __init__(self, server: Server, username: str, user_id: str) -> None:
        self.server = server
        self.username = username
        self.user_id = user_id
        self.cookies: dict[str, str] = {}
        self.page = httpx.Response(200)

    def open(self, url: str) -> Answer | None:
        """Go to an address; return the answer if the redirects lead to a client."""
        return self._follow("GET", url, None)

    def submit(self, **fields: str) -> Answer | None:
        """Send the form of the page; return the answer if the redirects lead to a client."""
        form = Form(self.page.text)
        return self._follow("POST", form.action, {**form.fields, **fields})

    def log_in(self) -> Answer | None:
        """Fill in the login page."""
        assert Form(self.page.text).action == "/login", self.page.text
        return self.submit(username=self.username, password=PASSWORD)

    def authorize(self, url: str, decision: str = "allow") -> Answer:
        """Go through the pages of an authorization request."""
        answer = self.open(url)
        if answer is None and Form(self.page.text).action == "/login":
            answer = self.log_in()
        if answer is None:
            assert Form(self.page.text).action == "/oauth2/consent", self.page.text
            answer = self.submit(decision=decision)
        assert answer is not None, self.page.text
        return answer

    def _follow(self, method: str, url: str, data: dict[str, str] | None) -> Answer | None:
        for _ in range(10):
            headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
            self.page = self.server.http.request(
                method, urljoin(self.server.url, url), data=data, headers=headers if self.cookies else {}
            )
            for cookie in self.page.headers.get_list("set-cookie"):
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value.strip('"')
            if not self.page.is_redirect:
                return None
            assert self.page.status_code == 303, self.page
            url, method, data = self.page.headers["location"], "GET", None
            if urlsplit(url).netloc not in {"", self.server.instance.address} or not url.startswith(("http", "/")):
                return Answer(url)
        raise AssertionError("too many redirects")


class Form(HTMLParser):
    """The first form of a page.

    Args:
        page: HTML.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the form and its fields."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.action:
            self.action = attributes["action"]
        if tag == "input":
            self.fields[attributes["name"]] = attributes.get("value", "")


def claims_of(token: str) -> dict[str, Any]:
    """Return what a JSON Web Token says, unverified."""
    part = token.split(".")[1]
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content


def is_description(text: str) -> bool:
    """Tell whether a description has only the characters that RFC 6749, section 5.2 allows."""
    return re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+", text) is not None


def embedded_url(state: Path) -> str:
    """Return the URL of the PostgreSQL that an instance runs in its state directory."""
    server = EmbeddedPostgres(state)
    try:
        return server.start()
    finally:
        server.release()
