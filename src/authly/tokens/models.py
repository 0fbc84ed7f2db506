"""What is issued, and to whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

# By where they are wanted (``id_token``, ``userinfo``) and by name; what they have to be, if that was said.
RequestedClaims = Mapping[str, Mapping[str, list[Any] | None]]


class RevocationReason(StrEnum):
    """Why something is no longer valid before its time."""

    CLIENT = "client"
    LOGOUT = "logout"
    ADMIN = "admin"
    CONSENT = "consent"
    CODE_REUSE = "code_reuse"
    REFRESH_REUSE = "refresh_reuse"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what is issued is valid."""

    authorization_code: timedelta = timedelta(seconds=60)
    access_token: timedelta = timedelta(minutes=10)
    refresh_token: timedelta = timedelta(days=30)
    # How long after its rotation a refresh token may be presented again by a client that did not get the answer.
    refresh_grace: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a user allowed a client."""

    client_id: str
    user_id: UUID
    session_id: UUID
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    nonce: str | None
    auth_time: datetime
    # By which the client knows the user: the `sub` of everything it is given.
    subject: str
    # How the user authenticated, in the words of RFC 8176.
    amr: tuple[str, ...] = ()
    # Claims that were asked for one by one.
    claims: RequestedClaims = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """Everything that an authorization led to."""

    family_id: UUID
    authorization: Authorization
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code, as it is found when a client presents it."""

    code_hash: bytes
    redirect_uri: str
    # None for a client that is exempt from PKCE and sent none.
    code_challenge: str | None
    is_expired: bool
    is_redeemed: bool
    family: Family


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token, as it is found when a client presents it."""

    token_hash: bytes
    salt: bytes
    is_expired: bool
    # Since when it has had a successor, and whether that has been used.
    rotated_for: timedelta | None
    is_successor_used: bool
    created_at: datetime
    expires_at: datetime
    family: Family


@dataclass(frozen=True, slots=True)
class StoredAccessToken:
    """An access token, as the database knows it."""

    token_id: UUID
    client_id: str
    family_id: UUID | None
    user_id: UUID | None
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None


@dataclass(frozen=True, slots=True)
class AccessTokenClaims:
    """What an access token says (RFC 9068, section 2.2)."""

    token_id: UUID
    client_id: str
    subject: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    issued_at: int
    expires_at: int
    auth_time: int | None = None


@dataclass(frozen=True, slots=True)
class NewAccessToken:
    """An access token that is about to be issued."""

    token_id: UUID
    client_id: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class NewRefreshToken:
    """A refresh token that is about to be issued."""

    token_hash: bytes
    salt: bytes
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Issued:
    """What a client is given."""

    access_token: str
    claims: AccessTokenClaims
    refresh_token: str | None = None
    id_token: str | None = None
