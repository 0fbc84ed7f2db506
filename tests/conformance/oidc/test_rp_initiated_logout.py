"""What the modules of certification's "RP-Initiated Logout OP" plan ask, each under its name; and what they leave out.

Sections are those of OpenID Connect RP-Initiated Logout 1.0.
"""

import base64
import json
from datetime import timedelta
from urllib.parse import urlencode

import jwt
import pytest

from tests.oauth import Answer, Form, Person, Server
from tests.oidc import LoggedIn, RelyingParty
from tests.processes import wait_until

AFTERWARDS = "https://client.example/signed-out"
CONFIRMATION = "/oidc/logout/confirmation"


@pytest.fixture(scope="module")
def party(server: Server) -> RelyingParty:
    """A relying party that has registered where its users go after a logout."""
    client = server.client(
        scopes=("openid", "offline_access"),
        require_pkce=False,
        post_logout_redirect_uris=(AFTERWARDS, "https://client.example/bye?from=authly"),
    )
    return RelyingParty(server, client)


@pytest.fixture
def logged_in(party: RelyingParty, person: Person) -> LoggedIn:
    """What the relying party has of a user who has logged in."""
    return party.log_in(person)


def log_out(party: RelyingParty, person: Person, **parameters: str | None) -> Answer | None:
    """Send a user to log out; return the answer if it leads back to the client."""
    wanted = {name: value for name, value in parameters.items() if value is not None}
    return person.open(f"{party.configuration['end_session_endpoint']}?{urlencode(wanted)}")


def is_logged_in(party: RelyingParty, person: Person) -> bool:
    """Tell whether the user would not have to log in."""
    answer = person.open(party.url(prompt="none"))
    assert answer is not None
    return answer.error != "login_required"


def confirm(person: Person) -> Answer | None:
    """Say yes on the page that asks."""
    assert Form(person.page.text).action == CONFIRMATION, person.page.text
    return person.submit()


def test_oidcc_rp_initiated_logout_discovery_endpoint_verification(party: RelyingParty) -> None:
    """The configuration says where to log out (section 2.1)."""
    assert party.configuration["end_session_endpoint"] == f"{party.server.url}/oidc/logout"


def test_oidcc_rp_initiated_logout(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """With a hint at whoever is logged in, the user is logged out and comes back with the state (section 3)."""
    answer = log_out(
        party, person, id_token_hint=logged_in.id_token, post_logout_redirect_uri=AFTERWARDS, state="a state"
    )
    assert answer == Answer(f"{AFTERWARDS}?state=a+state")
    assert not is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_bad_post_logout_redirect_uri(
    party: RelyingParty, person: Person, logged_in: LoggedIn
) -> None:
    """An address that is not registered is refused on a page, and nothing happens (section 4)."""
    hint = logged_in.id_token
    assert log_out(party, person, id_token_hint=hint, post_logout_redirect_uri="https://client.example/other") is None
    assert person.page.status_code == 400
    assert "post_logout_redirect_uri" in person.page.text
    assert is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_query_added_to_post_logout_redirect_uri(
    party: RelyingParty, person: Person, logged_in: LoggedIn
) -> None:
    """So is one that is registered without the query that it has (section 3)."""
    hint = logged_in.id_token
    assert log_out(party, person, id_token_hint=hint, post_logout_redirect_uri=f"{AFTERWARDS}?extra=1") is None
    assert person.page.status_code == 400
    assert is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_modified_id_token_hint(
    party: RelyingParty, person: Person, logged_in: LoggedIn
) -> None:
    """A hint that says alg none is not believed (section 4)."""
    _, payload, _ = logged_in.id_token.split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    hint = f"{header}.{payload}."
    assert log_out(party, person, id_token_hint=hint, post_logout_redirect_uri=AFTERWARDS) is None
    assert person.page.status_code == 400
    assert is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_bad_id_token_hint(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """Nor is one that is no token, or not an ID token, or has another signature."""
    head, payload, signature = logged_in.id_token.split(".")
    other = signature[:-10] + signature[:10]
    for hint in ("wrong", "a.b.c", f"{head}.{payload}.{other}", logged_in.access_token, "x" * 4000):
        assert log_out(party, person, id_token_hint=hint, post_logout_redirect_uri=AFTERWARDS) is None
        assert person.page.status_code == 400, hint
    assert is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_no_id_token_hint(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """Without a hint the user is asked, and goes nowhere that nobody vouches for (section 3)."""
    assert logged_in.claims["sub"] == person.user_id
    assert log_out(party, person, post_logout_redirect_uri=AFTERWARDS, state="s") is None
    assert is_logged_in(party, person)
    assert log_out(party, person, post_logout_redirect_uri=AFTERWARDS, state="s") is None
    assert confirm(person) is None
    assert "You are signed out" in person.page.text
    assert not is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_no_params(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """Without anything the user is asked, and stays here (section 2)."""
    assert logged_in.claims["sub"] == person.user_id
    assert log_out(party, person) is None
    assert confirm(person) is None
    assert not is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_no_post_logout_redirect_uri(
    party: RelyingParty, person: Person, logged_in: LoggedIn
) -> None:
    """With a hint alone the user is logged out, and stays here."""
    assert log_out(party, person, id_token_hint=logged_in.id_token) is None
    assert "You are signed out" in person.page.text
    assert not is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_no_state(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """Without a state none is made up."""
    answer = log_out(party, person, id_token_hint=logged_in.id_token, post_logout_redirect_uri=AFTERWARDS)
    assert answer == Answer(AFTERWARDS)
    assert not is_logged_in(party, person)


def test_oidcc_rp_initiated_logout_only_state(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """A state alone leads nowhere; the user is asked."""
    assert logged_in.claims["sub"] == person.user_id
    assert log_out(party, person, state="s") is None
    assert confirm(person) is None
    assert "You are signed out" in person.page.text
    assert not is_logged_in(party, person)


def test_client_id_instead_of_a_hint(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """A client that names itself has its users asked, and gets them back: its addresses are known (section 2)."""
    wanted = {"client_id": party.client.id, "post_logout_redirect_uri": "https://client.example/bye?from=authly"}
    assert logged_in.claims["sub"] == person.user_id
    assert log_out(party, person, **wanted, state="s") is None
    assert "Test client" in person.page.text
    assert "form-action 'self' https://client.example;" in person.page.headers["content-security-policy"]
    assert confirm(person) == Answer("https://client.example/bye?from=authly&state=s")
    assert not is_logged_in(party, person)
    # Whoever is logged out already is asked nothing.
    assert log_out(party, person, **wanted) == Answer("https://client.example/bye?from=authly")


def test_the_client_of_the_hint(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """A hint that is another client's is refused, and so is a client that there is not (section 2)."""
    for client_id in ("unknown", "x" * 300):
        assert log_out(party, person, id_token_hint=logged_in.id_token, client_id=client_id) is None
        assert person.page.status_code == 400
        assert log_out(party, person, client_id=client_id) is None
        assert person.page.status_code == 400
    answer = log_out(party, person, id_token_hint=logged_in.id_token, client_id=party.client.id)
    assert answer is None
    assert not is_logged_in(party, person)


def test_hint_at_somebody_else(party: RelyingParty, server: Server, person: Person, logged_in: LoggedIn) -> None:
    """Whoever is logged in instead of whom the client means is asked (section 2)."""
    somebody_else = server.person()
    party.log_in(somebody_else)
    hint = logged_in.id_token
    assert log_out(party, somebody_else, id_token_hint=hint, post_logout_redirect_uri=AFTERWARDS) is None
    assert Form(somebody_else.page.text).action == CONFIRMATION
    assert is_logged_in(party, somebody_else)
    assert is_logged_in(party, person)


def test_old_hints(server: Server, person: Person) -> None:
    """A hint counts whose key is no longer published: sessions last longer than keys (section 2)."""
    client = server.client(
        scopes=("openid",),
        require_pkce=False,
        id_token_signed_response_alg="EdDSA",
        post_logout_redirect_uris=(AFTERWARDS,),
    )
    party = RelyingParty(server, client)
    hint = party.log_in(person).id_token
    kid = jwt.get_unverified_header(hint)["kid"]
    server.run(lambda services, _: services.keys.rotate("EdDSA", signs_after=timedelta(), overlap=timedelta()))
    wait_until(lambda: all(kid not in {key.key_id for key in party.keys().keys} for _ in range(10)))
    answer = log_out(party, person, id_token_hint=hint, post_logout_redirect_uri=AFTERWARDS)
    assert answer == Answer(AFTERWARDS)
    assert not is_logged_in(party, person)


def test_a_form_of_the_client(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """The request may come as a form, which brings no cookies along and is therefore asked for again (section 2)."""
    fields = {"id_token_hint": logged_in.id_token, "post_logout_redirect_uri": AFTERWARDS, "state": "s"}
    answer = party.server.http.post(party.configuration["end_session_endpoint"], data=fields)
    assert answer.status_code == 303
    assert person.open(answer.headers["location"]) == Answer(f"{AFTERWARDS}?state=s")
    assert not is_logged_in(party, person)


def test_what_ends_with_the_session(party: RelyingParty, person: Person) -> None:
    """What was allowed in the session is worth nothing any more, unless it was allowed for offline access."""
    online = party.log_in(person, scope="openid")
    offline = party.log_in(person, scope="openid offline_access")
    log_out(party, person, id_token_hint=online.id_token)

    def refresh(tokens: LoggedIn) -> int:
        return party.token(grant_type="refresh_token", refresh_token=tokens.tokens["refresh_token"]).status_code

    assert refresh(online) == 400
    assert refresh(offline) == 200
    assert party.userinfo(offline.access_token)["sub"] == person.user_id


def test_forged_confirmation(party: RelyingParty, person: Person, logged_in: LoggedIn) -> None:
    """Nobody is logged out by a form of another site."""
    assert logged_in.claims["sub"] == person.user_id
    headers = {"cookie": "; ".join(f"{name}={value}" for name, value in person.cookies.items())}
    answer = party.server.http.post(CONFIRMATION, data={"request": ""}, headers=headers)
    assert answer.status_code == 403
    assert is_logged_in(party, person)
