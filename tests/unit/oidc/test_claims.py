"""The parameter ``claims``, and what is told of users."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.errors import InvalidRequestError
from authly.oauth.parameters import Parameters
from authly.oidc import claims
from authly.oidc.claims import ClaimsRequest
from authly.users.models import User

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_WANTED = st.dictionaries(
    st.sampled_from(["name", "email", "sub", "acr", "address", "unknown"]),
    st.none()
    | st.dictionaries(st.sampled_from(["essential", "value", "values", "other"]), _JSON, max_size=4)
    | st.fixed_dictionaries({"values": st.lists(_JSON, max_size=3)}),
)


def read(text: str) -> ClaimsRequest:
    """Return what a parameter asks for."""
    return claims.requested(Parameters([("claims", text)]))


def user(**changes: Any) -> User:
    """Return a user."""
    known: dict[str, Any] = {
        "user_id": uuid4(),
        "username": "ada",
        "email": None,
        "email_verified": False,
        "name": None,
        "claims": {},
        "is_admin": False,
        "disabled_at": None,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "updated_at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    return User(**known | changes)


def test_what_is_asked_for() -> None:
    """Claims are read with where they are wanted and what they have to be; those that there are not are left out."""
    asked = read(
        json.dumps(
            {
                "userinfo": {"name": None, "unknown": None, "sub": {"value": "somebody"}},
                "id_token": {"email": {"essential": True}, "locale": {"values": ["en", "de"]}, "auth_time": None},
                "elsewhere": {"name": None},
            }
        )
    )
    assert asked.claims == {"userinfo": {"name": None}, "id_token": {"email": None, "locale": ["en", "de"]}}
    assert asked.subject == "somebody"
    assert asked.essential_acr is None
    assert asked.scopes == ("profile", "email")
    assert asked.allowed(["email"]).claims == {"userinfo": {}, "id_token": {"email": None}}
    assert asked.allowed(["email"]).scopes == ("email",)


def test_nothing() -> None:
    """Without the parameter nothing is asked for."""
    assert claims.requested(Parameters([])) == ClaimsRequest()


_PARAMETER = st.fixed_dictionaries({}, optional={"userinfo": _WANTED, "id_token": _WANTED})


@given(st.text() | (_JSON | _PARAMETER).map(json.dumps))
def test_anything(text: str) -> None:
    """Whatever comes is read or refused, and what is read can be kept by PostgreSQL."""
    try:
        asked = read(text)
    except InvalidRequestError:
        return
    kept = json.dumps(asked.claims, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in kept
    kept.encode()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"name": None, "email": None}, {"name": "Ada"}),
        ({"name": ["Ada", "Grace"]}, {"name": "Ada"}),
        ({"name": ["Grace"]}, {}),
        ({"name": []}, {}),
        ({"preferred_username": None}, {"preferred_username": "ada"}),
    ],
)
def test_one_by_one(wanted: dict[str, list[Any] | None], told: dict[str, Any]) -> None:
    """A claim is told if there is one, and if it is what it has to be."""
    assert claims.one_by_one(user(name="Ada"), wanted) == told


def test_of_scopes() -> None:
    """A scope tells its claims, and nothing instead of those that there are not."""
    ada = user(email="ada@example.org", claims={"nickname": "A", "phone_number": "1"})
    assert claims.of_scopes(ada, ["openid", "email", "other"]) == {"email": "ada@example.org", "email_verified": False}
    assert claims.of_scopes(ada, ["profile"]) == {
        "preferred_username": "ada",
        "updated_at": 1767312000,
        "nickname": "A",
    }
    assert claims.of_scopes(ada, ["phone", "address"]) == {"phone_number": "1"}
