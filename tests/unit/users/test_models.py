"""What makes a user valid."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.users.models import Profile, UserDataError, is_username


@pytest.mark.parametrize("username", ["a", "0", "ada", "Ada.Lovelace", "ada@example.org", "a+b_c-d", "x" * 64])
def test_usernames(username: str) -> None:
    """Letters, digits and a few signs."""
    assert Profile(username).username == username


@pytest.mark.parametrize(
    "username", ["", "x" * 65, ".ada", "-ada", "@", "a b", "ada\n", "ada\0", "\u0430da", "ä", "a/b", "a<b"]
)
def test_what_is_no_username(username: str) -> None:
    """Nothing that looks like another name, means something elsewhere, or cannot be kept."""
    with pytest.raises(UserDataError, match="A username has"):
        Profile(username)


@given(st.text())
def test_any_username_that_is_accepted_can_be_kept(text: str) -> None:
    """What is accepted is ASCII without spaces and control characters."""
    if is_username(text):
        assert text.isascii()
        assert text.isprintable()
        assert " " not in text


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"email": "ada"}, "e-mail"),
        ({"email": "ada@"}, "e-mail"),
        ({"email": "a b@example.org"}, "e-mail"),
        ({"email": "a@b@example.org"}, "e-mail"),
        ({"email": "a@example.org\n"}, "e-mail"),
        ({"email": "a\0@example.org"}, "e-mail"),
        ({"email_verified": True}, "no e-mail address"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0"}, "name"),
        ({"claims": {"sub": "x"}}, "sub is none of"),
        ({"claims": {"given_name": 1}}, "given_name is not"),
        ({"claims": {"given_name": "x" * 2001}}, "given_name is not"),
        ({"claims": {"given_name": "a\0"}}, "given_name is not"),
        ({"claims": {"phone_number_verified": "yes"}}, "phone_number_verified is not"),
        ({"claims": {"phone_number_verified": True}}, "no phone number"),
        ({"claims": {"address": "here"}}, "address is not"),
        ({"claims": {"address": {"planet": "Earth"}}}, "planet"),
        ({"claims": {"address": {"country": 1}}}, "country is not"),
    ],
)
def test_what_is_not_valid_is_said_in_words(values: dict[str, Any], reason: str) -> None:
    """The message names what is wrong."""
    with pytest.raises(UserDataError, match=reason):
        Profile("ada", **values)


def test_all_claims_of_a_person() -> None:
    """The standard claims of OpenID Connect can be kept."""
    claims = {
        "given_name": "Ada",
        "phone_number": "+44 20 7946 0000",
        "phone_number_verified": True,
        "address": {"formatted": "St James's Square\nLondon", "country": "GB"},
    }
    assert Profile("ada", "ada@example.org", True, "Ada Lovelace", claims).claims == claims
