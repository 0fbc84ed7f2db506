"""Complete flows with clients that others wrote; each request may land on any of three workers."""

import secrets
import time
from typing import Any

import pytest
import requests
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import RSAKey
from requests_oauthlib import OAuth2Session

from authly.oauth.models import AuthMethod, GrantType
from tests.oauth import CALLBACK, Server, claims_of, short_lived
from tests.processes import wait_until


@pytest.fixture(autouse=True)
def insecure_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oauthlib and Authlib talk to a server without TLS, which they refuse otherwise."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


def authlib_client(server: Server, client_id: str, secret: Any = None, **options: Any) -> OAuth2Client:
    """Return Authlib's client."""
    return OAuth2Client(
        client_id,
        secret,
        token_endpoint=f"{server.url}/oauth2/token",
        redirect_uri=CALLBACK,
        scope="profile email",
        code_challenge_method="S256",
        **options,
    )


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_code_with_authlib(server: Server, method: str) -> None:
    """A code with PKCE, through the login and consent pages; then a refresh, an introspection and a revocation."""
    public = method == "none"
    registered = server.client(public=public)
    person = server.person()
    verifier = secrets.token_urlsafe(48)
    with authlib_client(server, registered.id, registered.secret, token_endpoint_auth_method=method) as client:
        url, state = client.create_authorization_url(f"{server.url}/oauth2/authorize", code_verifier=verifier)
        answer = person.authorize(url)
        assert answer.location.startswith(f"{CALLBACK}?")
        assert answer.parameters["iss"] == server.url
        token = client.fetch_token(
            f"{server.url}/oauth2/token",
            authorization_response=answer.location,
            code_verifier=verifier,
            state=state,
        )
        assert token["token_type"] == "Bearer"
        assert token["scope"] == "profile email"
        claims = claims_of(token["access_token"])
        assert claims["sub"] == person.user_id
        assert claims["client_id"] == registered.id

        refreshed = client.refresh_token(f"{server.url}/oauth2/token", token["refresh_token"])
        assert refreshed["refresh_token"] != token["refresh_token"]
        assert refreshed["access_token"] != token["access_token"]

        resource_server = server.service()
        assert server.introspect(resource_server, refreshed["access_token"])["active"]
        answer_to_revocation = client.revoke_token(
            f"{server.url}/oauth2/revoke", refreshed["refresh_token"], token_type_hint="refresh_token"
        )
        assert answer_to_revocation.status_code == 200
        assert server.introspect(resource_server, refreshed["access_token"]) == {"active": False}


def test_code_with_requests_oauthlib(server: Server) -> None:
    """The same with requests-oauthlib, which makes its own PKCE."""
    registered = server.client(public=True)
    session = OAuth2Session(registered.id, redirect_uri=CALLBACK, scope=["profile", "email"], pkce="S256")
    url, state = session.authorization_url(f"{server.url}/oauth2/authorize")
    answer = server.person().authorize(url)
    assert answer.parameters["state"] == state
    token = session.fetch_token(
        f"{server.url}/oauth2/token", authorization_response=answer.location, include_client_id=True
    )
    assert server.introspect(server.service(), token["access_token"])["active"]
    refreshed = session.refresh_token(f"{server.url}/oauth2/token", client_id=registered.id)
    assert refreshed["refresh_token"] != token["refresh_token"]


def test_client_credentials_with_authlib(server: Server) -> None:
    """A service gets a token for itself, as RFC 6749, section 4.4 has it: without a refresh token."""
    registered = server.service()
    with OAuth2Client(*registered.basic, token_endpoint=f"{server.url}/oauth2/token", scope="read") as client:
        token = client.fetch_token(grant_type="client_credentials")
    assert token["scope"] == "read"
    assert "refresh_token" not in token
    claims = claims_of(token["access_token"])
    assert (claims["sub"], claims["aud"], claims["iss"]) == (registered.id, server.url, server.url)


def test_private_key_jwt_with_authlib(server: Server) -> None:
    """A service authenticates with an assertion that it signed (RFC 7523), made by Authlib."""
    key = RSAKey.generate_key(2048, {"kid": "one"})
    registered = server.service(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks={"keys": [key.as_dict(private=False)]})
    endpoint = f"{server.url}/oauth2/token"
    with OAuth2Client(
        registered.id,
        key.as_pem(private=True).decode(),
        token_endpoint_auth_method=PrivateKeyJWT(endpoint),
        token_endpoint=endpoint,
        scope="write",
    ) as client:
        first = client.fetch_token(grant_type="client_credentials")
        # Each request has an assertion of its own.
        second = client.fetch_token(grant_type="client_credentials")
    assert first["access_token"] != second["access_token"]


def test_pushed_request(server: Server) -> None:
    """A request is pushed (RFC 9126), and the browser carries its name alone."""
    registered = server.client(require_pushed_authorization_requests=True)
    verifier = secrets.token_urlsafe(48)
    with authlib_client(server, registered.id, registered.secret) as client:
        url, state = client.create_authorization_url(f"{server.url}/oauth2/authorize", code_verifier=verifier)
        query = url.partition("?")[2]
        pushed = requests.post(
            f"{server.url}/oauth2/par",
            data=query,
            headers={"content-type": "application/x-www-form-urlencoded"},
            auth=registered.basic,
            timeout=30,
        )
        assert pushed.status_code == 201
        assert pushed.json()["expires_in"] > 0
        answer = server.person().authorize(
            server.authorize_url(
                registered,
                request_uri=pushed.json()["request_uri"],
                **dict.fromkeys(
                    ["redirect_uri", "scope", "state", "response_type", "code_challenge", "code_challenge_method"]
                ),
            )
        )
        assert answer.parameters["state"] == state
        token = client.fetch_token(authorization_response=answer.location, code_verifier=verifier, state=state)
    assert token["scope"] == "profile email"


def test_resource_indicators(server: Server) -> None:
    """A token is for the resource that was asked for, and for no other (RFC 8707)."""
    both = ("https://api.example/one", "https://api.example/two")
    registered = server.client(resources=both)
    tokens = server.tokens(registered, resource=list(both))
    assert claims_of(tokens["access_token"])["aud"] == list(both)
    one = server.refresh(registered, tokens["refresh_token"], resource=both[0]).json()
    assert claims_of(one["access_token"])["aud"] == both[0]


def test_resources_of_a_service(server: Server) -> None:
    """A service asks for a token for one resource (RFC 8707, section 2.2)."""
    registered = server.service(resources=("https://api.example/",))
    answer = server.token(registered, grant_type="client_credentials", resource="https://api.example/").json()
    assert claims_of(answer["access_token"])["aud"] == "https://api.example/"


def test_consent_is_remembered_until_it_is_taken_back(server: Server) -> None:
    """A user is asked once, again for more, and again after taking it back, which ends what it led to."""
    registered = server.client(name="Remembered", scopes=("profile", "email"))
    person = server.person()
    tokens = server.tokens(registered, person, scope="profile")
    # The second time nobody is asked.
    assert person.open(server.authorize_url(registered, scope="profile")) is not None
    # For more than that, somebody is.
    assert person.open(server.authorize_url(registered, scope="profile email")) is None
    assert "See your e-mail address" in person.page.text
    answer = person.submit(decision="allow")
    assert answer is not None
    assert answer.code

    person.open("/account/applications")
    assert "Remembered" in person.page.text
    person.submit()
    assert "taken back" in person.page.text
    assert server.refresh(registered, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.introspect(registered, tokens["access_token"]) == {"active": False}
    assert person.open(server.authorize_url(registered, scope="profile")) is None


def test_the_user_says_no(server: Server) -> None:
    """The client is told (RFC 6749, section 4.1.2.1), and nothing is remembered."""
    registered = server.client()
    person = server.person()
    answer = person.authorize(server.authorize_url(registered), decision="deny")
    assert answer.error == "access_denied"
    assert answer.parameters["iss"] == server.url
    assert answer.parameters["state"] == "a state"
    assert person.open(server.authorize_url(registered)) is None


def test_a_trusted_client_needs_no_consent(server: Server) -> None:
    """A client of which an administrator says so gets its code without a question."""
    registered = server.client(require_consent=False)
    person = server.person()
    person.open(server.authorize_url(registered))
    answer = person.log_in()
    assert answer is not None
    assert answer.code


def test_a_client_on_the_users_device_is_always_asked_for(server: Server) -> None:
    """Whoever listens on a loopback port gets the code, so that nobody gets one unasked (RFC 8252, section 8.6)."""
    registered = server.client(public=True, redirect_uris=("http://127.0.0.1/callback",), require_consent=False)
    person = server.person()
    url = server.authorize_url(registered, redirect_uri="http://127.0.0.1:49152/callback")
    assert person.authorize(url).location.startswith("http://127.0.0.1:49152/callback?")
    assert person.open(url) is None


def test_request_by_form(server: Server) -> None:
    """An authorization request may be a form (OpenID Connect Core 1.0, section 3.1.2.1)."""
    registered = server.client()
    query = server.authorize_url(registered).partition("?")[2]
    answer = server.http.post(
        "/oauth2/authorize", content=query, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 303
    assert server.person().authorize(answer.headers["location"]).code


def test_access_tokens_expire(server: Server) -> None:
    """A client's own lifetime of access tokens is kept to (RFC 7662, section 2.2; RFC 9068, section 4)."""
    registered = server.service(access_token_ttl=short_lived())
    answer = server.token(registered, grant_type="client_credentials").json()
    assert answer["expires_in"] == 1
    assert claims_of(answer["access_token"])["exp"] <= time.time() + 1
    wait_until(lambda: not server.introspect(registered, answer["access_token"])["active"])


def test_grants_are_the_clients(server: Server) -> None:
    """A client without refresh_token gets no refresh token (RFC 6749, section 5.1)."""
    registered = server.client(grant_types=(GrantType.AUTHORIZATION_CODE,))
    assert "refresh_token" not in server.tokens(registered)
