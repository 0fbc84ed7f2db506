"""The metrics of how much there is: tokens, clients, sessions, keys, and the memory of the cache.

One worker of an instance looks at intervals; what is shown is what it saw last.
"""

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import ACTIVE_TOKENS, CLIENT_TYPES, KEY_STATES

_DETAIL = "One worker of each instance counts every `AUTHLY_METRICS_COLLECTION_INTERVAL` seconds."

ACTIVE_TOKENS_LEVEL = Definition(
    "authly_oauth_active_tokens",
    "gauge",
    "Tokens that are valid.",
    {"token_type": closed(ACTIVE_TOKENS)},
    mode="mostrecent",
    detail=f"{_DETAIL} All instances on one database see the same: take the `max`, not the `sum`.",
    example="max by (token_type) (authly_oauth_active_tokens)",
)
CLIENTS = Definition(
    "authly_oauth_clients",
    "gauge",
    "Clients that are enabled.",
    {"client_type": closed(CLIENT_TYPES)},
    mode="mostrecent",
    detail=_DETAIL,
    example="max by (client_type) (authly_oauth_clients)",
)
ACTIVE_SESSIONS = Definition(
    "authly_auth_active_sessions",
    "gauge",
    "Sessions that are in force.",
    mode="mostrecent",
    detail=_DETAIL,
    example="max(authly_auth_active_sessions)",
)
CACHE_MEMORY = Definition(
    "authly_cache_memory_usage_bytes",
    "gauge",
    "Memory that Valkey uses.",
    mode="mostrecent",
    detail=f"{_DETAIL} 0 without a Valkey: what workers remember is in their own memory.",
    example="max(authly_cache_memory_usage_bytes)",
)
SIGNING_KEYS = Definition(
    "authly_oidc_signing_keys",
    "gauge",
    "Signing keys that are published.",
    {"state": closed(KEY_STATES)},
    mode="mostrecent",
    detail=f"{_DETAIL} `pending`: it does not sign yet. `active`: it signs. `retiring`: what it signed still counts.",
    example='max(authly_oidc_signing_keys{state="active"}) < 3',
)
SIGNING_KEY_AGE = Definition(
    "authly_oidc_signing_key_age_seconds",
    "gauge",
    "For how long the oldest key that signs has signed.",
    mode="mostrecent",
    detail=_DETAIL,
    example="max(authly_oidc_signing_key_age_seconds) > 100 * 86400",
)


class LevelMetrics(Layer):
    """Shows how much there is.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.oauth_active_tokens = instruments.gauge(ACTIVE_TOKENS_LEVEL, ACTIVE_TOKENS_LEVEL.series())
        self.oauth_clients = instruments.gauge(CLIENTS, CLIENTS.series())
        self.auth_active_sessions = instruments.gauge(ACTIVE_SESSIONS)
        self.cache_memory_usage = instruments.gauge(CACHE_MEMORY)
        self.oidc_signing_keys = instruments.gauge(SIGNING_KEYS, SIGNING_KEYS.series())
        self.oidc_signing_key_age = instruments.gauge(SIGNING_KEY_AGE)

    @recording
    def update_active_tokens(self, token_type: str, number: int) -> None:
        """Say how many tokens are valid.

        Args:
            token_type: ``access_token`` or ``refresh_token``.
            number: how many.
        """
        self.oauth_active_tokens.labels(token_type).set(number)

    @recording
    def update_clients(self, client_type: str, number: int) -> None:
        """Say how many clients are enabled.

        Args:
            client_type: ``confidential`` or ``public``.
            number: how many.
        """
        self.oauth_clients.labels(client_type).set(number)

    @recording
    def update_active_sessions(self, number: int) -> None:
        """Say how many sessions are in force."""
        self.auth_active_sessions.set(number)

    @recording
    def update_cache_memory(self, used: int) -> None:
        """Say how much memory the shared cache uses, in bytes."""
        self.cache_memory_usage.set(used)

    @recording
    def update_signing_keys(self, state: str, number: int) -> None:
        """Say how many signing keys are in a state.

        Args:
            state: ``pending``, ``active`` or ``retiring``.
            number: how many.
        """
        self.oidc_signing_keys.labels(state).set(number)

    @recording
    def update_signing_key_age(self, seconds: float) -> None:
        """Say for how long the oldest key that signs has signed."""
        self.oidc_signing_key_age.set(seconds)
