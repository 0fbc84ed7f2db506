"""What users are shown before a request is answered, and what clients are told where that cannot be."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from authly.oidc.authentication_request import ACR_PASSWORD
from tests.oauth import PASSWORD, Answer, Form, Person, Server
from tests.oidc import SCOPES, LoggedIn, RelyingParty, posted


@pytest.fixture
def logged_in(relying_party: RelyingParty, person: Person) -> LoggedIn:
    """What certification's client has of a user who has logged in."""
    return relying_party.log_in(person)


def opened(person: Person, url: str) -> Answer:
    """Return the answer to a request for which nothing is shown."""
    answer = person.open(url)
    assert answer is not None, person.page.text
    return answer


def shown(person: Person, url: str) -> str:
    """Return the action of the form that a request shows."""
    assert person.open(url) is None
    return Form(person.page.text).action


def test_consent_required(server: Server, relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """With prompt=none a client is told that the user would have to be asked, and for more than before again."""
    assert logged_in.claims["sub"] == person.user_id
    other = RelyingParty(server, server.client(scopes=("openid", "email"), require_pkce=False))
    assert opened(person, other.url(prompt="none")).error == "consent_required"
    assert opened(person, relying_party.url(prompt="none", scope="openid email")).error == "consent_required"
    claims = json.dumps({"userinfo": {"email": None}})
    assert opened(person, relying_party.url(prompt="none", claims=claims)).error == "consent_required"
    assert opened(person, relying_party.url(prompt="none consent")).error == "invalid_request"


def test_claims_are_consented(relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """The user is told what a client wants to know claim by claim, and is asked once."""
    assert logged_in.claims["sub"] == person.user_id
    url = relying_party.url(claims=json.dumps({"id_token": {"phone_number": None}}))
    assert shown(person, url) == "/oauth2/consent"
    assert "See your phone number" in person.page.text
    assert person.submit(decision="allow") is not None
    assert "code" in opened(person, url).parameters


def test_prompt_consent(relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """With prompt=consent the user is asked again, and may say no."""
    assert logged_in.claims["sub"] == person.user_id
    assert shown(person, relying_party.url(prompt="consent")) == "/oauth2/consent"
    answer = person.submit(decision="deny")
    assert answer is not None
    assert answer.error == "access_denied"
    assert "code" in opened(person, relying_party.url()).parameters


def test_prompt_login_and_consent(relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """Both prompts are shown, one after the other, and each once."""
    assert logged_in.claims["sub"] == person.user_id
    assert shown(person, relying_party.url(prompt="login consent", nonce="n", state="s")) == "/login"
    assert person.log_in() is None
    assert Form(person.page.text).action == "/oauth2/consent"
    answer = person.submit(decision="allow")
    assert answer is not None
    relying_party.receive(answer, nonce="n", state="s")


def test_select_account(server: Server, relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """With prompt=select_account the user goes on as who they are, or logs in as somebody else."""
    url = relying_party.url(prompt="select_account", nonce="n", state="s")
    assert shown(person, url) == "/oauth2/account"
    assert person.username in person.page.text
    answer = person.submit(decision="continue")
    assert answer is not None
    assert relying_party.receive(answer, nonce="n", state="s").claims["sub"] == logged_in.claims["sub"]

    other = server.person()
    assert shown(person, url) == "/oauth2/account"
    assert person.submit(decision="other") is None
    assert Form(person.page.text).action == "/login"
    assert person.submit(username=other.username, password=PASSWORD) is None
    assert Form(person.page.text).action == "/oauth2/consent"
    answer = person.submit(decision="allow")
    assert answer is not None
    assert relying_party.receive(answer, nonce="n", state="s").claims["sub"] == other.user_id
    assert opened(person, relying_party.url(prompt="none")).parameters["code"]
    stranger = server.person()
    assert shown(stranger, url) == "/login"
    assert opened(stranger, relying_party.url(prompt="none")).error == "login_required"


def test_select_account_and_consent(relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """Whoever has chosen an account is then asked for consent, if that is due."""
    assert logged_in.claims["sub"] == person.user_id
    url = relying_party.url(prompt="select_account", scope="openid phone", nonce="n", state="s")
    assert shown(person, url) == "/oauth2/account"
    assert person.submit(decision="continue") is None
    assert Form(person.page.text).action == "/oauth2/consent"
    answer = person.submit(decision="allow")
    assert answer is not None
    relying_party.receive(answer, nonce="n", state="s")


@pytest.mark.parametrize("in_claims", [False, True], ids=["id_token_hint", "claims"])
def test_another_user_than_meant(
    server: Server, relying_party: RelyingParty, logged_in: LoggedIn, in_claims: bool
) -> None:
    """Whoever is not whom the client means has to log in, and then is still not who is meant (section 3.1.2.1)."""
    subject = logged_in.claims["sub"]
    claims = json.dumps({"id_token": {"sub": {"value": subject}}})
    wanted: dict[str, Any] = {"claims": claims} if in_claims else {"id_token_hint": logged_in.id_token}
    somebody_else = server.person()
    relying_party.log_in(somebody_else)
    assert opened(somebody_else, relying_party.url(prompt="none", **wanted)).error == "login_required"
    assert shown(somebody_else, relying_party.url(**wanted)) == "/login"
    answer = somebody_else.log_in()
    assert answer is not None
    assert answer.error == "login_required"
    assert "code" not in answer.parameters


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"prompt": "maybe"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"max_age": "9" * 30}, "invalid_request"),
        ({"id_token_hint": "a.b.c"}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": '{"userinfo": []}'}, "invalid_request"),
        ({"claims": '{"userinfo": {"name": true}}'}, "invalid_request"),
        ({"claims": '{"userinfo": {"name": {"values": "Ada"}}}'}, "invalid_request"),
        ({"claims": "[" * 2000}, "invalid_request"),
        ({"claims": json.dumps({"userinfo": {f"n{number}": None for number in range(60)}})}, "invalid_request"),
        (
            {"claims": '{"userinfo": {"sub": {"value": "a"}}, "id_token": {"sub": {"value": "b"}}}'},
            "invalid_request",
        ),
        (
            {"claims": '{"id_token": {"acr": {"essential": true, "values": ["urn:example:gold"]}}}'},
            "unmet_authentication_requirements",
        ),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"nonce": "x" * 600}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
    ],
)
def test_refused(relying_party: RelyingParty, logged_in: LoggedIn, person: Person, parameters: Any, error: str) -> None:
    """What is malformed, or beyond Authly, is refused before anybody is shown anything."""
    assert logged_in.claims["sub"] == person.user_id
    answer = opened(person, relying_party.url(**parameters, state="kept"))
    assert (answer.error, answer.parameters["state"]) == (error, "kept")


def test_essential_acr_that_is_met(relying_party: RelyingParty, person: Person) -> None:
    """An acr that the client insists on is no problem if it is one of several, or none in particular."""
    for wanted in ({"essential": True, "values": ["urn:example:gold", ACR_PASSWORD]}, {"essential": True}):
        claims = json.dumps({"id_token": {"acr": wanted}})
        assert relying_party.log_in(person, claims=claims).claims["acr"] == ACR_PASSWORD


def test_hint_of_another_client(
    relying_party: RelyingParty, second_party: RelyingParty, logged_in: LoggedIn, person: Person
) -> None:
    """An ID token is a hint for the client that it was issued to alone."""
    assert second_party.log_in(person).claims["sub"] == logged_in.claims["sub"]
    assert opened(person, second_party.url(id_token_hint=logged_in.id_token)).error == "invalid_request"


def test_markers_are_bound_to_requests(relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """Nobody gets round a login with what another login left in an address, or with one made up."""
    assert logged_in.claims["sub"] == person.user_id
    assert shown(person, relying_party.url(prompt="login", state="one")) == "/login"
    target = Form(person.page.text).fields["return_to"]
    marker = dict(parse_qsl(urlsplit(target).query))["authly_login"]
    assert person.log_in() is not None
    assert "code" in opened(person, target).parameters
    other = relying_party.url(prompt="login", state="two")
    _, _, mac = marker.partition(".")
    for wrong in (marker, f"0.{mac}", "0.0", f"{'9' * 30}.{mac}"):
        assert shown(person, f"{other}&{urlencode({'authly_login': wrong})}") == "/login"


def test_max_age_zero(relying_party: RelyingParty, logged_in: LoggedIn, person: Person) -> None:
    """A login that may be no older than nothing is one login, and no loop."""
    assert logged_in.claims["sub"] == person.user_id
    assert opened(person, relying_party.url(max_age="0", prompt="none")).error == "login_required"
    assert shown(person, relying_party.url(max_age="0", nonce="n", state="s")) == "/login"
    answer = person.log_in()
    assert answer is not None
    relying_party.receive(answer, nonce="n", state="s")


def test_form_post(relying_party: RelyingParty, person: Person) -> None:
    """An answer that travels as a form is a page that can lead to the client alone, with errors as well."""
    url = relying_party.url(response_mode="form_post", nonce="n", state='"quoted" & <escaped>')
    assert person.open(url) is None
    assert person.log_in() is None
    assert person.submit(decision="allow") is None
    assert person.page.headers["cache-control"] == "no-store"
    assert "form-action 'self' https://client.example;" in person.page.headers["content-security-policy"]
    assert "script-src 'self';" in person.page.headers["content-security-policy"]
    answer = posted(person)
    relying_party.receive(answer, nonce="n", state='"quoted" & <escaped>')
    assert person.open(relying_party.url(response_mode="form_post", prompt="wrong", state="s")) is None
    assert posted(person).error == "invalid_request"
    assert posted(person).parameters["state"] == "s"


def test_oauth_without_openid(server: Server, person: Person) -> None:
    """A client that does not ask for openid gets no ID token, and userinfo tells it nothing."""
    client = server.client(scopes=SCOPES, require_pkce=False)
    party = RelyingParty(server, client)
    answer = person.authorize(party.url(scope="email", claims='{"id_token": {"email": null}}'))
    tokens = party.redeem(answer.code).json()
    assert "id_token" not in tokens
    response = server.http.get("/oidc/userinfo", headers={"authorization": f"Bearer {tokens['access_token']}"})
    assert (response.status_code, response.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
