"""Entries of the audit log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID


class AuditEvent(StrEnum):
    """What can happen. A name, once recorded, keeps its meaning."""

    ADMINISTRATOR_CREATED = "administrator_created"
    LOGIN_SUCCEEDED = "login_succeeded"
    LOGIN_FAILED = "login_failed"
    LOGGED_OUT = "logged_out"
    SESSIONS_ENDED = "sessions_ended"
    PASSWORD_CHANGED = "password_changed"
    PASSWORD_RESET = "password_reset"
    USER_CREATED = "user_created"
    USER_UPDATED = "user_updated"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    USER_DELETED = "user_deleted"
    CLIENT_CREATED = "client_created"
    CLIENT_UPDATED = "client_updated"
    CLIENT_SECRET_ROTATED = "client_secret_rotated"
    CLIENT_DELETED = "client_deleted"
    CLIENT_PKCE_EXEMPTED = "client_pkce_exempted"
    CLIENT_PKCE_REQUIRED = "client_pkce_required"
    SCOPE_CREATED = "scope_created"
    SCOPE_UPDATED = "scope_updated"
    SCOPE_DELETED = "scope_deleted"
    CONSENT_GRANTED = "consent_granted"
    CONSENT_REVOKED = "consent_revoked"
    TOKEN_REVOKED = "token_revoked"
    CODE_REUSED = "code_reused"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"
    KEY_ROTATED = "key_rotated"
    ADMIN_DENIED = "admin_denied"


class PartyKind(StrEnum):
    """What an actor or a subject is."""

    USER = "user"
    CLIENT = "client"
    SESSION = "session"
    SCOPE = "scope"
    KEY = "key"
    TOKEN = "token"
    CONSENT = "consent"
    # Whoever may use the command line on the server.
    OPERATOR = "operator"
    # Authly itself: jobs and the first start.
    SYSTEM = "system"
    # Somebody who has not proved to be anybody.
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who acts, or something that is acted upon."""

    kind: PartyKind
    id: str | None = None

    @classmethod
    def user(cls, user_id: UUID) -> Self:
        """Return a user as a party."""
        return cls(PartyKind.USER, str(user_id))

    @classmethod
    def session(cls, session_id: UUID) -> Self:
        """Return a session as a party."""
        return cls(PartyKind.SESSION, str(session_id))

    @classmethod
    def client(cls, client_id: str) -> Self:
        """Return an OAuth client as a party."""
        return cls(PartyKind.CLIENT, client_id)


SYSTEM = Party(PartyKind.SYSTEM)
ANONYMOUS = Party(PartyKind.ANONYMOUS)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the log."""

    audit_id: int
    occurred_at: datetime
    event: str
    actor: Party
    subject: Party | None
    client_address: str | None
    request_id: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted; None wants any."""

    event: AuditEvent | None = None
    actor: Party | None = None
    subject: Party | None = None
    since: datetime | None = None
    until: datetime | None = None
