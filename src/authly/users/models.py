"""A user, and what makes one valid."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

# ASCII only: no two names that look alike, and no case to fold but that of 26 letters.
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,189}")
_NAME_LENGTH = 200
_CLAIM_LENGTH = 2000

# OpenID Connect Core 5.1, but for those that have a column of their own.
STANDARD_CLAIMS: Mapping[str, type] = {
    "given_name": str,
    "family_name": str,
    "middle_name": str,
    "nickname": str,
    "profile": str,
    "picture": str,
    "website": str,
    "gender": str,
    "birthdate": str,
    "zoneinfo": str,
    "locale": str,
    "phone_number": str,
    "phone_number_verified": bool,
    "address": dict,
}
# OpenID Connect Core 5.1.1.
ADDRESS_MEMBERS = frozenset({"formatted", "street_address", "locality", "region", "postal_code", "country"})


class UserDataError(ValueError):
    """Something about a user is not valid, or not free; the message says what, to people."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What can be said about a user."""

    username: str
    email: str | None = None
    email_verified: bool = False
    name: str | None = None
    # Further standard claims, by their name in OpenID Connect.
    claims: Mapping[str, Any] = field(default_factory=dict)
    is_admin: bool = False

    def __post_init__(self) -> None:
        """Check everything.

        Raises:
            UserDataError: something is not valid.
        """
        if not is_username(self.username):
            raise UserDataError(
                "A username has 1 to 64 letters, digits and . _ @ + -, and begins with a letter or a digit."
            )
        if self.email is not None and not _EMAIL.fullmatch(self.email):
            raise UserDataError("The e-mail address is not one: it looks like name@example.org.")
        if self.email is None and self.email_verified:
            raise UserDataError("There is no e-mail address that could have been verified.")
        if self.name is not None and not (0 < len(self.name) <= _NAME_LENGTH and "\0" not in self.name):
            raise UserDataError(f"A name has 1 to {_NAME_LENGTH} characters.")
        _check_claims(self.claims)


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    # The `sub` of tokens. Never used again for anybody else.
    user_id: UUID
    username: str
    email: str | None
    email_verified: bool
    name: str | None
    claims: Mapping[str, Any]
    is_admin: bool
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def profile(self) -> Profile:
        """What is said about the user, as it can be changed."""
        return Profile(self.username, self.email, self.email_verified, self.name, self.claims, self.is_admin)


def is_username(text: str) -> bool:
    """Tell whether somebody could be called so."""
    return _USERNAME.fullmatch(text) is not None


def _check_claims(claims: Mapping[str, Any]) -> None:
    for name, value in claims.items():
        expected = STANDARD_CLAIMS.get(name)
        if expected is None:
            raise UserDataError(f"The claim {name} is none of {', '.join(sorted(STANDARD_CLAIMS))}.")
        if not isinstance(value, expected):
            raise UserDataError(f"The claim {name} is not a {expected.__name__}.")
        texts = value if isinstance(value, dict) else {name: value} if isinstance(value, str) else {}
        for part, text in texts.items():
            if isinstance(value, dict) and part not in ADDRESS_MEMBERS:
                raise UserDataError(f"The address has a {part}, which is none of {', '.join(sorted(ADDRESS_MEMBERS))}.")
            if not isinstance(text, str) or len(text) > _CLAIM_LENGTH or "\0" in text:
                raise UserDataError(f"The claim {part} is not a text of at most {_CLAIM_LENGTH} characters.")
    if claims.get("phone_number_verified") and "phone_number" not in claims:
        raise UserDataError("There is no phone number that could have been verified.")
