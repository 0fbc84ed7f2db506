"""Access tokens: what they say, who can verify them, and what is no access token."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from joserfc import jws
from joserfc.jwk import KeySet, OctKey, RSAKey

from authly.errors import InvalidTokenError
from authly.keys.models import PrivateKey
from authly.oauth_server import OAuthServer
from tests.oauth import Registered, Server, claims_of
from tests.plain import NO_TLS


@pytest.fixture(scope="module")
def service(server: Server) -> Registered:
    """A client that acts for itself."""
    return server.service(resources=("https://api.example/",))


@pytest.fixture(scope="module")
def token(server: Server, service: Registered) -> str:
    """One of its access tokens."""
    return str(server.token(service, grant_type="client_credentials").json()["access_token"])


def test_profile(server: Server, token: str, service: Registered) -> None:
    """Header and claims are those of RFC 9068, section 2."""
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert (header["typ"], header["alg"]) == ("at+jwt", "RS256")
    claims = claims_of(token)
    assert claims.keys() == {"iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == (server.url, server.url, service.id)
    assert claims["exp"] - claims["iat"] == 600


def test_profile_of_a_user(server: Server) -> None:
    """In the name of a user there is their id, and when they proved who they are (RFC 9068, section 2.2.1)."""
    person = server.person()
    claims = claims_of(server.tokens(server.client(), person)["access_token"])
    assert claims["sub"] == person.user_id
    assert claims["iat"] - 60 < claims["auth_time"] <= claims["iat"]


def test_others_can_verify(server: Server, token: str) -> None:
    """PyJWT verifies a token by the published keys alone (RFC 9068, section 4; RFC 7517)."""
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(server.http.get("/jwks").json()).keys}
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=server.url, issuer=server.url)
    assert claims["scope"] == "read write"


def test_every_worker_signs_with_the_same_key(server: Server, service: Registered) -> None:
    """Whichever worker answers, any of them and the published keys verify it."""
    found = set()
    for _ in range(30):
        # A connection of its own may reach another worker.
        with httpx.Client(base_url=server.url, verify=NO_TLS) as connection:
            answer = connection.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=service.basic)
            header = json.loads(base64.urlsafe_b64decode(answer.json()["access_token"].split(".")[0] + "=="))
            found.add(header["kid"])
            assert len(connection.get("/jwks").json()["keys"]) == 3
    assert len(found) == 1


def private_key(server: Server, algorithm: str) -> PrivateKey:
    """Return the key that Authly signs with."""

    async def read(services: OAuthServer, _: Any) -> PrivateKey:
        return (await services.keys.signing_key(algorithm)).key  # type: ignore[arg-type]

    return server.run(read)


def test_signed_by_the_other_key(server: Server, service: Registered, token: str) -> None:
    """Each key has its algorithm; what is signed by it otherwise is nothing (RFC 8725, section 3.1)."""
    key = private_key(server, "RS256")
    assert isinstance(key, RSAKey)
    header = {"alg": "PS256", "typ": "at+jwt", "kid": key.thumbprint()}
    content = json.dumps(claims_of(token))
    # Without its "alg", which joserfc heeds.
    forged = jws.serialize_compact(header, content, RSAKey.import_key(key.raw_value), algorithms=["PS256"])
    assert server.introspect(service, forged) == {"active": False}


@pytest.mark.parametrize(
    "changes",
    [{"iss": "https://other.example"}, {"exp": 1}, {"jti": "00000000-0000-4000-8000-000000000000"}],
)
def test_claims_that_are_wrong(server: Server, service: Registered, token: str, changes: dict[str, Any]) -> None:
    """What is properly signed has to be true, too (RFC 9068, section 4): issuer, time, and that it was issued."""
    key = private_key(server, "RS256")
    header = {"alg": "RS256", "typ": "at+jwt", "kid": key.thumbprint()}
    same = jws.serialize_compact(header, json.dumps(claims_of(token)), key, algorithms=["RS256"])
    assert server.introspect(service, same)["active"]
    other = jws.serialize_compact(header, json.dumps({**claims_of(token), **changes}), key, algorithms=["RS256"])
    assert server.introspect(service, other) == {"active": False}


@pytest.mark.parametrize("typ", ["JWT", "id+jwt", None, "logout+jwt"])
def test_token_of_another_type(server: Server, service: Registered, token: str, typ: str | None) -> None:
    """An ID token is no access token (RFC 9068, section 4; RFC 8725, section 3.11)."""
    key = private_key(server, "RS256")
    header: dict[str, Any] = {"alg": "RS256", "typ": typ, "kid": key.thumbprint()}
    if typ is None:
        del header["typ"]
    other = jws.serialize_compact(header, json.dumps(claims_of(token)), key, algorithms=["RS256"])
    assert server.introspect(service, other) == {"active": False}


def reheaded(token: str, **header: Any) -> str:
    """Return a token with another header and its old signature."""
    parts = token.split(".")
    old = json.loads(base64.urlsafe_b64decode(parts[0] + "=="))
    new = base64.urlsafe_b64encode(json.dumps({**old, **header}).encode()).rstrip(b"=").decode()
    return ".".join([new, *parts[1:]])


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: reheaded(token, alg="none").rpartition(".")[0] + ".",
        lambda token: reheaded(token, alg="None").rpartition(".")[0] + ".",
        lambda token: reheaded(token, alg="HS256"),
        lambda token: reheaded(token, alg="ES256"),
        lambda token: reheaded(token, alg=None),
        lambda token: reheaded(token, alg=["RS256"]),
        lambda token: reheaded(token, kid="unknown"),
        lambda token: reheaded(token, kid=None),
        lambda token: reheaded(token, kid=7),
        lambda token: reheaded(token, kid="../../etc/passwd"),
        lambda token: reheaded(token, jku="https://evil.example/jwks", kid="evil"),
        lambda token: reheaded(token, b64=False, crit=["b64"]),
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
        lambda token: token + ".",
        lambda _: "..",
        lambda _: "e30.e30.e30",
        lambda _: "." * 5000,
        lambda _: "é.é.é",
        lambda token: token + "x" * 9000,
    ],
)
def test_forged_token(server: Server, service: Registered, token: str, forge: Callable[[str], str]) -> None:
    """Neither ``none`` nor any other trick with the header makes a token (RFC 8725, sections 2.1, 3.1 and 3.2)."""
    assert server.introspect(service, forge(token)) == {"active": False}


def test_public_key_as_a_secret(server: Server, service: Registered, token: str) -> None:
    """A published key is no secret to sign with (RFC 8725, section 2.1)."""
    published = KeySet.import_key_set(server.http.get("/jwks").json()).keys[0]
    assert isinstance(published, RSAKey)
    content = json.dumps(claims_of(token))
    header = {"alg": "HS256", "typ": "at+jwt", "kid": published.kid}
    for secret in (published.as_pem(private=False), json.dumps(published.as_dict(private=False)).encode()):
        key = OctKey.import_key(base64.urlsafe_b64encode(secret))
        forged = jws.serialize_compact(header, content, key, algorithms=["HS256"])
        assert server.introspect(service, forged) == {"active": False}


def test_wrong_audience(server: Server, service: Registered) -> None:
    """Who accepts tokens accepts those that are for him (RFC 9068, section 4; RFC 8707, section 2)."""
    answer = server.token(service, grant_type="client_credentials", resource="https://api.example/").json()

    async def verify(services: OAuthServer, _: Any) -> None:
        await services.tokens.verify(answer["access_token"], "https://api.example/")
        with pytest.raises(InvalidTokenError, match="audience"):
            await services.tokens.verify(answer["access_token"], server.url)

    server.run(verify)


def test_two_instances_share_their_keys(server: Server, service: Registered, token: str) -> None:
    """Another process with the same database and secret key verifies a token, and makes no keys of its own."""

    async def verify(services: OAuthServer, _: Any) -> int:
        await services.tokens.verify(token, server.url)
        return len(await services.keys.published())

    assert server.run(verify) == 3
