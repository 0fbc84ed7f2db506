"""Each flow of OAuth, OpenID Connect and accounts moves the metrics of three workers by what happened, and no other."""

import base64
import http.client
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from authly.monitoring.catalogue import catalogue
from authly.oauth.models import AuthMethod, GrantType
from tests.attack import BOUND, CANARY, Attacker
from tests.conformance.oauth.conftest import run_server
from tests.exposition import rise
from tests.instance import REPOSITORY, total
from tests.oauth import CALLBACK, PASSWORD, Form, Person, Pkce, Registered, Server
from tests.oidc import RelyingParty
from tests.plain import NO_TLS
from tests.processes import wait_until
from tests.vocabulary import Value, lines, missing, seen

# What is counted exactly here. What a family that is not among them is tested by, is said at the end.
FAMILIES = ("oauth_", "auth_", "oidc_", "security_events", "admin_requests", "rate_limit_hits")
# How often what is cheap is done, so that each worker does it.
TIMES = 9
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NEW = "a new and longer sentence"
HTTP = "authly_http_requests_total"
ATTACKS = 2000

Count = Counter[str]

# What a form of Authly's and a request of a client count, wherever they are part of something.
LOGIN: Count = Counter(
    {
        "auth_login_attempts password success": 1,
        "auth_password_hash_duration verify": 1,
        "auth_sessions created": 1,
    }
)
SECRET: Count = Counter({"oauth_client_authentications client_secret_basic success": 1})
PUBLIC: Count = Counter({"oauth_client_authentications none success": 1})
CODE: Count = Counter({"oauth_authorization_requests code success": 1})


def at(endpoint: str, number: int = 1) -> Count:
    """Return what requests of a known client count."""
    return Counter({f"oauth_client_requests {endpoint}": number})


def exchange(grant: str, *tokens: str) -> Count:
    """Return what a token request that succeeded counts."""
    made: Count = Counter({f"oauth_token_requests {grant} success": 1})
    for token in tokens:
        made[f"oauth_tokens_issued {grant} {token}"] += 1
        if token != "refresh_token":
            made[f"oauth_token_generation_duration {token}"] += 1
        if token == "id_token":
            made["oidc_id_token_duration RS256"] += 1
    return made + at("token")


def refused(grant: str, status: str) -> Count:
    """Return what a token request of a client that authenticated counts."""
    return Counter({f"oauth_token_requests {grant} {status}": 1}) + at("token")


def event(name: str, severity: str) -> Count:
    """Return what a security event counts."""
    return Counter({f"security_events {name} {severity}": 1})


def asked(status: str, response_type: str = "code", *, known: bool = True) -> Count:
    """Return what an authorization request counts."""
    return Counter({f"oauth_authorization_requests {response_type} {status}": 1}) + (
        at("authorize") if known else Counter()
    )


def times(number: int, count: Count) -> Count:
    """Return so many times as much."""
    return Counter({key: number * value for key, value in count.items()})


class Scene:
    """A running server, and what the flows need of it.

    Args:
        server: answers.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        # Each request has a connection of its own, which any worker may answer.
        server.http.close()
        server.http = httpx.Client(
            base_url=server.url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0), verify=NO_TLS
        )
        self.service = server.service(resources=("https://api.example",))
        self.client = server.client(scopes=("openid", "email"))
        self.native = server.client(public=True)
        self.party = RelyingParty(server, server.client(scopes=("openid",), require_pkce=False, require_consent=False))
        self.administrator = server.service(scopes=("admin:read", "admin:write"))
        self.key = ECKey.generate_key("P-256", {"kid": "k"})
        self.signer = server.service(
            auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks={"keys": [self.key.as_dict(private=False)]}
        )
        self.person = server.person()
        answer = server.token(self.administrator, grant_type="client_credentials", scope="admin:read admin:write")
        self.admin_token = answer.json()["access_token"]
        self.person.authorize(server.authorize_url(self.client))

    def admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Call the administration interface."""
        headers = {"authorization": f"Bearer {self.admin_token}"}
        return self.server.http.request(method, f"/admin/v1{path}", json=body, headers=headers)

    def tokens(self, **parameters: Any) -> dict[str, Any]:
        """Let the person, who is logged in and has consented, allow the client everything again."""
        return self.server.tokens(self.client, self.person, **parameters)

    def assertion(self, algorithm: str, key: Any) -> dict[str, Any]:
        """Return what a client authenticates with that signs."""
        now = int(time.time())
        claims = {"iss": self.signer.id, "sub": self.signer.id, "aud": self.server.url, "exp": now + 60}
        content = json.dumps({**claims, "jti": str(uuid4())})
        signed = jws.serialize_compact({"alg": algorithm}, content, key, algorithms=[algorithm])
        return {"client_assertion_type": ASSERTION, "client_assertion": signed}

    def log_in(self, username: str, password: str) -> httpx.Response:
        """Send the login page, in a browser that nobody has used."""
        browser = Person(self.server, username, "")
        browser.open(f"{self.server.url}/login")
        form = Form(browser.page.text)
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        fields = {**form.fields, "username": username, "password": password}
        return self.server.http.post("/login", data=fields, headers=headers)


# All that the person's tokens, once more, count.
AGAIN = SECRET + CODE + at("authorize") + exchange("authorization_code", "access_token", "refresh_token", "id_token")
Flow = Callable[[Scene], Count]


def client_credentials(scene: Scene) -> Count:
    """Clients get tokens for themselves, by each of the ways to authenticate."""
    for _ in range(TIMES):
        assert scene.server.token(scene.service, grant_type="client_credentials").status_code == 200
    data: dict[str, Any] = {
        "grant_type": "client_credentials",
        "client_id": scene.service.id,
        "client_secret": scene.service.secret,
    }
    assert scene.server.token(**data).status_code == 200
    proof = scene.assertion("ES256", scene.key)
    assert scene.server.token(grant_type="client_credentials", **proof).status_code == 200
    return (
        times(TIMES + 2, exchange("client_credentials", "access_token"))
        + times(TIMES, SECRET)
        + Counter({"oauth_client_authentications client_secret_post success": 1})
        + Counter({"oauth_client_authentications private_key_jwt success": 1})
    )


def token_requests_that_fail(scene: Scene) -> Count:
    """Each error code of the token endpoint counts as itself, under the grant if there is such a grant."""
    server, service, own = scene.server, scene.service, "client_credentials"
    wrong = Registered(service.client, "wrong")
    assert server.token(wrong, grant_type=own).status_code == 401
    assert server.token(grant_type=own).status_code == 401
    assert server.token(client_id=scene.native.id, client_secret="x", grant_type="refresh_token").status_code == 401
    assert server.token(client_id=service.id, grant_type="refresh_token").status_code == 401
    assert server.token(service, grant_type=["a", "b"]).json()["error"] == "invalid_request"
    assert server.token(service, other="x").json()["error"] == "invalid_request"
    assert server.token(service, grant_type="password").json()["error"] == "unsupported_grant_type"
    assert server.token(scene.client, grant_type=own).json()["error"] == "unauthorized_client"
    assert server.token(service, grant_type=own, scope="x").json()["error"] == "invalid_scope"
    assert server.token(service, grant_type=own, resource="https://x.example").json()["error"] == "invalid_target"
    for data in ({"refresh_token": "x" * 43}, {}):
        assert server.token(scene.client, grant_type="refresh_token", **data).status_code == 400
    for data in ({"code": "x" * 43}, {}):
        assert server.token(scene.client, grant_type="authorization_code", **data).status_code == 400
    return (
        Counter(
            {
                "oauth_client_authentications client_secret_basic failure": 1,
                "oauth_client_authentications client_secret_post failure": 1,
                "oauth_client_authentications none failure": 1,
                "oauth_client_authentications other failure": 1,
                "oauth_token_requests client_credentials invalid_client": 2,
                "oauth_token_requests refresh_token invalid_client": 2,
                # Before anybody is asked who they are.
                "oauth_token_requests other invalid_request": 1,
            }
        )
        + times(9, SECRET)
        + refused("other", "invalid_request")
        + refused("other", "unsupported_grant_type")
        + refused(own, "unauthorized_client")
        + refused(own, "invalid_scope")
        + refused(own, "invalid_target")
        + refused("refresh_token", "invalid_grant")
        + refused("refresh_token", "invalid_request")
        + refused("authorization_code", "invalid_grant")
        + refused("authorization_code", "invalid_request")
    )


def first_login(scene: Scene) -> Count:
    """A new user logs in, consents, and the client redeems the code: for a session, an answer and three tokens."""
    scene.server.tokens(scene.client, scene.server.person())
    return LOGIN + AGAIN


def further_codes(scene: Scene) -> Count:
    """Whoever has logged in and consented is asked nothing."""
    for _ in range(TIMES):
        scene.tokens()
    return times(TIMES, AGAIN)


def public_clients(scene: Scene) -> Count:
    """A client without a secret authenticates by its name, and gets the tokens of its code."""
    person = scene.server.person()
    scene.server.tokens(scene.native, person)
    return LOGIN + PUBLIC + CODE + at("authorize") + exchange("authorization_code", "access_token", "refresh_token")


def refreshes(scene: Scene) -> Count:
    """A refresh gives three tokens, its repetition two; a token that was used and is used again gives an alarm."""
    first = scene.tokens()["refresh_token"]
    second = scene.server.refresh(scene.client, first).json()["refresh_token"]
    assert scene.server.refresh(scene.client, first).json()["refresh_token"] == second
    assert scene.server.refresh(scene.client, second).status_code == 200
    assert scene.server.refresh(scene.client, first).status_code == 400
    return (
        AGAIN
        + times(4, SECRET)
        + times(2, exchange("refresh_token", "access_token", "refresh_token", "id_token"))
        + exchange("refresh_token", "access_token", "id_token")
        + refused("refresh_token", "invalid_grant")
        + event("refresh_reuse", "high")
        + Counter({"oauth_token_revocations refresh_reuse family": 1})
    )


def codes_that_are_used_again(scene: Scene) -> Count:
    """A code that comes a second time revokes what it gave, once; a third time there is nothing left to revoke."""
    pkce = Pkce()
    code = scene.server.code(scene.client, pkce, scene.person)
    assert scene.server.redeem(scene.client, code, pkce).status_code == 200
    for _ in range(2):
        assert scene.server.redeem(scene.client, code, pkce).status_code == 400
    return (
        AGAIN
        + times(2, SECRET + refused("authorization_code", "invalid_grant"))
        + event("code_reuse", "high")
        + Counter({"oauth_token_revocations code_reuse family": 1})
    )


def codes_of_others(scene: Scene) -> Count:
    """A code without its verifier, or with another redirect URI, is refused and noted."""
    code = scene.server.code(scene.client, Pkce(), scene.person)
    assert scene.server.redeem(scene.client, code, Pkce()).status_code == 400
    pkce = Pkce()
    code = scene.server.code(scene.client, pkce, scene.person)
    assert scene.server.redeem(scene.client, code, pkce, redirect_uri="https://x.example").status_code == 400
    return (
        times(2, SECRET + CODE + at("authorize") + refused("authorization_code", "invalid_grant"))
        + event("pkce_mismatch", "medium")
        + event("redirect_uri_mismatch", "medium")
    )


def redirects_elsewhere(scene: Scene) -> Count:
    """Answers are not sent where the client has not said, be they asked for at once or beforehand."""
    scene.person.open(scene.server.authorize_url(scene.client, redirect_uri="https://x.example/"))
    assert scene.person.page.status_code == 400
    pushed = {"response_type": "code", "redirect_uri": "https://x.example/", "code_challenge_method": "S256"}
    assert scene.server.post("/oauth2/par", scene.client, **pushed).status_code == 400
    return (
        asked("invalid_request", known=False) + times(2, event("redirect_uri_mismatch", "medium")) + SECRET + at("par")
    )


def algorithms(scene: Scene) -> Count:
    """A token or an assertion that names an algorithm which its key does not have is noted."""
    server = scene.server
    token = server.token(scene.service, grant_type="client_credentials").json()["access_token"]
    header, payload, signature = token.split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"  # {"alg":"none","typ":"at+jwt"}
    assert header != none
    assert server.introspect(scene.service, f"{none}.{payload}.{signature}") == {"active": False}
    proof = scene.assertion("HS256", OctKey.import_key("k" * 32))
    assert server.token(grant_type="client_credentials", **proof).status_code == 401
    return (
        times(2, SECRET)
        + exchange("client_credentials", "access_token")
        + at("introspect")
        + times(2, event("bad_token_algorithm", "medium"))
        + Counter(
            {
                "oauth_introspections inactive": 1,
                "oauth_client_authentications private_key_jwt failure": 1,
                "oauth_token_requests client_credentials invalid_client": 1,
            }
        )
    )


def authorization_requests(scene: Scene) -> Count:
    """Each error code of the authorization endpoint counts as itself."""
    server, person, client = scene.server, scene.person, scene.client
    nobody = Person(server, "", "")
    pushing = server.client(scopes=("openid",), require_consent=False)
    unauthorized = server.client(scopes=("openid",), grant_types=(GrantType.CLIENT_CREDENTIALS,))

    def error(who: Person, **parameters: Any) -> str:
        answer = who.open(server.authorize_url(parameters.pop("of", client), **parameters))
        assert answer is not None, who.page.text
        return answer.error

    assert error(person, response_type="token") == "unsupported_response_type"
    assert error(person, response_type=None) == "invalid_request"
    assert error(person, of=unauthorized) == "unauthorized_client"
    assert error(person, scope="x") == "invalid_scope"
    assert error(person, resource="https://x.example") == "invalid_target"
    assert error(person, request="x") == "request_not_supported"
    assert error(person, request_uri="https://x.example") == "request_uri_not_supported"
    assert error(nobody, prompt="none") == "login_required"
    assert error(person, prompt="none", of=scene.native) == "consent_required"
    claims = json.dumps({"id_token": {"acr": {"essential": True, "values": ["x"]}}})
    assert error(person, claims=claims) == "unmet_authentication_requirements"
    assert person.authorize(server.authorize_url(client, prompt="consent"), "deny").error == "access_denied"
    assert error(person, prompt="none select_account") == "invalid_request"
    person.open(f"{server.url}/oauth2/authorize?client_id=nobody")
    assert person.page.status_code == 400
    challenge = {"code_challenge": Pkce().challenge, "code_challenge_method": "S256"}
    pushed = server.post("/oauth2/par", pushing, response_type="code", redirect_uri=CALLBACK, **challenge).json()
    query = urlencode({"client_id": pushing.id, "request_uri": pushed["request_uri"]})
    answer = person.open(f"{server.url}/oauth2/authorize?{query}")
    assert answer is not None
    assert answer.code
    person.open(f"{server.url}/oauth2/authorize?{query}")
    assert person.page.status_code == 400
    return (
        asked("unsupported_response_type", "other")
        + asked("invalid_request", "other")
        + asked("unauthorized_client")
        + asked("invalid_scope")
        + asked("invalid_target")
        + asked("request_not_supported")
        + asked("request_uri_not_supported")
        + asked("login_required")
        + asked("consent_required")
        + asked("unmet_authentication_requirements")
        + asked("access_denied")
        + asked("invalid_request")
        + asked("invalid_request", "other", known=False)
        + SECRET
        + at("par")
        + asked("success")
        + asked("invalid_request_uri", "other", known=False)
    )


def introspections(scene: Scene) -> Count:
    """A token is worth something or nothing, and a request without one cannot be answered."""
    server, service = scene.server, scene.service
    token = server.token(service, grant_type="client_credentials").json()["access_token"]
    for _ in range(TIMES):
        assert server.introspect(service, token)["active"]
    assert not server.introspect(service, "x" * 43)["active"]
    assert server.post("/oauth2/introspect", service, other="x").status_code == 400
    return (
        exchange("client_credentials", "access_token")
        + times(TIMES + 3, SECRET)
        + at("introspect", TIMES + 2)
        + Counter(
            {"oauth_introspections active": TIMES, "oauth_introspections inactive": 1, "oauth_introspections error": 1}
        )
    )


def revocations_by_clients(scene: Scene) -> Count:
    """A client gives an access token back, then everything that came of an authorization; nothing twice."""
    tokens = scene.tokens()
    for _ in range(2):
        for name in ("access_token", "refresh_token"):
            answer = scene.server.post("/oauth2/revoke", scene.client, token=tokens[name])
            assert answer.status_code == 200
    return (
        AGAIN
        + times(4, SECRET)
        + at("revoke", 4)
        + Counter({"oauth_token_revocations client access_token": 1, "oauth_token_revocations client family": 1})
    )


def revocations_by_administrators(scene: Scene) -> Count:
    """An administrator revokes an access token, and an authorization; a client that is disabled loses what it has."""
    server = scene.server
    service, users = server.service(), server.client(scopes=("openid",), require_consent=False)
    server.token(service, grant_type="client_credentials")
    tokens = scene.admin("GET", f"/tokens?client_id={service.id}").json()["items"]
    assert scene.admin("DELETE", f"/tokens/{tokens[0]['token_id']}").status_code == 204
    server.token(service, grant_type="client_credentials")
    server.token(service, grant_type="client_credentials")
    for client in (service, users):
        if client is users:
            server.tokens(users, scene.person)
        assert scene.admin("PATCH", f"/clients/{client.id}", {"enabled": False}).status_code == 200
    return (
        times(4, SECRET)
        + times(3, exchange("client_credentials", "access_token"))
        + CODE
        + at("authorize")
        + exchange("authorization_code", "access_token", "refresh_token", "id_token")
        + Counter(
            {
                "oauth_token_revocations admin access_token": 3,
                "oauth_token_revocations admin family": 1,
                "admin_requests read tokens 200": 1,
                "admin_requests delete tokens 204": 1,
                "admin_requests update clients 200": 2,
            }
        )
    )


def consents(scene: Scene) -> Count:
    """A user takes back what a client was allowed, and all that came of it."""
    person = scene.server.person()
    scene.server.tokens(scene.native, person)
    person.open(f"{scene.server.url}/account/applications")
    person.submit()
    return (
        LOGIN
        + PUBLIC
        + CODE
        + at("authorize")
        + exchange("authorization_code", "access_token", "refresh_token")
        + Counter({"oauth_token_revocations consent family": 1})
    )


def logins(scene: Scene) -> Count:
    """Wrong passwords and names are one reason; after some of them whoever comes early is kept out."""
    person = scene.server.person()
    for name in (person.username, f"nobody-{secrets.token_hex(4)}"):
        assert scene.log_in(name, "wrong").status_code == 403
    statuses = [scene.log_in(person.username, "wrong").status_code for _ in range(6)]
    assert statuses == [403, 403, 403, 403, 403, 429]
    disabled = scene.server.person()
    assert scene.admin("PATCH", f"/users/{disabled.user_id}", {"disabled": True}).status_code == 200
    assert scene.log_in(disabled.username, PASSWORD).status_code == 403
    return Counter(
        {
            "auth_login_attempts password failure": 9,
            "auth_failed_login_attempts credentials": 7,
            "auth_failed_login_attempts locked": 1,
            "auth_failed_login_attempts disabled": 1,
            "auth_password_hash_duration verify": 8,
            "security_events account_locked medium": 1,
            "admin_requests update users 200": 1,
        }
    )


def passwords(scene: Scene) -> Count:
    """Users change their passwords, or are refused; administrators reset them."""
    person = scene.server.person()
    person.open(f"{scene.server.url}/account/password")
    person.log_in()
    for current, new in ((PASSWORD, "short"), ("wrong", NEW), (PASSWORD, NEW)):
        person.open(f"{scene.server.url}/account/password")
        person.submit(current_password=current, new_password=new, repeated_password=new)
    assert scene.admin("POST", f"/users/{person.user_id}/password", {"password": "short"}).status_code == 422
    assert scene.admin("POST", f"/users/{person.user_id}/password", {}).status_code == 200
    return LOGIN + Counter(
        {
            "auth_password_changes user refused": 1,
            "auth_password_changes user denied": 1,
            "auth_password_changes user success": 1,
            "auth_password_changes admin refused": 1,
            "auth_password_changes admin success": 1,
            "auth_password_hash_duration verify": 2,
            "auth_password_hash_duration hash": 2,
            # The reset ends the session in which the user changed it.
            "auth_sessions ended": 1,
            "admin_requests create users 422": 1,
            "admin_requests create users 200": 1,
        }
    )


def sessions(scene: Scene) -> Count:
    """A logout ends a session and what was allowed in it; another user in the same browser ends the one before."""
    person, other = scene.server.person(), scene.server.person()
    scene.server.tokens(scene.native, person)
    other.cookies = person.cookies
    other.open(f"{scene.server.url}/login")
    other.log_in()
    other.open(f"{scene.server.url}/logout")
    other.submit()
    return (
        times(2, LOGIN)
        + PUBLIC
        + CODE
        + at("authorize")
        + exchange("authorization_code", "access_token", "refresh_token")
        + Counter({"auth_sessions ended": 2, "oauth_token_revocations logout family": 1})
    )


def returns(scene: Scene) -> Count:
    """Whoever comes back finds the session that was there, even where a client wants to see the password again."""
    scene.server.sql(
        "UPDATE sessions SET last_seen_at = now() - interval '10 minutes' WHERE user_id = %s", scene.person.user_id
    )
    scene.tokens()
    scene.tokens(prompt="login")
    return times(2, AGAIN) + LOGIN - Counter({"auth_sessions created": 1})


def expiry(scene: Scene) -> Count:
    """Sessions that nobody used are found when they are deleted."""
    person = scene.server.person()
    person.open(f"{scene.server.url}/login")
    person.log_in()
    before = total(scene.server.instance.series(), "authly_auth_sessions_total", event="expired")
    scene.server.sql("UPDATE sessions SET last_seen_at = now() - interval '3 days' WHERE user_id = %s", person.user_id)
    wait_until(
        lambda: total(scene.server.instance.series(), "authly_auth_sessions_total", event="expired") == before + 1
    )
    return LOGIN + Counter({"auth_sessions expired": 1})


def openid_connect(scene: Scene) -> Count:
    """Documents, keys, userinfo and logouts count as they are answered; ID tokens by what signs them."""
    server, party = scene.server, scene.party
    person = server.person()
    for _ in range(TIMES):
        assert server.http.get("/.well-known/openid-configuration").status_code == 200
        assert server.http.get("/jwks").status_code == 200
    assert server.http.get("/.well-known/oauth-authorization-server").status_code == 200
    found = party.log_in(person)
    party.userinfo(found.access_token)
    assert server.http.get("/oidc/userinfo").status_code == 401
    form = {"data": {"access_token": found.access_token}, "headers": {"authorization": "Bearer x"}}
    assert server.http.post("/oidc/userinfo", **form).status_code == 400  # type: ignore[arg-type]
    without = server.tokens(scene.native, person)["access_token"]
    answer = server.http.get("/oidc/userinfo", headers={"authorization": f"Bearer {without}"})
    assert answer.status_code == 403
    for algorithm in ("ES256", "EdDSA"):
        client = server.client(
            scopes=("openid",), require_consent=False, id_token_signed_response_alg=algorithm, name=algorithm
        )
        server.tokens(client, person)
    # A key that nobody publishes may be one of earlier days.
    header = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": "x" * 43}).encode()).decode().rstrip("=")
    person.open(f"{server.url}/oidc/logout?id_token_hint={header}.{found.id_token.partition('.')[2]}")
    assert person.page.status_code == 400
    person.open(f"{server.url}/oidc/logout?{urlencode({'id_token_hint': found.id_token})}")
    whole = exchange("authorization_code", "access_token", "refresh_token", "id_token")
    return (
        LOGIN
        + times(3, SECRET)
        + times(4, CODE + at("authorize"))
        + times(3, whole)
        + PUBLIC
        + exchange("authorization_code", "access_token", "refresh_token")
        + Counter(
            {
                # The party that checks a token looks at the keys.
                "oidc_requests discovery success": TIMES + 1,
                "oidc_requests jwks success": TIMES + 1,
                "oidc_id_token_duration ES256": 1,
                "oidc_id_token_duration EdDSA": 1,
                "auth_sessions ended": 1,
                "oauth_token_revocations logout family": 4,
                "oidc_requests userinfo success": 1,
                "oidc_requests userinfo invalid_token": 1,
                "oidc_requests userinfo invalid_request": 1,
                "oidc_requests userinfo insufficient_scope": 1,
                "oidc_requests logout invalid_request": 1,
                "oidc_requests logout success": 1,
            }
        )
        - Counter({"oidc_id_token_duration RS256": 2})
    )


def browsers(scene: Scene) -> Count:
    """Forms, origins, hosts and callers that are not ours are kept out, and noted with the id of the request."""
    http = scene.server.http
    marks = {name: f"case-{secrets.token_hex(8)}" for name in ("csrf", "cors", "host", "admin", "low", "medium")}

    def asking(name: str, **headers: str) -> dict[str, str]:
        return {"x-request-id": marks[name], **{key.replace("_", "-"): value for key, value in headers.items()}}

    assert http.post("/login", data={"username": "x"}, headers=asking("csrf")).status_code == 403
    assert (
        http.options(
            "/oauth2/token",
            headers=asking("cors", origin="https://x.example", access_control_request_method="POST"),
        ).headers.get("access-control-allow-origin")
        is None
    )
    assert http.get("/jwks", headers=asking("host", host="x.example")).status_code == 400
    assert http.get("/admin/v1/users", headers=asking("admin", authorization="Bearer x")).status_code == 401
    assert http.get("/metrics", headers=asking("low")).status_code == 401
    assert http.get("/metrics", headers=asking("medium", x_forwarded_for="192.0.2.1")).status_code == 403
    expected = {
        "csrf": "csrf_rejected",
        "cors": "cors_rejected",
        "host": "host_rejected",
        "admin": "admin_denied",
        "low": "metrics_denied",
        "medium": "metrics_denied",
    }
    lines = [json.loads(line) for line in scene.server.instance.log().splitlines() if '"authly.security"' in line]
    for name, event_type in expected.items():
        assert [line["event"] for line in lines if line.get("request_id") == marks[name]] == [event_type]
    return (
        event("csrf_rejected", "low")
        + event("cors_rejected", "low")
        + event("host_rejected", "low")
        + event("admin_denied", "medium")
        + event("metrics_denied", "low")
        + event("metrics_denied", "medium")
        + Counter({"admin_requests read users 401": 1})
    )


def too_many(scene: Scene) -> Count:
    """Logins beyond the limit of an address are refused before anybody looks at them."""
    admitted = 0
    while (answer := scene.server.http.post("/login", data={"username": "x"})).status_code == 403:
        admitted += 1
    assert answer.status_code == 429
    assert scene.server.http.post("/login", data={"username": "x"}).status_code == 429
    return times(admitted, event("csrf_rejected", "low")) + Counter(
        {
            "rate_limit_hits postgresql login": 2,
            "auth_failed_login_attempts rate_limited": 2,
            "auth_login_attempts password failure": 2,
        }
    )


def administrators(scene: Scene) -> Count:
    """Requests to the administration interface count by what they are about and what they do."""
    counted: Count = Counter()
    for resource in ("clients", "scopes", "users", "sessions", "tokens", "consents", "audit-log", "statistics"):
        assert scene.admin("GET", f"/{resource}").status_code == 200
        counted[f"admin_requests read {resource} 200"] += 1
    # The keys are rotated, and listed on the command line alone.
    assert scene.admin("GET", "/keys").status_code == 404
    assert scene.admin("GET", "/nothing").status_code == 404
    assert scene.admin("OPTIONS", "/users").status_code == 405
    scope, user = f"scope-{secrets.token_hex(4)}", {"username": f"user-{secrets.token_hex(4)}"}
    client = {"name": "Short-lived", "type": "confidential", "grant_types": ["client_credentials"], "scopes": [scope]}
    made = {"client_id": "", "user_id": ""}
    for method, path, body, status, kind in (
        ("POST", "/scopes", {"name": scope, "description": "Come"}, 201, "create scopes"),
        ("PATCH", f"/scopes/{scope}", {"description": "Go"}, 200, "update scopes"),
        ("POST", "/clients", client, 201, "create clients"),
        ("POST", "/clients/{client_id}/secret", None, 200, "create clients"),
        ("DELETE", "/clients/{client_id}", None, 204, "delete clients"),
        ("DELETE", f"/scopes/{scope}", None, 204, "delete scopes"),
        ("POST", "/users", user, 201, "create users"),
        ("PATCH", "/users/{user_id}", {"name": "Somebody"}, 200, "update users"),
        ("DELETE", "/users/{user_id}", None, 204, "delete users"),
        ("GET", f"/sessions/{uuid4()}", None, 404, "read sessions"),
        ("GET", "/tokens/families", None, 200, "read tokens"),
    ):
        answer = scene.admin(method, path.format(**made), body)
        assert answer.status_code == status, answer.text
        counted[f"admin_requests {kind} {status}"] += 1
        if status == 201:
            made |= {name: value for name, value in answer.json().items() if name in made}
    return counted + Counter(
        {"admin_requests read keys 404": 1, "admin_requests read other 404": 1, "admin_requests other users 405": 1}
    )


def upkeep(scene: Scene) -> Count:
    """What is deleted counts by the job that deletes it."""
    server = scene.server
    instance, cleaned = server.instance, "authly_cleanup_rows_deleted_total"
    # Keys that are due, and sessions that are over, have tests of their own.
    tasks = (
        *("tokens", "pushed_requests", "assertions", "login_failures", "devices", "rate_limits", "audit_log"),
        "backchannel_logouts",
    )
    before = instance.settled()
    past = "now() - interval '3 days'"
    [(user_id,)] = server.sql("SELECT user_id FROM users LIMIT 1")
    server.sql(
        f"INSERT INTO access_tokens (token_id, client_id, scopes, audience, expires_at) "
        f"VALUES (gen_random_uuid(), %s, '{{}}', '{{}}', {past})",
        scene.service.id,
    )
    server.sql(
        f"INSERT INTO pushed_authorization_requests (request_uri_hash, client_id, parameters, expires_at) "
        f"VALUES (sha256('x'), %s, '[]', {past})",
        scene.service.id,
    )
    server.sql(f"INSERT INTO used_assertions VALUES (%s, sha256('x'), {past})", scene.service.id)
    server.sql(f"INSERT INTO login_failures VALUES (sha256('x'), 1, {past})")
    server.sql(f"INSERT INTO known_devices VALUES (sha256('x'), %s, {past})", user_id)
    server.sql("INSERT INTO rate_limits VALUES ('x', 0, true)")
    server.sql(
        "INSERT INTO audit_log (event, occurred_at, actor_kind, detail) VALUES ('x', now() - interval '2 years', "
        "'system', '{}')"
    )
    # Of a client that wants to hear of nothing by now.
    server.sql(
        "INSERT INTO backchannel_logouts (client_id, session_id, subject) VALUES (%s, gen_random_uuid(), 'x')",
        scene.service.id,
    )

    def risen() -> dict[str, float]:
        after = instance.settled()
        return {task: total(after, cleaned, task=task) - total(before, cleaned, task=task) for task in tasks}

    wait_until(lambda: all(risen().values()))
    assert risen() == dict.fromkeys(tasks, 1)
    successes = "authly_cleanup_last_success_timestamp_seconds"
    assert all(time.time() - 60 < total(instance.series(), successes, task=task) <= time.time() for task in tasks)
    fine = instance.series()

    def failed() -> set[str]:
        return {key.split()[2] for key in rise(fine, instance.series(), "cleanup_runs error")}

    server.sql("ALTER TABLE known_devices RENAME TO gone")
    wait_until(failed)
    server.sql("ALTER TABLE gone RENAME TO known_devices")
    assert failed() == {"devices"}
    return Counter()


def methods(scene: Scene) -> Count:
    """A request of any method counts as one of it, and of a method that nobody knows as another."""
    instance = scene.server.instance
    known = ("HEAD", "PUT", "TRACE", "BREW")
    before = instance.settled()
    for method in known:
        instance.get("/health/live", method=method)
    after = instance.settled()
    for method in known:
        labels = {"endpoint": "/health/live", "method": "other" if method == "BREW" else method}
        assert total(after, HTTP, **labels) - total(before, HTTP, **labels) == 1
        timed = "authly_http_request_duration_seconds_count"
        assert total(after, timed, **labels) - total(before, timed, **labels) == 1
    wait_until(lambda: total(instance.series(), "authly_http_requests_in_progress") == 0)
    overflow = {"metric": HTTP}
    name = "authly_metrics_label_overflow_total"
    assert total(after, name, **overflow) - total(before, name, **overflow) == 1
    return Counter()


def nothing(scene: Scene) -> Count:
    """What is not about any of it moves none of it."""
    for path in ("/health/live", "/health/ready", "/login", "/nowhere", "/openapi.json", "/static/authly.css"):
        scene.server.http.get(path)
    return Counter()


FLOWS: tuple[Flow, ...] = (
    nothing, client_credentials, token_requests_that_fail, first_login, further_codes, public_clients, refreshes,
    codes_that_are_used_again, codes_of_others, redirects_elsewhere, algorithms, authorization_requests,
    introspections, revocations_by_clients, revocations_by_administrators, consents, logins,
    passwords, sessions, returns, expiry, openid_connect, browsers, administrators, upkeep, methods, too_many,
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(postgres_server: str, _migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Three workers that count all the time what there is, and tell clients apart."""
    folder = tmp_path_factory.mktemp("catalogue")
    environment = {
        "AUTHLY_METRICS_COLLECTION_INTERVAL": "0.1",
        "AUTHLY_METRICS_INCLUDE_CLIENT_IDS": "true",
        "AUTHLY_METRICS_ACCESS_TOKENS": "true",
        "AUTHLY_CLEANUP_INTERVAL": "1",
        "AUTHLY_RATE_LIMIT_LOGIN": "60/hour",
        "AUTHLY_ALLOWED_HOSTS": "127.0.0.1",
        "AUTHLY_CACHE_TTL": "30",
    }
    for server in run_server(postgres_server, _migrated, folder, **environment):
        yield Scene(server)


def test_each_flow_counts_what_happened(scene: Scene, subtests: pytest.Subtests) -> None:
    """Of each flow: every series moves by what happened, and none that has nothing to do with it."""
    instance = scene.server.instance
    found: set[Value] = set()
    for flow in FLOWS:
        with subtests.test(flow.__name__):
            before = instance.settled()
            expected = flow(scene)
            after = instance.settled()
            assert rise(before, after, *FAMILIES) == {key: value for key, value in expected.items() if value}
            found |= seen(after)
    check_levels(scene)
    check_ratio(scene)
    check_names_of_clients(scene)
    check_attack(scene)
    # Seen above, or promised by a test of its own (tests/vocabulary.py), each value of each label of each metric.
    without = missing(found | seen(instance.series()))
    assert not without, f"no test produces\n{lines(without)}"


# What has a test of its own, beyond what is counted exactly or looked at here.
COVERED: dict[str, tuple[str, ...]] = {
    "integration/test_catalogue.py": (
        "authly_http_requests_total", "authly_http_request_duration_seconds", "authly_http_requests_in_progress",
        "authly_cache_memory_usage_bytes", "authly_cache_operations_total", "authly_cache_hit_ratio",
        "authly_cleanup_rows_deleted_total", "authly_cleanup_last_success_timestamp_seconds",
        "authly_metrics_label_overflow_total",
    ),
    "integration/test_admin.py": ("authly_cleanup_runs_total",),
    "integration/test_measuring.py": (
        "authly_database_queries_total", "authly_database_query_duration_seconds", "authly_database_connections",
        "authly_database_connections_max", "authly_database_requests_waiting", "authly_database_pool_requests_total",
        "authly_event_loop_lag_seconds", "authly_gc_pause_seconds", "authly_thread_pool_tasks",
        "authly_startup_duration_seconds", "authly_dependency_up", "authly_dependency_connect_duration_seconds",
        "authly_config_valid",
    ),
    "unit/monitoring/test_database_metrics.py": ("authly_database_pool_wait_seconds_total",),
    "integration/test_protection.py": (
        "authly_rate_limit_check_duration_seconds", "authly_rate_limit_errors_total",
    ),
    "unit/monitoring/test_lifecycle_metrics.py": ("authly_application_info",),
    "integration/test_directory_faults.py": ("authly_metrics_dropped_series_total",),
}  # fmt: skip
# Of what the exporter and the master say themselves, sections of the catalogue.
COVERED_SECTIONS = {
    "gunicorn": ("integration/test_gunicorn_collector.py", "integration/test_worker_exits.py"),
    "processes": ("integration/test_collectors.py", "unit/monitoring/exporter/test_system.py"),
    "exporter": ("unit/monitoring/exporter/test_runner.py", "integration/test_directory_faults.py"),
}


def test_every_metric_is_tested() -> None:
    """Each family of the catalogue is counted exactly here, or by a test that names it."""
    named = {name: module for module, names in COVERED.items() for name in names}
    for section in catalogue():
        for module in COVERED_SECTIONS.get(section.name, ()):
            assert (REPOSITORY / "tests" / module).exists()
        for definition, _ in section.definitions:
            name = definition.name
            if name.removeprefix("authly_").startswith(FAMILIES) or section.name in COVERED_SECTIONS:
                continue
            text = (REPOSITORY / "tests" / named.pop(name)).read_text()
            short = name.removeprefix("authly_database_").removeprefix("authly_").removesuffix("_seconds_total")
            assert name in text or short in text, name
    assert set(named) == {"authly_cache_hit_ratio"}


def check_levels(scene: Scene) -> None:
    """What one of the workers counts is what the database has."""
    server = scene.server

    def shown(name: str, **labels: str) -> float:
        return total(server.instance.series(), f"authly_{name}", **labels)

    def agree() -> bool:
        [(access, refresh)] = server.sql(
            """
            SELECT
                (SELECT count(*) FROM access_tokens LEFT JOIN token_families f USING (family_id)
                 WHERE access_tokens.expires_at > now() AND access_tokens.revoked_at IS NULL AND f.revoked_at IS NULL),
                (SELECT count(*) FROM refresh_tokens JOIN token_families f USING (family_id)
                 WHERE refresh_tokens.expires_at > now() AND rotated_at IS NULL AND f.revoked_at IS NULL)
            """
        )
        clients = dict(server.sql("SELECT type, count(*) FROM clients WHERE enabled GROUP BY type"))
        [(sessions,)] = server.sql(
            "SELECT count(*) FROM sessions WHERE ended_at IS NULL AND last_seen_at > now() - interval '1 hour'"
        )
        seen = (
            shown("oauth_active_tokens", token_type="access_token"),
            shown("oauth_active_tokens", token_type="refresh_token"),
            shown("oauth_clients", client_type="confidential"),
            shown("oauth_clients", client_type="public"),
            shown("auth_active_sessions"),
        )
        return seen == (access, refresh, clients["confidential"], clients["public"], sessions)

    wait_until(agree)
    assert shown("oidc_signing_keys", state="active") == 3
    assert shown("oidc_signing_keys", state="pending") == shown("oidc_signing_keys", state="retiring") == 0
    assert 0 < shown("oidc_signing_key_age_seconds") < 300
    assert shown("cache_memory_usage_bytes") == 0


def check_ratio(scene: Scene) -> None:
    """The share of hits is what the counter of look-ups says."""
    series = scene.server.instance.series()
    name = "authly_cache_operations_total"
    for cache in ("clients", "scopes"):
        hits = total(series, name, cache=cache, operation="get", status="hit")
        misses = total(series, name, cache=cache, operation="get", status="miss")
        assert hits > 0
        assert total(series, "authly_cache_hit_ratio", cache=cache) == pytest.approx(hits / (hits + misses))


def check_names_of_clients(scene: Scene) -> None:
    """A client is called as the command says, which needs the secret key and tells nothing to who has another."""
    series = scene.server.instance.series()

    def label(**environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "authly.cli", "metrics", "client", scene.service.id],
            env={**scene.server.instance.environment, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    name = label()
    assert len(name) == 12
    assert total(series, "authly_oauth_token_requests_total", client_id=name, status="success") > TIMES
    assert label(AUTHLY_SECRET_KEY="another secret key, which is long enough too") != name
    names = {dict(has)["client_id"] for (_, has) in series if "client_id" in dict(has)}
    assert {scene.service.id, scene.client.id}.isdisjoint(names)
    assert all(len(each) in {0, 12} for each in names)


def check_attack(scene: Scene) -> None:
    """What is made up reaches neither the exposition, nor the status page, nor a file; with a database behind it."""
    instance, attacker = scene.server.instance, Attacker(strangers=0.1)
    before = instance.settled()
    connection = http.client.HTTPConnection(instance.address, timeout=30)
    asked = 0
    while asked < ATTACKS:
        method, path, headers, body = attacker.request()
        # Servers take it for a tunnel.
        if method == "CONNECT":
            continue
        connection.request(
            method, quote(path, safe="/?&=%"), body or None, {name: value.encode() for name, value in headers.items()}
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status < 500, (method, path, headers, body)
        asked += 1
    connection.close()
    after = instance.settled()
    assert total(after, HTTP) - total(before, HTTP) == ATTACKS
    pages = [
        instance.scrape(),
        instance.scrape(headers={"accept": "application/openmetrics-text"}),
        instance.scrape("/"),
    ]
    assert [status for status, _, _ in pages] == [200, 200, 200]
    files = [file for file in instance.directory.iterdir() if file.is_file()]
    assert len(files) > 10
    contents = [body for _, _, body in pages] + [file.read_bytes() for file in files]
    assert not any(CANARY.encode() in content.lower() for content in contents)
    assert len(before) < len(after) < BOUND
