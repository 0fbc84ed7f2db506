"""Userinfo for those who may not ask, subjects that only one sector knows, and who may do without PKCE."""

from typing import Any

import pytest

from authly.audit.models import AuditFilter, Party
from authly.oauth.models import GrantType, SubjectType
from tests.oauth import Person, Server
from tests.oidc import RelyingParty


@pytest.mark.parametrize(
    ("headers", "data", "status", "error"),
    [
        ({}, None, 401, "invalid_token"),
        ({"authorization": "Bearer nonsense"}, None, 401, "invalid_token"),
        ({"authorization": "Bearer a.b.c"}, None, 401, "invalid_token"),
        ({"authorization": "Basic YTpi"}, None, 401, "invalid_token"),
        ({}, {"access_token": ""}, 401, "invalid_token"),
        ({"authorization": "Bearer a.b.c"}, {"access_token": "a.b.c"}, 400, "invalid_request"),
        ({"content-type": "application/json"}, None, 415, "invalid_request"),
    ],
)
def test_refused(server: Server, headers: dict[str, str], data: Any, status: int, error: str) -> None:
    """Whoever has no token, two, or one that is none, is told so (RFC 6750, section 3)."""
    answer = server.http.post("/oidc/userinfo", headers=headers, data=data)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_token_in_the_url(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """A token in the URL counts for nothing: URLs end up in logs (RFC 9700, section 4.3.2)."""
    token = relying_party.log_in(person).access_token
    assert server.http.get("/oidc/userinfo", params={"access_token": token}).status_code == 401


def test_other_tokens(server: Server, person: Person) -> None:
    """A client's own token, an ID token and a token for a resource open nothing."""
    resource = "https://api.example/"
    client = server.client(scopes=("openid",), require_pkce=False, resources=(resource,))
    party = RelyingParty(server, client)
    service = server.service()
    own = server.token(service, grant_type=GrantType.CLIENT_CREDENTIALS.value).json()["access_token"]
    logged_in = party.log_in(person)
    elsewhere = party.log_in(person, resource=resource)
    for token in (own, logged_in.id_token, elsewhere.access_token):
        answer = server.http.get("/oidc/userinfo", headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")


def test_disabled_user(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """Nothing is said of a user who is disabled."""
    token = relying_party.log_in(person).access_token
    server.sql("UPDATE users SET disabled_at = now() WHERE user_id = %s", person.user_id)
    answer = server.http.get("/oidc/userinfo", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_pairwise_subjects(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """Clients of one sector know a user by the same subject, others by another one (OpenID Connect Core 1.0, 8.1)."""

    def party(**settings: Any) -> RelyingParty:
        client = server.client(
            scopes=("openid", "offline_access"), require_pkce=False, subject_type=SubjectType.PAIRWISE, **settings
        )
        return RelyingParty(server, client)

    one, two = party(), party(redirect_uris=("https://client.example/two",))
    elsewhere = party(redirect_uris=("https://elsewhere.example/callback",))
    joined = party(redirect_uris=("https://elsewhere.example/callback",), sector_identifier="client.example")
    logged_in = one.log_in(person, scope="openid offline_access")
    subject = logged_in.claims["sub"]
    assert subject != person.user_id
    assert [other.log_in(person).claims["sub"] == subject for other in (two, elsewhere, joined)] == [True, False, True]
    assert relying_party.log_in(person).claims["sub"] == person.user_id
    # Everything that the client is given names the user in the same way.
    assert one.userinfo(logged_in.access_token)["sub"] == subject
    assert server.introspect(one.client, logged_in.access_token)["sub"] == subject
    assert server.introspect(one.client, logged_in.tokens["refresh_token"])["sub"] == subject
    refreshed = one.token(grant_type="refresh_token", refresh_token=logged_in.tokens["refresh_token"]).json()
    assert one.check(refreshed["id_token"], nonce=None, access_token=None)["sub"] == subject
    # And so does what the client says of the user.
    answer = person.open(one.url(prompt="none", id_token_hint=logged_in.id_token))
    assert answer is not None
    assert "code" in answer.parameters


def test_refresh_keeps_the_subject(server: Server, person: Person) -> None:
    """A client that becomes pairwise goes on to know those whom it knows (section 12.2)."""
    client = server.client(scopes=("openid", "offline_access"), require_pkce=False)
    party = RelyingParty(server, client)
    first = party.log_in(person)
    server.update(client, subject_type=SubjectType.PAIRWISE)
    refreshed = party.token(grant_type="refresh_token", refresh_token=first.tokens["refresh_token"]).json()
    assert party.check(refreshed["id_token"], nonce=None, access_token=None)["sub"] == first.claims["sub"]
    assert party.log_in(person).claims["sub"] != first.claims["sub"]


def test_exemption_from_pkce(server: Server, person: Person) -> None:
    """An administrator exempts a client, and the audit log says who; a public client cannot be exempt."""
    client = server.client(scopes=("openid",))
    party = RelyingParty(server, client)
    assert person.authorize(party.url()).error == "invalid_request"
    server.update(client, require_pkce=False)
    party.log_in(person)
    server.update(client, require_pkce=True, name="Renamed")
    answer = person.open(party.url(prompt="none"))
    assert answer is not None
    assert answer.error == "invalid_request"

    entries = server.run(lambda _, identity: identity.audit.list(AuditFilter(subject=Party.client(client.id))))
    events = [entry.event for entry in reversed(entries) if "pkce" in entry.event]
    assert events == ["client_pkce_exempted", "client_pkce_required"]
    with pytest.raises(ValueError, match="public clients cannot be exempt from PKCE"):
        server.client(public=True, scopes=("openid",), require_pkce=False)


def test_exempt_clients_are_held_to_the_rest(server: Server, relying_party: RelyingParty, person: Person) -> None:
    """Without PKCE the redirect URI is needed again; a verifier out of nowhere is refused (RFC 9700, section 4.8.2)."""
    code = person.authorize(relying_party.url()).code
    other = "https://client.example/other"
    for wrong in ({"redirect_uri": None}, {"redirect_uri": other}, {"code_verifier": "x" * 43}):
        answer = relying_party.redeem(code, **wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), wrong
    assert relying_party.redeem(code).status_code == 200
    refused = person.open(relying_party.url(code_challenge_method="S256"))
    assert refused is not None
    assert refused.error == "invalid_request"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {
                "subject_type": SubjectType.PAIRWISE,
                "redirect_uris": ("https://one.example/", "https://two.example/"),
            },
            "choose a sector_identifier",
        ),
        ({"sector_identifier": "https://one.example/"}, "host name in lower case"),
        ({"userinfo_signed_response_alg": "HS256"}, "RS256, ES256, EdDSA"),
        ({"post_logout_redirect_uris": ("http://client.example/",)}, "neither https"),
        ({"backchannel_logout_uri": "http://client.example/logout"}, "neither https"),
        ({"backchannel_logout_uri": "https://client.example/#logout"}, "fragment"),
    ],
)
def test_registration(server: Server, settings: dict[str, Any], problem: str) -> None:
    """What contradicts itself, or is not safe, cannot be registered."""
    with pytest.raises(ValueError, match=problem):
        server.client(scopes=("openid",), **settings)
