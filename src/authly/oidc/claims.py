"""What can be said of a user (OpenID Connect Core 1.0, section 5)."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from authly.errors import InvalidRequestError
from authly.oauth.parameters import Parameters
from authly.tokens.models import RequestedClaims
from authly.users.models import User

# Section 5.4.
SCOPES: Mapping[str, tuple[str, ...]] = {
    "profile": (
        "name",
        "family_name",
        "given_name",
        "middle_name",
        "nickname",
        "preferred_username",
        "profile",
        "picture",
        "website",
        "gender",
        "birthdate",
        "zoneinfo",
        "locale",
        "updated_at",
    ),
    "email": ("email", "email_verified"),
    "address": ("address",),
    "phone": ("phone_number", "phone_number_verified"),
}
_SCOPE_OF = {name: scope for scope, names in SCOPES.items() for name in names}
# Of ID tokens, where each of them is always there; a request for one says nothing new.
OF_ID_TOKENS = ("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash", "sid")
USERINFO = "userinfo"
ID_TOKEN = "id_token"
_LONGEST = 4096
_MOST = 50


@dataclass(frozen=True, slots=True)
class ClaimsRequest:
    """The parameter ``claims``: what a client wants to know, claim by claim (section 5.5)."""

    # Those that Authly could say of a user.
    claims: RequestedClaims = field(default_factory=dict)
    # Who the user has to be.
    subject: str | None = None
    # How the user has to have authenticated; None if the client does not insist.
    essential_acr: tuple[str, ...] | None = None

    def allowed(self, scopes: Collection[str]) -> "ClaimsRequest":
        """Return what is left of it for a client that may ask for these scopes.

        A claim that cannot be had is no error, be it essential or not (section 5.5.1).
        """
        kept = {
            where: {name: values for name, values in claims.items() if _SCOPE_OF[name] in scopes}
            for where, claims in self.claims.items()
        }
        return ClaimsRequest(kept, self.subject, self.essential_acr)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that these claims belong to: what the user is asked."""
        return tuple(dict.fromkeys(_SCOPE_OF[name] for claims in self.claims.values() for name in claims))


def requested(parameters: Parameters) -> ClaimsRequest:
    """Return what the parameter ``claims`` of a request asks for.

    Raises:
        InvalidRequestError: it is malformed.
    """
    text = parameters.get("claims")
    if text is None:
        return ClaimsRequest()
    try:
        return _read(text)
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidRequestError("The parameter claims is not what OpenID Connect Core 5.5 describes.") from error


def of_scopes(user: User, scopes: Collection[str]) -> dict[str, Any]:
    """Return what scopes tell of a user."""
    names = {name for scope in scopes for name in SCOPES.get(scope, ())}
    return {name: value for name, value in _all(user).items() if name in names}


def one_by_one(user: User, wanted: Mapping[str, list[Any] | None]) -> dict[str, Any]:
    """Return those of some claims that there are of a user, and that are what they have to be."""
    known = _all(user)
    return {
        name: known[name]
        for name, values in wanted.items()
        if name in known and (values is None or known[name] in values)
    }


def _all(user: User) -> dict[str, Any]:
    # Nothing is said instead of null (section 5.3.2).
    claims: dict[str, Any] = {"preferred_username": user.username, "updated_at": int(user.updated_at.timestamp())}
    if user.name is not None:
        claims["name"] = user.name
    if user.email is not None:
        claims |= {"email": user.email, "email_verified": user.email_verified}
    return claims | dict(user.claims)


def _read(text: str) -> ClaimsRequest:
    if len(text) > _LONGEST:
        raise ValueError("too long")
    content = json.loads(text)
    parts = {where: _part(content.get(where)) for where in (USERINFO, ID_TOKEN)}
    subjects = {value for part in parts.values() for value in _values(part.get("sub")) or () if isinstance(value, str)}
    if len(subjects) > 1:
        raise ValueError("more than one user")
    acr = parts[ID_TOKEN].get("acr")
    is_essential = acr is not None and acr.get("essential") is True
    return ClaimsRequest(
        {
            where: {name: _values(wanted) for name, wanted in part.items() if name in _SCOPE_OF}
            for where, part in parts.items()
        },
        subjects.pop() if subjects else None,
        tuple(str(value) for value in _values(acr) or ()) if is_essential else None,
    )


def _part(part: Any) -> dict[str, dict[str, Any] | None]:
    """Return a member of the parameter, each claim of which is null or an object."""
    if part is None:
        return {}
    if not isinstance(part, dict) or len(part) > _MOST:
        raise ValueError("no object, or too large")
    if any(wanted is not None and not isinstance(wanted, dict) for wanted in part.values()):
        raise ValueError("neither null nor an object")
    return part


def _values(wanted: dict[str, Any] | None) -> list[Any] | None:
    """Return what a claim has to be, if that was said."""
    if wanted is None or not {"value", "values"} & wanted.keys():
        return None
    values = [wanted["value"]] if "value" in wanted else wanted["values"]
    if not isinstance(values, list):
        raise ValueError("values is no list")
    return [value for value in values if _can_be_one(value)]


def _can_be_one(value: Any) -> bool:
    """Tell whether a claim could have a value; what PostgreSQL cannot store, none has."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)
