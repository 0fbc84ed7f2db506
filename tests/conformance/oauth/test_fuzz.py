"""Whatever is sent: no failure of the server, and no redirect to where nobody registered to be."""

import base64
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws

from authly.oauth.models import AuthMethod
from tests.conformance.oauth.test_client_authentication import ASSERTION_TYPE, KEYS
from tests.oauth import CALLBACK, Pkce, Registered, Server

FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ANYTHING = st.text(max_size=60)
EVIL = st.sampled_from(
    [
        "https://evil.example/",
        "//evil.example",
        "https:evil.example",
        "\\\\evil.example",
        "https://client.example@evil.example/callback",
        "https://client.example.evil.example/callback",
        "javascript:alert(1)",
        f"{CALLBACK}\r\nlocation: https://evil.example",
        f"{CALLBACK}#@evil.example",
        f"{CALLBACK}%00",
    ]
)


@pytest.fixture(scope="module")
def client(server: Server) -> Registered:
    """A client that asks for no consent, so that a request which is good goes all the way."""
    return server.client(require_consent=False)


@pytest.fixture(scope="module")
def cookies(server: Server, client: Registered) -> dict[str, str]:
    """The cookies of a user who is logged in."""
    person = server.person()
    person.authorize(server.authorize_url(client))
    return {"cookie": "; ".join(f"{name}={value}" for name, value in person.cookies.items())}


def check(answer: Any, server: Server) -> None:
    """Make sure that an answer is none of those that must not be."""
    assert answer.status_code < 500, answer.text
    location = answer.headers.get("location")
    if location is not None:
        own = location.startswith(("/login?return_to=%2Foauth2%2Fauthorize", "/oauth2/authorize?"))
        assert own or location.startswith((f"{CALLBACK}?", f"{CALLBACK}&")), location
        assert urlsplit(location).netloc in {"", "client.example"}
    assert "evil" not in answer.headers.get("refresh", "")


@FEW
@given(data=st.data())
def test_authorization_requests(server: Server, client: Registered, cookies: dict[str, str], data: Any) -> None:
    """Good requests with anything in the place of anything, by somebody logged in and by somebody who is not."""
    good = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": CALLBACK,
        "scope": "profile",
        "state": "s",
        "code_challenge": Pkce().challenge,
        "code_challenge_method": "S256",
    }
    names = st.sampled_from([*good, "request_uri", "request", "response_mode", "resource", "nonce", "prompt", "x"])
    changes = data.draw(st.lists(st.tuples(names | ANYTHING, ANYTHING | EVIL), max_size=4))
    replaced = data.draw(st.booleans())
    pairs = [*({**good, **dict(changes)} if replaced else good).items(), *([] if replaced else changes)]
    headers = cookies if data.draw(st.booleans()) else {}
    query = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])
    check(server.http.get(f"/oauth2/authorize?{query}", headers=headers), server)
    form = {"content-type": "application/x-www-form-urlencoded", **headers}
    check(server.http.post("/oauth2/authorize", content=query, headers=form), server)


@FEW
@given(query=st.binary(max_size=200))
def test_raw_forms(server: Server, query: bytes) -> None:
    """Bytes that are no form at all, to each endpoint that reads one."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for path in ("authorize", "token", "revoke", "introspect", "par", "consent"):
        check(server.http.post(f"/oauth2/{path}", content=query, headers=headers), server)


@FEW
@given(data=st.data())
def test_token_requests(server: Server, client: Registered, data: Any) -> None:
    """Anything in the place of any parameter, of a client that authenticates and of one that does not."""
    names = st.sampled_from(
        [
            *("grant_type", "code", "code_verifier", "redirect_uri", "refresh_token", "scope", "resource", "token"),
            *("client_id", "client_secret", "client_assertion", "client_assertion_type", "token_type_hint"),
        ]
    )
    values = st.sampled_from(
        [client.id, "authorization_code", "refresh_token", "client_credentials", ASSERTION_TYPE, "a.b.c", "e30.e30."]
    )
    pairs = data.draw(st.lists(st.tuples(names | ANYTHING, values | ANYTHING), max_size=6))
    content = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])
    auth = client.basic if data.draw(st.booleans()) else httpx.USE_CLIENT_DEFAULT
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for path in ("token", "revoke", "introspect", "par"):
        check(server.http.post(f"/oauth2/{path}", content=content, headers=headers, auth=auth), server)


@FEW
@given(header=st.binary(max_size=80))
def test_authorization_headers(server: Server, header: bytes) -> None:
    """Any header that HTTP allows."""
    value = bytes(byte for byte in header if 32 <= byte < 127 or byte > 160).strip()
    for scheme in (b"", b"Basic ", b"Bearer "):
        headers = {b"authorization": (scheme + value).strip()}
        check(server.http.post("/oauth2/token", data={"grant_type": "x"}, headers=headers), server)


@FEW
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), st.none() | ANYTHING | st.integers()
    ),
    claims=st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | ANYTHING,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["iss", "sub", "aud", "exp", "jti", "nbf", "iat", "scope", "client_id"]),
                inner,
                max_size=6,
            )
        ),
        max_leaves=8,
    ),
)
def test_tokens_and_assertions(server: Server, service: Registered, header: dict[str, Any], claims: Any) -> None:
    """Anything in the place of a token's header and claims."""

    def part(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    token = f"{part({'alg': 'RS256', **header})}.{part(claims)}.{part('signature')}"
    check(server.post("/oauth2/introspect", service, token=token), server)
    check(server.post("/oauth2/revoke", service, token=token), server)
    assertion = {"client_assertion": token, "client_assertion_type": ASSERTION_TYPE}
    check(server.post("/oauth2/token", None, grant_type="client_credentials", **assertion), server)


@pytest.fixture(scope="module")
def service(server: Server) -> Registered:
    """A client with a secret."""
    return server.service()


@FEW
@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "jti", "nbf", "iat"]),
        st.none() | ANYTHING | st.floats() | st.integers(),
    )
)
def test_signed_assertions(server: Server, signer: Registered, claims: dict[str, Any]) -> None:
    """The same of assertions that their client has signed."""
    content = json.dumps({"sub": signer.id, "iss": signer.id, "aud": server.url, **claims})
    assertion = jws.serialize_compact({"alg": "ES256"}, content, KEYS["ES256"], algorithms=["ES256"])
    form = {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}
    check(server.post("/oauth2/token", None, grant_type="client_credentials", **form), server)


@pytest.fixture(scope="module")
def signer(server: Server) -> Registered:
    """A client with a key."""
    return server.service(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks={"keys": [KEYS["ES256"].as_dict(private=False)]})
