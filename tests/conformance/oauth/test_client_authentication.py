"""How clients authenticate, and how they fail to."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from authly.oauth.models import AuthMethod
from tests.oauth import Registered, Server, is_description

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEYS: dict[str, RSAKey | ECKey | OKPKey] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "okp"}),
}


@pytest.fixture(scope="module")
def service(server: Server) -> Registered:
    """A client with a secret."""
    return server.service()


@pytest.fixture(scope="module")
def signer(server: Server) -> Registered:
    """A client with keys."""
    jwks = {"keys": [key.as_dict(private=False) for key in KEYS.values()]}
    return server.service(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks=jwks)


def ask(server: Server, data: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    """Ask for a token."""
    form = {"grant_type": "client_credentials", **(data or {})}
    return server.http.post("/oauth2/token", data=form, headers=headers)


def check_refused(answer: httpx.Response, error: str = "invalid_client") -> None:
    """Make sure that a client was refused as RFC 6749, section 5.2 has it."""
    assert (answer.status_code, answer.json()["error"]) == (401 if error == "invalid_client" else 400, error)
    assert is_description(answer.json()["error_description"])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Basic ")


def basic(client_id: str, secret: str) -> str:
    """Return an Authorization header."""
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def test_either_way_of_sending_the_secret(server: Server, service: Registered) -> None:
    """A client with a secret may send it in the header or in the body (RFC 6749, section 2.3.1)."""
    assert server.token(service, grant_type="client_credentials").status_code == 200
    assert ask(server, {"client_id": service.id, "client_secret": service.secret}).status_code == 200


def test_wrong_secret_and_unknown_client_look_the_same(server: Server, service: Registered) -> None:
    """Nobody is told which clients there are (RFC 6749, section 5.2)."""
    answers = [
        ask(server, authorization=basic(service.id, "wrong")),
        ask(server, authorization=basic("nobody", "wrong")),
        ask(server, {"client_id": service.id}),
        ask(server, {"client_id": "nobody"}),
        ask(server, {"client_id": service.id, "client_secret": "wrong"}),
        ask(server, {"client_id": "nobody", "client_secret": "wrong"}),
    ]
    for answer in answers:
        check_refused(answer)
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Basic " + base64.b64encode(b"%ff:x").decode(),
        "Basic " + base64.b64encode(b"a%00b:x").decode(),
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + base64.b64encode(b"a" * 5000 + b":x").decode(),
        "Bearer x",
        "Digest x",
        "",
    ],
)
def test_header_that_cannot_be_read(server: Server, header: str) -> None:
    """It is no authentication (RFC 7617, section 2)."""
    check_refused(ask(server, authorization=header))


def test_no_authentication(server: Server) -> None:
    """A request has to say whose it is (RFC 6749, section 3.2.1)."""
    check_refused(ask(server))


def test_more_than_one_way(server: Server, service: Registered) -> None:
    """A request authenticates once (RFC 6749, section 2.3)."""
    header = basic(*service.basic)
    check_refused(ask(server, {"client_secret": service.secret}, authorization=header), "invalid_request")
    assertion = {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION_TYPE}
    check_refused(ask(server, assertion, authorization=header), "invalid_request")
    check_refused(
        ask(server, {**assertion, "client_id": service.id, "client_secret": service.secret}), "invalid_request"
    )


def test_another_client_id_in_the_body(server: Server, service: Registered) -> None:
    """A client cannot authenticate and be another one (RFC 6749, section 10.1)."""
    answer = ask(server, {"client_id": server.service().id}, authorization=basic(*service.basic))
    check_refused(answer, "invalid_request")
    assert ask(server, {"client_id": service.id}, authorization=basic(*service.basic)).status_code == 200


def test_public_clients_cannot_act_for_themselves(server: Server) -> None:
    """Whoever says a public client's name would be it (RFC 6749, section 4.4)."""
    public = server.client(public=True)
    answer = ask(server, {"client_id": public.id})
    check_refused(answer, "unauthorized_client")
    check_refused(ask(server, {"client_id": public.id, "client_secret": "anything"}))


def test_old_secret(server: Server) -> None:
    """A secret that was replaced is void."""
    from authly.audit.models import SYSTEM

    client = server.service()
    secret = server.run(lambda services, _: services.clients.rotate_secret(client.id, SYSTEM))
    assert secret
    check_refused(ask(server, authorization=basic(*client.basic)))
    assert ask(server, authorization=basic(client.id, secret)).status_code == 200


def test_disabled_client(server: Server) -> None:
    """A client that is disabled cannot authenticate."""
    client = server.service()
    server.update(client, enabled=False)
    check_refused(ask(server, authorization=basic(*client.basic)))


def assertion_for(server: Server, client: Registered, algorithm: str = "ES256", **changes: Any) -> str:
    """Return an assertion; a claim that is None is left out."""
    now = int(time.time())
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": server.url,
        "iat": now,
        "exp": now + 60,
        "jti": str(uuid4()),
        **changes,
    }
    content = json.dumps({name: value for name, value in claims.items() if value is not None})
    key = KEYS[algorithm]
    return jws.serialize_compact({"alg": algorithm, "kid": key.kid}, content, key, algorithms=[algorithm])


def present(server: Server, assertion: str, **data: str) -> httpx.Response:
    """Ask for a token with an assertion."""
    return ask(server, {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion, **data})


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("path", ["", "/oauth2/token"])
def test_assertion(server: Server, signer: Registered, algorithm: str, path: str) -> None:
    """Any of its keys authenticates a client, to the issuer or the endpoint (RFC 7523, section 3)."""
    assert present(server, assertion_for(server, signer, algorithm, aud=server.url + path)).status_code == 200
    several = assertion_for(server, signer, algorithm, aud=["https://other.example", server.url + path])
    assert present(server, several, client_id=signer.id).status_code == 200


def test_assertion_is_used_once(server: Server, signer: Registered) -> None:
    """Who has seen an assertion cannot use it again (RFC 7523, section 3, on jti)."""
    assertion = assertion_for(server, signer)
    assert present(server, assertion).status_code == 200
    for _ in range(3):
        check_refused(present(server, assertion))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "nobody"},
        {"iss": None},
        {"sub": "nobody"},
        {"sub": None},
        {"sub": 7},
        {"aud": "https://other.example"},
        {"aud": None},
        {"aud": []},
        {"aud": [7]},
        {"aud": {"a": "b"}},
        {"exp": None},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": int(time.time()) + 86_400},
        {"nbf": int(time.time()) + 3600},
        {"nbf": "later"},
        {"iat": int(time.time()) + 3600},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
    ],
)
def test_wrong_claims(server: Server, signer: Registered, changes: dict[str, Any]) -> None:
    """Each claim has to be there and right (RFC 7523, section 3)."""
    check_refused(present(server, assertion_for(server, signer, **changes)))


def unsigned(claims: bytes, algorithm: str = "none") -> str:
    """Return a token without a signature."""
    parts = [json.dumps({"alg": algorithm}).encode(), claims]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.parametrize(
    "forge",
    [
        lambda good: unsigned(base64.urlsafe_b64decode(good.split(".")[1] + "==")),
        lambda good: unsigned(base64.urlsafe_b64decode(good.split(".")[1] + "=="), "None"),
        lambda good: unsigned(base64.urlsafe_b64decode(good.split(".")[1] + "=="), "ES256"),
        lambda good: good.rpartition(".")[0] + ".",
        lambda good: good[:-4] + "AAAA",
        lambda good: good + ".x",
        lambda good: good.replace(".", "", 1),
        lambda _: "",
        lambda _: "...",
        lambda _: "x" * 9000,
        lambda _: "é.é.é",
        lambda _: "e30.W10.x",
        lambda _: "W10.e30.x",
    ],
)
def test_forged_assertion(server: Server, signer: Registered, forge: Callable[[str], str]) -> None:
    """Without a signature by the client's key there is no client (RFC 8725, sections 3.1 and 3.2)."""
    answer = present(server, forge(assertion_for(server, signer)), client_id=signer.id)
    check_refused(answer)


def test_public_key_as_a_secret(server: Server, signer: Registered) -> None:
    """A public key is no secret to sign with (RFC 8725, section 2.1: algorithm confusion)."""
    good = assertion_for(server, signer, "RS256")
    claims = base64.urlsafe_b64decode(good.split(".")[1] + "==")
    for secret in (KEYS["RS256"].as_pem(private=False), json.dumps(KEYS["RS256"].as_dict(private=False)).encode()):
        # joserfc refuses a PEM as a secret, as it should; a forger would not.
        key = OctKey.import_key(base64.urlsafe_b64encode(secret))
        forged = jws.serialize_compact({"alg": "HS256", "kid": "rsa"}, claims, key, algorithms=["HS256"])
        check_refused(present(server, forged))


def test_key_of_another_client(server: Server, signer: Registered) -> None:
    """Another client's key signs for that client alone (RFC 7521, section 8.1: impersonation)."""
    key = ECKey.generate_key("P-256", {"kid": "ec"})
    server.service(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks={"keys": [key.as_dict(private=False)]})
    now = int(time.time())
    claims = {"iss": signer.id, "sub": signer.id, "aud": server.url, "exp": now + 60, "jti": "x"}
    forged = jws.serialize_compact({"alg": "ES256", "kid": "ec"}, json.dumps(claims), key, algorithms=["ES256"])
    check_refused(present(server, forged))


def test_methods_are_not_interchangeable(server: Server, signer: Registered, service: Registered) -> None:
    """A client with keys has no secret and is not known by its name, and the other way round (RFC 7591, section 2)."""
    check_refused(ask(server, {"client_id": signer.id}))
    check_refused(ask(server, authorization=basic(signer.id, "")))
    check_refused(ask(server, {"client_id": signer.id, "client_secret": "x"}))
    check_refused(present(server, assertion_for(server, service)))


@pytest.mark.parametrize(
    "data",
    [
        {"client_assertion": "a.b.c"},
        {"client_assertion_type": ASSERTION_TYPE},
        {
            "client_assertion": "a.b.c",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        },
    ],
)
def test_half_an_assertion(server: Server, data: dict[str, str]) -> None:
    """An assertion has a type, and it is the one that Authly knows (RFC 7521, section 4.2)."""
    check_refused(ask(server, data))


def test_assertion_of_another_client_id(server: Server, signer: Registered, service: Registered) -> None:
    """A client_id beside an assertion has to be its subject (RFC 7521, section 4.2)."""
    answer = present(server, assertion_for(server, signer), client_id=service.id)
    check_refused(answer, "invalid_request")
