"""Forms of other sites are told from our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.api import csrf

SESSION = "0b2d6a1c-6a52-4f0e-a1d1-51d0a1b5a5a0"


def test_a_token_belongs_to_a_browser_and_a_session() -> None:
    """It is valid there, and nowhere else."""
    value, other = csrf.new_value(), csrf.new_value()
    token = csrf.make_token(value, SESSION)
    assert csrf.is_valid_token(token, value, SESSION)
    assert not csrf.is_valid_token(token, other, SESSION)
    assert not csrf.is_valid_token(token, value, "")
    assert not csrf.is_valid_token(token, None, SESSION)
    assert csrf.is_valid_token(csrf.make_token(value, ""), value, "")


def test_no_two_pages_have_the_same_token() -> None:
    """A compressed page reveals nothing of the next one."""
    value = csrf.new_value()
    tokens = {csrf.make_token(value, SESSION) for _ in range(100)}
    assert len({token[:32] for token in tokens}) == len({token[32:] for token in tokens}) == 100
    assert all(csrf.is_valid_token(token, value, SESSION) for token in tokens)


@given(st.text(), st.text())
def test_what_was_made_up_is_not_valid(token: str, session: str) -> None:
    """Whatever characters it has."""
    assert not csrf.is_valid_token(token, csrf.new_value(), session)


def test_a_changed_token_is_not_valid() -> None:
    """At whichever place it was changed."""
    value = csrf.new_value()
    token = csrf.make_token(value, SESSION)
    for place in range(len(token)):
        changed = token[:place] + ("0" if token[place] != "0" else "1") + token[place + 1 :]
        assert not csrf.is_valid_token(changed, value, SESSION)
    assert not csrf.is_valid_token(token + "0", value, SESSION)
    assert not csrf.is_valid_token(token[:-1], value, SESSION)


@pytest.mark.parametrize("cookie", [None, "", "x", "x" * 42, "x" * 44, "x" * 42 + "=", "ä" * 43])
def test_a_cookie_that_is_not_ours_is_none(cookie: str | None) -> None:
    """Its value would be too easy to guess, or none that we set."""
    assert csrf.known_value(cookie) is None


def test_a_cookie_of_ours_is_known() -> None:
    """As it was set."""
    value = csrf.new_value()
    assert csrf.known_value(value) == value


@pytest.mark.parametrize(
    ("headers", "here"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "anything"}, False),
        # A page with the referrer policy no-referrer sends this, and Sec-Fetch-Site says what it means.
        ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://auth.example"}, False),
        ({"origin": "https://auth.example"}, True),
        ({"origin": "http://auth.example"}, True),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "https://auth.example:8443"}, False),
        ({"origin": "https://auth.example.evil"}, False),
        ({"origin": "https://evil"}, False),
        ({"origin": "https://evil/auth.example"}, False),
        ({"origin": "https://auth.example@evil"}, False),
        ({"origin": "https://[x"}, False),
    ],
)
def test_what_browsers_say_of_where_a_request_comes_from(headers: dict[str, str], here: bool) -> None:
    """Another site, another subdomain and another port are not here; saying nothing is not saying so."""
    assert csrf.comes_from_here({"host": "auth.example", **headers}) is here
