"""A relying party for tests, as certification's is: it reads the configuration, sends users, and believes nothing."""

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from tests.oauth import Answer, Form, Person, Pkce, Registered, Server

# Something for each standard claim.
EVERYTHING: Mapping[str, Any] = {
    "email": "ada@example.org",
    # An address that was verified is one user's alone, and many tests have one.
    "email_verified": False,
    "name": "Ada Lovelace",
    "claims": {
        "given_name": "Ada",
        "family_name": "Lovelace",
        "middle_name": "King",
        "nickname": "Ada",
        "profile": "https://example.org/ada",
        "picture": "https://example.org/ada.png",
        "website": "https://ada.example.org/",
        "gender": "female",
        "birthdate": "1815-12-10",
        "zoneinfo": "Europe/London",
        "locale": "en-GB",
        "phone_number": "+44 20 0000 0000",
        "phone_number_verified": False,
        "address": {"formatted": "12 St James's Square\nLondon", "locality": "London", "country": "GB"},
    },
}
SCOPES = ("openid", "profile", "email", "address", "phone", "offline_access")


@dataclass(frozen=True)
class LoggedIn:
    """What a relying party has when a user has logged in."""

    answer: Answer
    tokens: dict[str, Any]
    claims: dict[str, Any]

    @property
    def access_token(self) -> str:
        """The access token."""
        return str(self.tokens["access_token"])

    @property
    def id_token(self) -> str:
        """The ID token, as it came."""
        return str(self.tokens["id_token"])


class RelyingParty:
    """An application that logs its users in.

    Args:
        server: where they are users.
        client: as which it is registered there.
        in_body: whether it sends its secret in the body.
    """

    def __init__(self, server: Server, client: Registered, *, in_body: bool = False) -> None:
        self.server = server
        self.client = client
        self.in_body = in_body
        self.configuration: dict[str, Any] = server.http.get("/.well-known/openid-configuration").json()

    def url(self, **parameters: Any) -> str:
        """Return the address of a request, without PKCE unless a parameter says otherwise; None leaves one out."""
        without = {"code_challenge": None, "code_challenge_method": None, "nonce": secrets.token_urlsafe(16)}
        wanted = {"state": secrets.token_urlsafe(16), "scope": "openid", **without, **parameters}
        return self.server.authorize_url(self.client, **wanted)

    def log_in(self, person: Person, **parameters: Any) -> LoggedIn:
        """Take a user through the whole flow, and check everything on the way."""
        parameters = {"nonce": secrets.token_urlsafe(16), "state": secrets.token_urlsafe(16), **parameters}
        answer = person.authorize(self.url(**parameters))
        return self.receive(answer, **parameters)

    def receive(self, answer: Answer, **parameters: Any) -> LoggedIn:
        """Redeem the code of an answer, and check everything about what comes of it."""
        assert "code" in answer.parameters, answer.location
        assert answer.parameters.get("state") == parameters.get("state")
        assert answer.parameters["iss"] == self.configuration["issuer"]
        response = self.redeem(answer.code)
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        tokens = response.json()
        assert tokens["token_type"].lower() == "bearer"
        claims = self.check(tokens["id_token"], nonce=parameters.get("nonce"), access_token=tokens["access_token"])
        return LoggedIn(answer, tokens, claims)

    def redeem(self, code: str, **data: Any) -> httpx.Response:
        """Redeem a code."""
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.client.client.settings.redirect_uris[0],
            **data,
        }
        return self.token(**{name: value for name, value in data.items() if value is not None})

    def token(self, **data: Any) -> httpx.Response:
        """Send a token request."""
        if self.in_body:
            data |= {"client_id": self.client.id, "client_secret": self.client.secret}
            return self.server.http.post(self.configuration["token_endpoint"], data=data)
        return self.server.http.post(self.configuration["token_endpoint"], data=data, auth=self.client.basic)

    def keys(self) -> jwt.PyJWKSet:
        """Return what verifies tokens."""
        return jwt.PyJWKSet.from_dict(self.server.http.get(self.configuration["jwks_uri"]).json())

    def check(self, id_token: str, *, nonce: str | None, access_token: str | None) -> dict[str, Any]:
        """Check an ID token as a relying party has to (OpenID Connect Core 1.0, section 3.1.3.7); return its claims."""
        header = jwt.get_unverified_header(id_token)
        assert header["alg"] == self.client.client.settings.id_token_signed_response_alg
        claims: dict[str, Any] = jwt.decode(
            id_token,
            self.keys()[header["kid"]],
            algorithms=[header["alg"]],
            audience=self.client.id,
            issuer=self.configuration["issuer"],
            options={"require": ["iss", "sub", "aud", "exp", "iat", "auth_time", "sid"]},
        )
        assert claims["azp"] == self.client.id
        assert 0 < len(claims["sub"]) <= 255
        assert claims["sub"].isascii()
        assert claims.get("nonce") == nonce
        assert abs(time.time() - claims["iat"]) < 60
        assert claims["iat"] < claims["exp"] <= claims["iat"] + 86_400
        assert claims["auth_time"] <= claims["iat"]
        if access_token is not None:
            digest = hashlib.new("sha512" if header["alg"] == "EdDSA" else "sha256", access_token.encode()).digest()
            half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
            assert claims["at_hash"] == half
        return claims

    def userinfo(self, access_token: str, method: str = "GET") -> dict[str, Any]:
        """Return what is said of the user."""
        response = self.server.http.request(
            method, self.configuration["userinfo_endpoint"], headers={"authorization": f"Bearer {access_token}"}
        )
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        content: dict[str, Any] = response.json()
        return content


def posted(person: Person) -> Answer:
    """Return the answer that the page of a browser sends to the client as a form."""
    form = Form(person.page.text)
    return Answer(f"{form.action}?{httpx.QueryParams(form.fields)}")


def with_pkce(pkce: Pkce) -> dict[str, str]:
    """Return the parameters of a request with PKCE."""
    return {"code_challenge": pkce.challenge, "code_challenge_method": "S256"}
