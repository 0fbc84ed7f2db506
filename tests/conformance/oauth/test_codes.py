"""Authorization codes that are refused."""

from typing import Any

import pytest

from tests.oauth import CALLBACK, Pkce, Registered, Server


@pytest.fixture(scope="module")
def client(server: Server) -> Registered:
    """A client that the user has allowed what it asks for."""
    return server.client(resources=("https://api.example/", "https://other.example/"))


def test_code_replay(server: Server, client: Registered) -> None:
    """A code is redeemed once; the second attempt ends what the first one led to (RFC 6749, section 4.1.2)."""
    pkce, person = Pkce(), server.person()
    code = server.code(client, pkce, person)
    tokens = server.redeem(client, code, pkce).json()
    assert server.introspect(client, tokens["access_token"])["active"]
    for _ in range(2):
        replay = server.redeem(client, code, pkce)
        assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert server.introspect(client, tokens["access_token"]) == {"active": False}
    assert server.introspect(client, tokens["refresh_token"]) == {"active": False}
    assert server.refresh(client, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    recorded = server.sql("SELECT detail ->> 'user_id' FROM audit_log WHERE event = 'code_reused'")
    assert recorded.count((person.user_id,)) == 1


def test_code_replay_after_refreshing(server: Server, client: Registered) -> None:
    """What refresh tokens led to since is revoked too (RFC 9700, section 4.14.2)."""
    pkce = Pkce()
    code = server.code(client, pkce)
    tokens = server.redeem(client, code, pkce).json()
    later = server.refresh(client, tokens["refresh_token"]).json()
    server.redeem(client, code, pkce)
    assert server.introspect(client, later["access_token"]) == {"active": False}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        # RFC 7636, section 4.6
        ({"code_verifier": Pkce().verifier}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code_verifier": "ü" * 50}, "invalid_request"),
        ({"code_verifier": "v" * 129}, "invalid_request"),
        # RFC 6749, section 4.1.3
        ({"redirect_uri": f"{CALLBACK}/"}, "invalid_grant"),
        ({"redirect_uri": "https://evil.example/"}, "invalid_grant"),
        ({"code": "x" * 43}, "invalid_grant"),
        ({"code": "x"}, "invalid_grant"),
        ({"code": "x" * 10_000}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        # RFC 8707, section 2.2
        ({"resource": "https://third.example/"}, "invalid_target"),
    ],
)
def test_mismatch(server: Server, client: Registered, changes: dict[str, Any], error: str) -> None:
    """A code is worth nothing without all that belongs to it; it is not used up by a wrong attempt."""
    pkce = Pkce()
    code = server.code(client, pkce)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": pkce.verifier, **changes}
    answer = server.token(client, **{name: value for name, value in form.items() if value is not None})
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["cache-control"] == "no-store"
    assert server.redeem(client, code, pkce, redirect_uri=CALLBACK).status_code == 200


def test_verifier_is_the_challenge(server: Server, client: Registered) -> None:
    """Who has read the authorization request knows the challenge, which is not enough (RFC 7636, section 7.2)."""
    pkce = Pkce()
    code = server.code(client, pkce)
    assert server.redeem(client, code, Pkce(pkce.challenge)).json()["error"] == "invalid_grant"


def test_code_of_another_client(server: Server, client: Registered) -> None:
    """A code is worth nothing to another client, and stays good for its own (RFC 6749, sections 4.1.3 and 10.5)."""
    pkce = Pkce()
    code = server.code(client, pkce)
    for other in (server.client(), server.client(public=True)):
        assert server.redeem(other, code, pkce).json()["error"] == "invalid_grant"
    assert server.redeem(client, code, pkce).status_code == 200


def test_expired_code(server: Server, client: Registered) -> None:
    """A code lives for a minute (RFC 6749, section 4.1.2)."""
    pkce, person = Pkce(), server.person()
    code = server.code(client, pkce, person)
    server.sql(
        "UPDATE authorization_codes SET expires_at = now() FROM token_families "
        "WHERE token_families.family_id = authorization_codes.family_id AND user_id = %s",
        person.user_id,
    )
    assert server.redeem(client, code, pkce).json()["error"] == "invalid_grant"


def test_code_of_a_user_who_was_disabled(server: Server, client: Registered) -> None:
    """Between the code and its redemption an administrator may say no."""
    pkce, person = Pkce(), server.person()
    code = server.code(client, pkce, person)
    server.sql("UPDATE users SET disabled_at = now() WHERE user_id = %s", person.user_id)
    assert server.redeem(client, code, pkce).json()["error"] == "invalid_grant"


def test_code_after_the_consent_was_taken_back(server: Server, client: Registered) -> None:
    """A code that nobody has redeemed yet ends with the consent it comes from."""
    pkce, person = Pkce(), server.person()
    code = server.code(client, pkce, person)
    person.open("/account/applications")
    person.submit()
    assert server.redeem(client, code, pkce).json()["error"] == "invalid_grant"


def test_one_resource_out_of_two(server: Server, client: Registered) -> None:
    """A token may be for fewer resources than were allowed (RFC 8707, section 2.2)."""
    pkce = Pkce()
    code = server.code(client, pkce, resource=["https://api.example/", "https://other.example/"])
    tokens = server.redeem(client, code, pkce, resource="https://api.example/").json()
    assert server.introspect(client, tokens["access_token"])["aud"] == "https://api.example/"
