"""What the modules of the OpenID Foundation's "Basic OP" certification plan ask of a provider, each under its name.

Sections are those of OpenID Connect Core 1.0.
"""

import json
import secrets
import time
from typing import Any

import jwt
import pytest

from authly.oidc.claims import SCOPES as CLAIMS_OF_SCOPES
from tests.oauth import Form, Person, Pkce, Server
from tests.oidc import EVERYTHING, RelyingParty, with_pkce


def test_oidcc_server(relying_party: RelyingParty, person: Person) -> None:
    """A code leads to an access token and an ID token about the user who logged in (section 3.1)."""
    logged_in = relying_party.log_in(person)
    assert logged_in.claims["sub"] == person.user_id
    assert logged_in.tokens["expires_in"] > 0


def test_oidcc_server_client_secret_post(second_party: RelyingParty, person: Person) -> None:
    """The same for a client that sends its secret in the body (section 9)."""
    assert second_party.log_in(person).claims["aud"] == second_party.client.id


def test_oidcc_response_type_missing(relying_party: RelyingParty, person: Person) -> None:
    """A request without response_type is told so, and gets no code (section 3.1.2.6)."""
    answer = person.authorize(relying_party.url(response_type=None, state="kept"))
    assert answer.error == "invalid_request"
    assert answer.parameters["state"] == "kept"


def test_oidcc_idtoken_signature(relying_party: RelyingParty, person: Person) -> None:
    """The ID token is signed with RS256, by a key of the JWK Set that its header names (section 3.1.3.7)."""
    logged_in = relying_party.log_in(person)
    header = jwt.get_unverified_header(logged_in.id_token)
    assert header["alg"] == "RS256"
    key = relying_party.keys()[header["kid"]]
    assert (key.key_type, key.public_key_use) == ("RSA", "sig")
    broken = logged_in.id_token[:-6] + ("AAAAAA" if logged_in.id_token[-6:] != "AAAAAA" else "BBBBBB")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(broken, key, algorithms=["RS256"], audience=relying_party.client.id)


def test_oidcc_idtoken_unsigned(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """No client gets unsigned ID tokens: alg none is not advertised, not registered, and not issued (section 2)."""
    assert "none" not in relying_party.configuration["id_token_signing_alg_values_supported"]
    with pytest.raises(ValueError, match="RS256, ES256, EdDSA"):
        server.client(scopes=("openid",), id_token_signed_response_alg="none")
    assert jwt.get_unverified_header(relying_party.log_in(person).id_token)["alg"] != "none"


def test_oidcc_userinfo_get(relying_party: RelyingParty, person: Person) -> None:
    """Userinfo answers GET with the token in the header, about the same user as the ID token (section 5.3)."""
    logged_in = relying_party.log_in(person)
    assert relying_party.userinfo(logged_in.access_token) == {"sub": logged_in.claims["sub"]}


def test_oidcc_userinfo_post_header(relying_party: RelyingParty, person: Person) -> None:
    """Userinfo answers POST with the token in the header (section 5.3.1)."""
    logged_in = relying_party.log_in(person)
    assert relying_party.userinfo(logged_in.access_token, "POST")["sub"] == person.user_id


def test_oidcc_userinfo_post_body(relying_party: RelyingParty, person: Person) -> None:
    """Userinfo answers POST with the token in the body (RFC 6750, section 2.2)."""
    logged_in = relying_party.log_in(person)
    answer = relying_party.server.http.post("/oidc/userinfo", data={"access_token": logged_in.access_token})
    assert answer.status_code == 200
    assert answer.json()["sub"] == person.user_id


def test_oidcc_ensure_request_without_nonce_succeeds_for_code_flow(relying_party: RelyingParty, person: Person) -> None:
    """With the code flow a client may do without a nonce (section 3.1.2.1), and then the ID token has none."""
    assert "nonce" not in relying_party.log_in(person, nonce=None).claims


def check_scope(relying_party: RelyingParty, person: Person, scope: str) -> None:
    """Check that a scope is a wish for its claims, which userinfo fulfils, and for no others (section 5.4)."""
    logged_in = relying_party.log_in(person, scope=f"openid {scope}")
    assert logged_in.tokens["scope"].split() == ["openid", scope]
    said = relying_party.userinfo(logged_in.access_token)
    assert said.keys() == {"sub", *CLAIMS_OF_SCOPES[scope]}
    check_types(said)
    # They are userinfo's to tell, since there is an access token.
    assert not logged_in.claims.keys() & set(CLAIMS_OF_SCOPES[scope])


def test_oidcc_scope_profile(relying_party: RelyingParty, person: Person) -> None:
    """The scope profile tells the claims of a profile (section 5.4)."""
    check_scope(relying_party, person, "profile")


def test_oidcc_scope_email(relying_party: RelyingParty, person: Person) -> None:
    """The scope email tells the address, and whether it was verified."""
    check_scope(relying_party, person, "email")


def test_oidcc_scope_address(relying_party: RelyingParty, person: Person) -> None:
    """The scope address tells the postal address, in its parts (section 5.1.1)."""
    check_scope(relying_party, person, "address")


def test_oidcc_scope_phone(relying_party: RelyingParty, person: Person) -> None:
    """The scope phone tells the number, and whether it was verified."""
    check_scope(relying_party, person, "phone")


def test_oidcc_scope_all(relying_party: RelyingParty, person: Person) -> None:
    """All scopes at once tell all claims."""
    logged_in = relying_party.log_in(person, scope="openid profile email address phone")
    said = relying_party.userinfo(logged_in.access_token)
    assert said.keys() == {"sub", *(name for names in CLAIMS_OF_SCOPES.values() for name in names)}
    known: dict[str, Any] = EVERYTHING["claims"]
    assert {name: said[name] for name in known} == known
    assert said["preferred_username"] == person.username


def check_types(claims: dict[str, Any]) -> None:
    """Check that each claim has the type that section 5.1 gives it."""
    types: dict[str, type] = {
        "email_verified": bool,
        "phone_number_verified": bool,
        "updated_at": int,
        "address": dict,
    }
    for name, value in claims.items():
        assert type(value) is types.get(name, str), name


def test_oidcc_alternate_happy_flow(relying_party: RelyingParty, person: Person) -> None:
    """Values in which there is something to escape come back as they were sent."""
    state, nonce = "a state & a half = ½ %20+", 'a "nonce" of <ünusual> characters'
    logged_in = relying_party.log_in(person, state=state, nonce=nonce)
    assert logged_in.claims["nonce"] == nonce


def check_display(relying_party: RelyingParty, person: Person, display: str) -> None:
    """Check that the user is shown the same pages, which fit into a window of any size (section 3.1.2.1)."""
    url = relying_party.url(display=display, nonce="n", state="s")
    assert person.open(url) is None
    assert Form(person.page.text).action == "/login"
    assert "width=device-width" in person.page.text
    relying_party.receive(person.authorize(url), nonce="n", state="s")


def test_oidcc_display_page(relying_party: RelyingParty, person: Person) -> None:
    """The pages may be shown in a whole window."""
    check_display(relying_party, person, "page")


def test_oidcc_display_popup(relying_party: RelyingParty, person: Person) -> None:
    """The pages may be shown in a small window."""
    check_display(relying_party, person, "popup")


def test_oidcc_prompt_login(relying_party: RelyingParty, person: Person) -> None:
    """Whoever is logged in has to log in again, and auth_time says so (section 3.1.2.1)."""
    first = relying_party.log_in(person)
    second_has_passed(first.claims["auth_time"])
    url = relying_party.url(prompt="login", nonce="n", state="s")
    assert person.open(url) is None
    assert Form(person.page.text).action == "/login"
    answer = person.log_in()
    assert answer is not None
    second = relying_party.receive(answer, nonce="n", state="s")
    assert second.claims["auth_time"] > first.claims["auth_time"]
    assert second.claims["sub"] == first.claims["sub"]


def second_has_passed(since: int) -> None:
    """Wait until the time of day is another in whole seconds."""
    while int(time.time()) <= since:
        time.sleep(0.05)


def test_oidcc_prompt_none_not_logged_in(relying_party: RelyingParty, person: Person) -> None:
    """Where nobody is logged in and nothing may be shown, the client is told login_required (section 3.1.2.6)."""
    answer = person.open(relying_party.url(prompt="none", state="kept"))
    assert answer is not None
    assert answer.parameters.keys() == {"error", "error_description", "state", "iss"}
    assert (answer.error, answer.parameters["state"]) == ("login_required", "kept")


def test_oidcc_prompt_none_logged_in(relying_party: RelyingParty, person: Person) -> None:
    """Whoever is logged in and has allowed it is shown nothing; the ID token says the same as before."""
    first = relying_party.log_in(person)
    answer = person.open(relying_party.url(prompt="none", nonce="n", state="s"))
    assert answer is not None
    second = relying_party.receive(answer, nonce="n", state="s")
    for name in ("sub", "auth_time", "sid", "acr", "amr"):
        assert second.claims[name] == first.claims[name]


def test_oidcc_max_age_1(relying_party: RelyingParty, person: Person) -> None:
    """Whoever logged in longer ago has to log in again (section 3.1.2.1)."""
    first = relying_party.log_in(person)
    second_has_passed(first.claims["auth_time"] + 1)
    url = relying_party.url(max_age="1", nonce="n", state="s")
    assert person.open(url) is None
    assert Form(person.page.text).action == "/login"
    answer = person.log_in()
    assert answer is not None
    second = relying_party.receive(answer, nonce="n", state="s")
    assert second.claims["auth_time"] > first.claims["auth_time"]


def test_oidcc_max_age_10000(relying_party: RelyingParty, person: Person) -> None:
    """Whoever logged in lately need not do so again, and auth_time is there."""
    first = relying_party.log_in(person, max_age="15000")
    answer = person.open(relying_party.url(max_age="10000", nonce="n", state="s"))
    assert answer is not None
    assert relying_party.receive(answer, nonce="n", state="s").claims["auth_time"] == first.claims["auth_time"]


def test_oidcc_ensure_request_with_unknown_parameter_succeeds(relying_party: RelyingParty, person: Person) -> None:
    """A parameter that nobody defined is ignored (section 3.1.2.1)."""
    relying_party.log_in(person, extra="foobar")


def test_oidcc_id_token_hint(relying_party: RelyingParty, person: Person) -> None:
    """A hint at whoever is logged in changes nothing, be it with prompt=none (section 3.1.2.1)."""
    first = relying_party.log_in(person)
    url = relying_party.url(prompt="none", id_token_hint=first.id_token, nonce="n", state="s")
    answer = person.open(url)
    assert answer is not None
    assert relying_party.receive(answer, nonce="n", state="s").claims["sub"] == first.claims["sub"]


def test_oidcc_login_hint(relying_party: RelyingParty, person: Person) -> None:
    """The login page has filled in the name that the client expects (section 3.1.2.1)."""
    url = relying_party.url(login_hint=person.username, nonce="n", state="s")
    assert person.open(url) is None
    assert Form(person.page.text).fields["username"] == person.username
    relying_party.receive(person.authorize(url), nonce="n", state="s")


def test_oidcc_ui_locales(relying_party: RelyingParty, person: Person) -> None:
    """A wish for languages that there are none of is no error (section 3.1.2.1)."""
    relying_party.log_in(person, ui_locales="se tlh")


def test_oidcc_claims_locales(relying_party: RelyingParty, person: Person) -> None:
    """Nor is one for claims in a language (section 5.2)."""
    relying_party.log_in(person, claims_locales="se tlh")


def test_oidcc_ensure_request_with_acr_values_succeeds(relying_party: RelyingParty, person: Person) -> None:
    """A wish for a kind of authentication is no demand: the ID token says which one it was (section 3.1.2.1)."""
    acr = relying_party.configuration["acr_values_supported"][0]
    assert relying_party.log_in(person, acr_values=f"urn:example:gold {acr}").claims["acr"] == acr
    assert relying_party.log_in(person, acr_values="urn:example:gold").claims["acr"] == acr


def test_oidcc_codereuse(relying_party: RelyingParty, person: Person) -> None:
    """A code that is presented again is refused, and what it was redeemed for revoked (RFC 6749, section 4.1.2)."""
    logged_in = relying_party.log_in(person)
    assert relying_party.userinfo(logged_in.access_token)
    again = relying_party.redeem(logged_in.answer.code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    gone = userinfo_status(relying_party, logged_in.access_token)
    assert gone == 401


def userinfo_status(relying_party: RelyingParty, access_token: str) -> int:
    """Return whether userinfo takes a token."""
    headers = {"authorization": f"Bearer {access_token}"}
    return relying_party.server.http.get("/oidc/userinfo", headers=headers).status_code


def test_oidcc_codereuse_30seconds(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """So is one that is presented again after half a minute, or after it would have expired."""
    logged_in = relying_party.log_in(person)
    server.sql(
        """
        UPDATE authorization_codes SET created_at = created_at - interval '2 minutes',
               redeemed_at = redeemed_at - interval '2 minutes', expires_at = expires_at - interval '2 minutes'
        WHERE family_id IN (SELECT family_id FROM token_families WHERE user_id = %s)
        """,
        person.user_id,
    )
    again = relying_party.redeem(logged_in.answer.code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert userinfo_status(relying_party, logged_in.access_token) == 401


def test_oidcc_ensure_registered_redirect_uri(relying_party: RelyingParty, person: Person) -> None:
    """Nobody is redirected to an address that is not registered; the user is told (section 3.1.2.1)."""
    assert person.open(relying_party.url(redirect_uri="https://client.example/other")) is None
    assert person.page.status_code == 400
    assert "redirect_uri" in person.page.text


def test_oidcc_ensure_post_request_succeeds(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """A request may come as a form (section 3.1.2.1)."""
    fields = {
        "response_type": "code",
        "client_id": relying_party.client.id,
        "redirect_uri": relying_party.client.client.settings.redirect_uris[0],
        "scope": "openid",
        "state": "s",
        "nonce": "n",
    }
    answer = server.http.post("/oauth2/authorize", data=fields)
    assert answer.status_code == 303
    relying_party.receive(person.authorize(answer.headers["location"]), nonce="n", state="s")


@pytest.mark.parametrize("prompted", [None, "none"])
def test_oidcc_request_uri_unsigned_supported_correctly_or_rejected_as_unsupported(
    relying_party: RelyingParty, person: Person, prompted: str | None
) -> None:
    """Authly fetches no request objects, and says so (section 3.1.2.6)."""
    assert relying_party.configuration["request_uri_parameter_supported"] is False
    url = relying_party.url(request_uri="https://client.example/request.jwt", state="kept", prompt=prompted)
    answer = person.open(url)
    assert answer is not None
    assert (answer.error, answer.parameters["state"]) == ("request_uri_not_supported", "kept")


def unsigned(claims: dict[str, Any]) -> str:
    """Return a request object that nobody signed."""
    return jwt.encode(claims, "", algorithm="none")


def test_oidcc_unsigned_request_object_supported_correctly_or_rejected_as_unsupported(
    relying_party: RelyingParty, person: Person
) -> None:
    """Authly reads no request objects, and says so (section 3.1.2.6)."""
    assert relying_party.configuration["request_parameter_supported"] is False
    answer = person.open(relying_party.url(request=unsigned({"state": "inside"}), state="outside"))
    assert answer is not None
    assert (answer.error, answer.parameters["state"]) == ("request_not_supported", "outside")


def test_oidcc_ensure_request_object_with_redirect_uri(relying_party: RelyingParty, person: Person) -> None:
    """What a request object says of the redirect URI counts for nothing, since it is not read (section 6.1)."""
    inside = unsigned({"redirect_uri": "https://attacker.example/", "client_id": relying_party.client.id})
    answer = person.open(relying_party.url(request=inside))
    assert answer is not None
    assert answer.location.startswith(relying_party.client.client.settings.redirect_uris[0])
    assert answer.error == "request_not_supported"


def test_oidcc_claims_essential(relying_party: RelyingParty, person: Person) -> None:
    """A claim that is asked for by itself is told where it is wanted, without its scope (section 5.5)."""
    claims = json.dumps({"userinfo": {"name": {"essential": True}}})
    logged_in = relying_party.log_in(person, claims=claims)
    assert relying_party.userinfo(logged_in.access_token) == {"sub": person.user_id, "name": "Ada Lovelace"}
    assert "name" not in logged_in.claims


def test_oidcc_refresh_token(relying_party: RelyingParty, second_party: RelyingParty, person: Person) -> None:
    """A refresh yields an ID token of the same user and the same login, and the token is no other client's (12.2)."""
    first = relying_party.log_in(person, scope="openid offline_access", prompt="consent")
    stolen = second_party.token(grant_type="refresh_token", refresh_token=first.tokens["refresh_token"])
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    second_has_passed(first.claims["iat"])
    response = relying_party.token(grant_type="refresh_token", refresh_token=first.tokens["refresh_token"])
    assert response.status_code == 200
    tokens = response.json()
    claims = relying_party.check(tokens["id_token"], nonce=None, access_token=tokens["access_token"])
    assert claims["iat"] > first.claims["iat"]
    for name in ("iss", "sub", "aud", "auth_time", "azp", "sid", "acr", "amr"):
        assert claims[name] == first.claims[name]
    assert relying_party.userinfo(tokens["access_token"])["sub"] == first.claims["sub"]


def test_oidcc_ensure_request_with_valid_pkce_succeeds(relying_party: RelyingParty, person: Person) -> None:
    """A client that is exempt from PKCE may use it, and is then held to it (RFC 7636, section 4.6)."""
    pkce = Pkce()
    nonce = secrets.token_urlsafe(16)
    answer = person.authorize(relying_party.url(**with_pkce(pkce), nonce=nonce))
    assert relying_party.redeem(answer.code).json()["error"] == "invalid_request"
    assert relying_party.redeem(answer.code, code_verifier=Pkce().verifier).json()["error"] == "invalid_grant"
    tokens = relying_party.redeem(answer.code, code_verifier=pkce.verifier).json()
    relying_party.check(tokens["id_token"], nonce=nonce, access_token=tokens["access_token"])
