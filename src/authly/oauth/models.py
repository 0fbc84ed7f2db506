"""Clients, scopes and consents."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from authly.keys.models import Algorithm


class ClientType(StrEnum):
    """Whether a client can keep a secret (RFC 6749, section 2.1)."""

    CONFIDENTIAL = "confidential"
    PUBLIC = "public"


class AuthMethod(StrEnum):
    """How a client authenticates (RFC 8414, section 2: token_endpoint_auth_methods_supported)."""

    NONE = "none"
    CLIENT_SECRET_BASIC = "client_secret_basic"
    CLIENT_SECRET_POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"


SECRET_METHODS = frozenset({AuthMethod.CLIENT_SECRET_BASIC, AuthMethod.CLIENT_SECRET_POST})


class SubjectType(StrEnum):
    """What clients know users by (OpenID Connect Core 1.0, section 8)."""

    PUBLIC = "public"
    PAIRWISE = "pairwise"


class GrantType(StrEnum):
    """What a client can exchange for tokens."""

    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"
    CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What an operator decides about a client, and may change."""

    name: str
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[GrantType, ...] = (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN)
    scopes: tuple[str, ...] = ()
    # The audiences it may ask for besides Authly itself (RFC 8707).
    resources: tuple[str, ...] = ()
    require_consent: bool = True
    require_pushed_authorization_requests: bool = False
    # None is what the settings say.
    access_token_ttl: timedelta | None = None
    # Public keys with which it signs assertions, as a JWK Set (RFC 7517).
    jwks: dict[str, Any] | None = None
    enabled: bool = True
    # Only an administrator's word exempts a client: what certification's basic profile sends has none.
    require_pkce: bool = True
    # Whether all clients know a user by the same `sub` (OpenID Connect Core 1.0, section 8).
    subject_type: SubjectType = SubjectType.PUBLIC
    # Clients of one sector know a user by the same pairwise subject; None is the host of the redirect URIs.
    sector_identifier: str | None = None
    id_token_signed_response_alg: Algorithm = "RS256"
    # None is plain JSON.
    userinfo_signed_response_alg: Algorithm | None = None
    post_logout_redirect_uris: tuple[str, ...] = ()
    # Where it wants to be told of the ends of sessions.
    backchannel_logout_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """A registered application."""

    client_id: str
    type: ClientType
    token_endpoint_auth_method: AuthMethod
    settings: ClientSettings
    created_at: datetime
    updated_at: datetime
    secret_hash: bytes | None = field(default=None, repr=False)

    @property
    def is_native(self) -> bool:
        """Whether it may run on the user's device: such clients cannot keep a secret (RFC 8252, section 8.4)."""
        return self.type is ClientType.PUBLIC

    def may_use(self, grant_type: GrantType) -> bool:
        """Tell whether a grant is allowed to it."""
        return grant_type in self.settings.grant_types


@dataclass(frozen=True, slots=True)
class Scope:
    """What a client can be allowed, in words for whoever allows it."""

    name: str
    description: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Consent:
    """What a user allowed a client, until it is taken back."""

    user_id: UUID
    client_id: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    created_at: datetime
    updated_at: datetime

    def covers(self, scopes: tuple[str, ...], resources: tuple[str, ...]) -> bool:
        """Tell whether it needs no asking again."""
        return set(scopes) <= set(self.scopes) and set(resources) <= set(self.resources)
