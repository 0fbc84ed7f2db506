"""The configuration document (OpenID Connect Discovery 1.0, section 3), and whether it tells the truth.

The first test is what certification's "Config OP" plan asks; the others follow everything that is advertised.
"""

import json
import time
from typing import Any

import httpx
import jwt
import pytest
from authlib.oidc.discovery import OpenIDProviderMetadata

from authly.oauth.models import AuthMethod, GrantType, SubjectType
from authly.oidc.claims import SCOPES as CLAIMS_OF_SCOPES
from tests.oauth import CALLBACK, Form, Person, Pkce, Server
from tests.oidc import EVERYTHING, RelyingParty, posted, with_pkce

SCOPES = ("openid", *CLAIMS_OF_SCOPES)


@pytest.fixture(scope="module")
def configuration(server: Server) -> dict[str, Any]:
    """The document."""
    content: dict[str, Any] = server.http.get("/.well-known/openid-configuration").json()
    return content


@pytest.fixture(scope="module")
def logged_in_person(relying_party: RelyingParty, server: Server) -> Person:
    """A user who has allowed certification's client everything."""
    person = server.person(**EVERYTHING)
    relying_party.log_in(person, scope=" ".join(SCOPES))
    return person


def test_oidcc_discovery_endpoint_verification(server: Server, configuration: dict[str, Any]) -> None:
    """The document is there, has what it must have, and names the issuer below which it is (section 4.3)."""
    answer = server.http.get("/.well-known/openid-configuration")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert configuration["issuer"] == server.url
    for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"):
        assert configuration[name].startswith(f"{server.url}/")
    assert "openid" in configuration["scopes_supported"]
    assert "code" in configuration["response_types_supported"]
    assert set(configuration["subject_types_supported"]) <= {"public", "pairwise"}
    assert "RS256" in configuration["id_token_signing_alg_values_supported"]
    assert "sub" in configuration["claims_supported"]
    assert configuration["claims_parameter_supported"] is True
    keys = server.http.get(configuration["jwks_uri"]).json()["keys"]
    assert len({key["kid"] for key in keys}) == len(keys)
    assert all(not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"} for key in keys)


def test_authlib_accepts_it(configuration: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An independent implementation finds nothing wrong with the document."""
    metadata = OpenIDProviderMetadata(configuration)
    # It insists on https, which a test server on the loopback interface does not have.
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    metadata.validate()


def test_both_documents_agree(server: Server, configuration: dict[str, Any]) -> None:
    """What OAuth clients are told is part of what OpenID clients are told (RFC 8414, section 2)."""
    metadata = server.http.get("/.well-known/oauth-authorization-server").json()
    assert {name: configuration[name] for name in metadata} == metadata


def test_endpoints(server: Server, configuration: dict[str, Any]) -> None:
    """At every address that is advertised there is what is advertised."""
    statuses = {
        "authorization_endpoint": ("GET", 400),
        "token_endpoint": ("POST", 415),
        "revocation_endpoint": ("POST", 415),
        "introspection_endpoint": ("POST", 415),
        "pushed_authorization_request_endpoint": ("POST", 415),
        "userinfo_endpoint": ("GET", 401),
        "end_session_endpoint": ("GET", 303),
        "jwks_uri": ("GET", 200),
    }
    advertised = {name for name in configuration if name.endswith(("_endpoint", "_uri"))}
    assert advertised == statuses.keys()
    for name, (method, status) in statuses.items():
        assert server.http.request(method, configuration[name]).status_code == status, name


def test_scopes_and_claims(
    configuration: dict[str, Any], relying_party: RelyingParty, logged_in_person: Person
) -> None:
    """Every scope is understood, and every claim is told of somebody of whom it is known."""
    assert set(configuration["scopes_supported"]) >= {*SCOPES, "offline_access"}
    logged_in = relying_party.log_in(logged_in_person, scope=" ".join(SCOPES))
    told = relying_party.userinfo(logged_in.access_token).keys() | logged_in.claims.keys()
    assert told == set(configuration["claims_supported"])
    assert configuration["claim_types_supported"] == ["normal"]


def test_response_modes(configuration: dict[str, Any], relying_party: RelyingParty, logged_in_person: Person) -> None:
    """Every response mode brings the answer to the client; others are refused."""
    assert configuration["response_types_supported"] == ["code"]
    assert set(configuration["response_modes_supported"]) == {"query", "form_post"}
    for mode in configuration["response_modes_supported"]:
        url = relying_party.url(response_mode=mode, nonce="n", state="s")
        answer = logged_in_person.open(url) or posted(logged_in_person)
        relying_party.receive(answer, nonce="n", state="s")
    refused = logged_in_person.open(relying_party.url(response_mode="fragment"))
    assert refused is not None
    assert refused.error == "invalid_request"


def test_prompts(configuration: dict[str, Any], relying_party: RelyingParty, logged_in_person: Person) -> None:
    """Every prompt shows what it stands for; others are refused."""
    shown = {"none": None, "login": "/login", "consent": "/oauth2/consent", "select_account": "/oauth2/account"}
    assert set(configuration["prompt_values_supported"]) == shown.keys()
    for prompt, action in shown.items():
        answer = logged_in_person.open(relying_party.url(prompt=prompt))
        assert (answer is None) == (action is not None), prompt
        assert answer or Form(logged_in_person.page.text).action == action
    answer = logged_in_person.open(relying_party.url(prompt="create"))
    assert answer is not None
    assert answer.error == "invalid_request"


def test_displays_locales_and_acr(
    configuration: dict[str, Any], relying_party: RelyingParty, logged_in_person: Person
) -> None:
    """Every display, language and kind of authentication can be asked for; the pages are in the language."""
    assert configuration["ui_locales_supported"] == ["en"]
    assert '<html lang="en">' in relying_party.server.http.get("/login").text
    for name, parameter in (
        ("display_values_supported", "display"),
        ("ui_locales_supported", "ui_locales"),
        ("acr_values_supported", "acr_values"),
    ):
        for value in configuration[name]:
            logged_in = relying_party.log_in(logged_in_person, **{parameter: value})
    assert logged_in.claims["acr"] in configuration["acr_values_supported"]
    assert logged_in.claims["amr"] == ["pwd"]


def test_what_is_not_supported(configuration: dict[str, Any]) -> None:
    """Whatever would be supported unless a document says otherwise is denied (section 3)."""
    for name in ("request_parameter_supported", "request_uri_parameter_supported", "require_request_uri_registration"):
        assert configuration[name] is False
    assert not {"registration_endpoint", "check_session_iframe", "frontchannel_logout_supported"} & configuration.keys()


def test_algorithms(configuration: dict[str, Any], server: Server) -> None:
    """Every algorithm signs ID tokens and userinfo, and every subject type names users."""
    person = server.person()
    subject_types = configuration["subject_types_supported"]
    algorithms = configuration["id_token_signing_alg_values_supported"]
    assert configuration["userinfo_signing_alg_values_supported"] == algorithms
    assert set(algorithms) == {key["alg"] for key in server.http.get("/jwks").json()["keys"]}
    for index, algorithm in enumerate(algorithms):
        client = server.client(
            scopes=("openid",),
            require_pkce=False,
            id_token_signed_response_alg=algorithm,
            userinfo_signed_response_alg=algorithm,
            subject_type=SubjectType(subject_types[index % len(subject_types)]),
        )
        party = RelyingParty(server, client)
        logged_in = party.log_in(person)
        headers = {"authorization": f"Bearer {logged_in.access_token}"}
        answer = server.http.get(configuration["userinfo_endpoint"], headers=headers)
        assert answer.headers["content-type"] == "application/jwt"
        key = party.keys()[jwt.get_unverified_header(answer.text)["kid"]]
        said = jwt.decode(answer.text, key, algorithms=[algorithm], audience=client.id, issuer=server.url)
        assert said["sub"] == logged_in.claims["sub"]
        assert jwt.get_unverified_header(answer.text)["alg"] == algorithm


def test_grants_and_authentication_methods(configuration: dict[str, Any]) -> None:
    """The grants and the ways to authenticate are those that the tests of the OAuth protocol go through."""
    assert set(configuration["grant_types_supported"]) == {grant.value for grant in GrantType}
    assert set(configuration["token_endpoint_auth_methods_supported"]) == {method.value for method in AuthMethod}
    assert configuration["code_challenge_methods_supported"] == ["S256"]
    assert configuration["authorization_response_iss_parameter_supported"] is True


def test_claims_parameter(relying_party: RelyingParty, logged_in_person: Person) -> None:
    """The parameter that is advertised is understood: claims in the ID token, and with values."""
    claims = {
        "id_token": {"email": None, "nickname": {"value": "Somebody else"}, "auth_time": {"essential": True}},
        "userinfo": {"given_name": {"values": ["Ada", "Grace"]}, "family_name": {"value": "Hopper"}, "unknown": None},
    }
    logged_in = relying_party.log_in(logged_in_person, claims=json.dumps(claims))
    assert logged_in.claims["email"] == EVERYTHING["email"]
    assert "nickname" not in logged_in.claims
    assert relying_party.userinfo(logged_in.access_token) == {"sub": logged_in_person.user_id, "given_name": "Ada"}
    refreshed = relying_party.token(
        grant_type="refresh_token",
        refresh_token=relying_party.log_in(
            logged_in_person, claims=json.dumps(claims), scope="openid offline_access"
        ).tokens["refresh_token"],
    ).json()
    assert relying_party.check(refreshed["id_token"], nonce=None, access_token=None)["email"] == EVERYTHING["email"]


def test_pushed_requests(server: Server, relying_party: RelyingParty, logged_in_person: Person) -> None:
    """A pushed request may hold what OpenID Connect adds, and is checked when it is pushed (RFC 9126, section 2.1)."""
    fields = {
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "openid",
        "nonce": "n",
        "state": "s",
        "max_age": "10000",
    }
    endpoint = relying_party.configuration["pushed_authorization_request_endpoint"]

    def push(**changes: str) -> httpx.Response:
        return server.http.post(endpoint, data=fields | changes, auth=relying_party.client.basic)

    assert push(prompt="none login").json()["error"] == "invalid_request"
    assert push(max_age="-1").json()["error"] == "invalid_request"
    pushed = push().json()["request_uri"]
    answer = logged_in_person.open(
        f"/oauth2/authorize?client_id={relying_party.client.id}&request_uri={pushed}&prompt=login"
    )
    # What else the request says does not count: neither the prompt nor a nonce from elsewhere.
    assert answer is not None
    relying_party.receive(answer, nonce="n", state="s")


def test_pkce_by_default(server: Server, person: Person) -> None:
    """A client that nobody exempted has to send PKCE, with OpenID Connect as well (RFC 9700, section 2.1.1)."""
    party = RelyingParty(server, server.client(scopes=("openid",)))
    assert person.authorize(party.url()).error == "invalid_request"
    pkce = Pkce()
    answer = person.authorize(party.url(**with_pkce(pkce), nonce="n"))
    tokens = party.redeem(answer.code, code_verifier=pkce.verifier).json()
    assert party.check(tokens["id_token"], nonce="n", access_token=tokens["access_token"])["exp"] > time.time()
