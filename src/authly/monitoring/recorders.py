"""What services tell of what they do, and to whom where nobody listens.

Services are given one of these, and never ask which: the metrics themselves are in modules of their own, which need
prometheus-client. A recording call takes words of a closed vocabulary and numbers, and never raises.
"""

from dataclasses import dataclass, field
from typing import Protocol

from authly.monitoring.labels import ClientEndpoint, SecurityEvent, Severity


class SecurityRecorder(Protocol):
    """What can be recorded of attacks."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack."""


class OAuthRecorder(Protocol):
    """What can be recorded of the OAuth protocol."""

    def token_request_ended(self, grant_type: str, status: str, client_id: str) -> None:
        """Count a token request.

        Args:
            grant_type: as the client wrote it.
            status: ``success`` or the error code.
            client_id: of the client if it authenticated, or nothing.
        """

    def authorization_request_ended(self, response_type: str, status: str, client_id: str) -> None:
        """Count an authorization request that was answered.

        Args:
            response_type: as the client wrote it.
            status: ``success`` or the error code.
            client_id: of the client if it is known, or nothing.
        """

    def client_authentication_ended(self, method: str, status: str, endpoint: ClientEndpoint, client_id: str) -> None:
        """Count an attempt of a client to authenticate.

        Args:
            method: how it tried; nothing where it did not say who it is.
            status: ``success``, ``failure``, or ``error`` where nobody could tell.
            endpoint: where.
            client_id: of the client if it authenticated, or nothing.
        """

    def introspection_ended(self, status: str, /) -> None:
        """Count an introspection: ``active``, ``inactive`` or ``error``."""

    def token_generated(self, token_type: str, seconds: float, /) -> None:
        """Record how long it took to make a token that is signed.

        Args:
            token_type: ``access_token`` or ``id_token``.
            seconds: how long.
        """

    def token_issued(self, token_type: str, grant_type: str, /) -> None:
        """Count a token that a client was given.

        Args:
            token_type: ``access_token``, ``refresh_token`` or ``id_token``.
            grant_type: for what.
        """

    def tokens_revoked(self, token_type: str, reason: str, number: int) -> None:
        """Count what is no longer valid before its time.

        Args:
            token_type: ``access_token``, or ``family`` for an authorization with everything that it led to.
            reason: why.
            number: how many it were.
        """


class AuthenticationRecorder(Protocol):
    """What can be recorded of people who prove who they are."""

    def login_succeeded(self) -> None:
        """Count a login."""

    def login_failed(self, reason: str) -> None:
        """Count a login that was refused.

        Args:
            reason: ``credentials``, ``locked``, ``disabled`` or ``rate_limited``.
        """

    def login_broke(self) -> None:
        """Count a login that nobody could judge."""

    def sessions_changed(self, event: str, number: int) -> None:
        """Count sessions that were ``created``, ``ended``, or found to be ``expired``."""

    def password_change_ended(self, initiator: str, status: str, /) -> None:
        """Count an attempt to replace a password.

        Args:
            initiator: ``user`` or ``admin``.
            status: ``success``; ``refused`` for the new one, ``denied`` for the current one; ``error``.
        """

    def password_hashed(self, operation: str, seconds: float, /) -> None:
        """Record how long it took to ``hash`` or to ``verify`` a password, without the wait for a thread."""


class OIDCRecorder(Protocol):
    """What can be recorded of OpenID Connect."""

    def oidc_request_ended(self, endpoint: str, status: str, /) -> None:
        """Count a request that was answered.

        Args:
            endpoint: ``discovery``, ``jwks``, ``userinfo`` or ``logout``.
            status: ``success`` or the error code.
        """

    def id_token_signed(self, algorithm: str, seconds: float, /) -> None:
        """Record how long it took to sign an ID token."""


class LevelRecorder(Protocol):
    """What can be recorded of how much there is."""

    def update_active_tokens(self, token_type: str, number: int) -> None:
        """Say how many tokens of a type are valid."""

    def update_clients(self, client_type: str, number: int) -> None:
        """Say how many clients of a type are enabled."""

    def update_active_sessions(self, number: int) -> None:
        """Say how many sessions are in force."""

    def update_cache_memory(self, used: int) -> None:
        """Say how much memory the shared cache uses, in bytes."""

    def update_signing_keys(self, state: str, number: int) -> None:
        """Say how many signing keys are in a state."""

    def update_signing_key_age(self, seconds: float) -> None:
        """Say for how long the oldest key that signs has signed."""


class NullSecurityMetrics:
    """Records nothing of attacks."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Do nothing."""


class NullOAuthMetrics:
    """Records nothing of the OAuth protocol."""

    def token_request_ended(self, grant_type: str, status: str, client_id: str) -> None:
        """Do nothing."""

    def authorization_request_ended(self, response_type: str, status: str, client_id: str) -> None:
        """Do nothing."""

    def client_authentication_ended(self, method: str, status: str, endpoint: ClientEndpoint, client_id: str) -> None:
        """Do nothing."""

    def introspection_ended(self, status: str) -> None:
        """Do nothing."""

    def token_generated(self, token_type: str, seconds: float) -> None:
        """Do nothing."""

    def token_issued(self, token_type: str, grant_type: str) -> None:
        """Do nothing."""

    def tokens_revoked(self, token_type: str, reason: str, number: int) -> None:
        """Do nothing."""


class NullAuthenticationMetrics:
    """Records nothing of people who prove who they are."""

    def login_succeeded(self) -> None:
        """Do nothing."""

    def login_failed(self, reason: str) -> None:
        """Do nothing."""

    def login_broke(self) -> None:
        """Do nothing."""

    def sessions_changed(self, event: str, number: int) -> None:
        """Do nothing."""

    def password_change_ended(self, initiator: str, status: str) -> None:
        """Do nothing."""

    def password_hashed(self, operation: str, seconds: float) -> None:
        """Do nothing."""


class NullOIDCMetrics:
    """Records nothing of OpenID Connect."""

    def oidc_request_ended(self, endpoint: str, status: str) -> None:
        """Do nothing."""

    def id_token_signed(self, algorithm: str, seconds: float) -> None:
        """Do nothing."""


class NullLevelMetrics:
    """Records nothing of how much there is."""

    def update_active_tokens(self, token_type: str, number: int) -> None:
        """Do nothing."""

    def update_clients(self, client_type: str, number: int) -> None:
        """Do nothing."""

    def update_active_sessions(self, number: int) -> None:
        """Do nothing."""

    def update_cache_memory(self, used: int) -> None:
        """Do nothing."""

    def update_signing_keys(self, state: str, number: int) -> None:
        """Do nothing."""

    def update_signing_key_age(self, seconds: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Recorders:
    """What services are given: nobody listens unless somebody does."""

    oauth: OAuthRecorder = field(default_factory=NullOAuthMetrics)
    auth: AuthenticationRecorder = field(default_factory=NullAuthenticationMetrics)
    oidc: OIDCRecorder = field(default_factory=NullOIDCMetrics)
    security: SecurityRecorder = field(default_factory=NullSecurityMetrics)
