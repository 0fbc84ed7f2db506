"""What clients, browsers, resource servers and administrators do."""

import base64
import hashlib
import html
import json
import re
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from loadtests.traffic.wire import Answer, UnexpectedAnswerError, Wire

_INPUT = re.compile(rb'<input type="hidden" name="(\w+)" value="([^"]*)">')


class Seeds:
    """The accounts and clients that there are.

    Args:
        path: the file that ``python -m loadtests seed`` wrote.
    """

    def __init__(self, path: Path) -> None:
        found = json.loads(path.read_text())
        self.users: list[str] = found["users"]
        self.password: str = found["password"]
        self.web: list[dict[str, str]] = found["web"]
        self.native: list[dict[str, str]] = found["native"]
        self.service: dict[str, str] = found["service"]
        self.administration: dict[str, str] = found["administration"]


class Flow(ABC):
    """Somebody who does the same thing again and again.

    Args:
        wire: their connection.
        seeds: who they can be.
        random: what their choices follow from.
    """

    def __init__(self, wire: Wire, seeds: Seeds, random: Random) -> None:
        self.wire = wire
        self.seeds = seeds
        self.random = random

    @abstractmethod
    def perform(self) -> None:
        """Do it once.

        Raises:
            UnexpectedAnswerError: it went wrong.
        """

    def token_request(self, client: dict[str, str], **form: str) -> Any:
        """Return what the token endpoint answers a client."""
        return self.wire.ask("POST", "/oauth2/token", **_as_client(client, form)).json()


class BrowserLogin(Flow):
    """Somebody logs in to an application: authorization request, login page, consent, code, tokens."""

    def perform(self) -> None:
        """Log in with a browser that nobody has used before."""
        self.log_in(self.random.choice(self.seeds.native if self.random.random() < 0.5 else self.seeds.web))

    def log_in(self, client: dict[str, str]) -> Any:
        """Return the tokens that a client has at the end."""
        verifier = base64.urlsafe_b64encode(self.random.randbytes(36)).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": client["client_id"],
            "redirect_uri": client["redirect_uri"],
            "scope": "openid profile email",
            "state": "a state",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        cookies: dict[str, str] = {}
        authorize = f"/oauth2/authorize?{urlencode(query)}"
        login = self._browse(cookies, "GET", authorize, None, 303).headers["location"]
        fields = _fields(self._browse(cookies, "GET", login, None, 200))
        fields |= {"username": self.random.choice(self.seeds.users), "password": self.seeds.password}
        back = self._browse(cookies, "POST", "/login", fields, 303).headers["location"]
        answer = self._browse(cookies, "GET", back, None, 200, 303)
        if answer.status == 200:
            allowed = {**_fields(answer), "decision": "allow"}
            answer = self._browse(cookies, "POST", "/oauth2/consent", allowed, 303)
        code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
        return self.token_request(
            client,
            grant_type="authorization_code",
            code=code,
            redirect_uri=client["redirect_uri"],
            code_verifier=verifier,
        )

    def _browse(
        self, cookies: dict[str, str], method: str, url: str, form: dict[str, str] | None, *expected: int
    ) -> Answer:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
        answer = self.wire.ask(method, path, form=form, headers=headers, expected=expected)
        for cookie in answer.headers.get_all("set-cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            cookies[name] = value
        return answer


class Refresh(BrowserLogin):
    """An application keeps its tokens fresh; whoever uses it logged in once."""

    def __init__(self, wire: Wire, seeds: Seeds, random: Random) -> None:
        super().__init__(wire, seeds, random)
        self._client = random.choice(seeds.web)
        self._token = ""

    def perform(self) -> None:
        """Exchange the refresh token for the next one."""
        if not self._token:
            self._token = self.log_in(self._client)["refresh_token"]
            return
        # Where the answer is lost, the user logs in again.
        token, self._token = self._token, ""
        answer = self.token_request(self._client, grant_type="refresh_token", refresh_token=token)
        self._token = answer["refresh_token"]


class Userinfo(BrowserLogin):
    """An application asks who its user is, as often as it shows a name."""

    def __init__(self, wire: Wire, seeds: Seeds, random: Random) -> None:
        super().__init__(wire, seeds, random)
        self._client = random.choice(seeds.web)
        self._token = ""

    def perform(self) -> None:
        """Ask; the user logged in once."""
        # Where the answer is not what it should be, the token may have expired: the user logs in again.
        token, self._token = self._token or self.log_in(self._client)["access_token"], ""
        self.wire.ask("GET", "/oidc/userinfo", headers={"authorization": f"Bearer {token}"})
        self._token = token


class ClientCredentials(Flow):
    """A service gets a token for itself."""

    def perform(self) -> None:
        """Get one."""
        self.token_request(self.seeds.service, grant_type="client_credentials")


class Introspection(Flow):
    """A resource server asks of each request that it gets whether its token is good."""

    _token = ""

    def perform(self) -> None:
        """Ask; the token is one that it has seen before, as most are."""
        if not self._token:
            self._token = self.token_request(self.seeds.service, grant_type="client_credentials")["access_token"]
        form = {"token": self._token}
        answer = self.wire.ask("POST", "/oauth2/introspect", **_as_client(self.seeds.service, form))
        if not answer.json()["active"]:
            self._token = ""


class Discovery(Flow):
    """A client that starts reads what this server can do."""

    def perform(self) -> None:
        """Read it."""
        self.wire.ask("GET", "/.well-known/oauth-authorization-server")


class Jwks(Flow):
    """A resource server reads the keys that verify tokens."""

    def perform(self) -> None:
        """Read them."""
        self.wire.ask("GET", "/jwks")


class AdminReads(Flow):
    """An administrator looks around."""

    _token = ""

    def perform(self) -> None:
        """Look at one list."""
        if not self._token:
            answer = self.token_request(self.seeds.administration, grant_type="client_credentials", scope="admin:read")
            self._token = answer["access_token"]
        path = self.random.choice(("/admin/v1/clients", "/admin/v1/users", "/admin/v1/scopes", "/admin/v1/audit-log"))
        try:
            self.wire.ask("GET", f"{path}?limit=20", headers={"authorization": f"Bearer {self._token}"})
        except UnexpectedAnswerError:
            # It may have expired.
            self._token = ""
            raise


FLOWS: dict[str, type[Flow]] = {
    "browser_login": BrowserLogin,
    "refresh": Refresh,
    "userinfo": Userinfo,
    "client_credentials": ClientCredentials,
    "introspection": Introspection,
    "discovery": Discovery,
    "jwks": Jwks,
    "admin_reads": AdminReads,
}


def _as_client(client: dict[str, str], form: dict[str, str]) -> dict[str, Any]:
    """Return what a client sends to an endpoint at which it authenticates."""
    if not client["client_secret"]:
        return {"form": {"client_id": client["client_id"], **form}}
    credentials = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
    return {"form": form, "headers": {"authorization": f"Basic {credentials}"}}


def _fields(page: Answer) -> dict[str, str]:
    """Return the hidden fields of a page's form."""
    return {name.decode(): html.unescape(value.decode()) for name, value in _INPUT.findall(page.body)}
