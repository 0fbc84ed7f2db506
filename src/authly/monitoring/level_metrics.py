"""The metrics of how much there is: tokens, clients, sessions, keys, and the memory of the cache.

One worker of an instance looks at intervals; what is shown is what it saw last. The series appear when somebody has
looked: 0 would claim that there is nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Gauge


class LevelMetrics:
    """Shows how much there is.

    Args:
        registry: where the metrics are registered.
        failed: is told the name of a call that failed, while the exception is handled.
    """

    def __init__(self, registry: CollectorRegistry, failed: Callable[[str], None]) -> None:
        self._levels_failed = failed

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, multiprocess_mode="mostrecent", registry=registry)

        self.oauth_active_tokens = gauge("authly_oauth_active_tokens", "Tokens that are valid.", "token_type")
        self.oauth_clients = gauge("authly_oauth_clients", "Clients that are enabled.", "client_type")
        # Without labels, their series would be there at once, as 0.
        self.auth_active_sessions = gauge("authly_auth_active_sessions", "Sessions that are in force.")
        self.cache_memory_usage = gauge("authly_cache_memory_usage_bytes", "Memory that Valkey uses.")
        self.oidc_signing_keys = gauge("authly_oidc_signing_keys", "Signing keys that are published.", "state")
        self.oidc_signing_key_age = gauge(
            "authly_oidc_signing_key_age_seconds", "For how long the oldest key that signs has signed."
        )

    def update_active_tokens(self, token_type: str, number: int) -> None:
        """Say how many tokens are valid.

        Args:
            token_type: ``access_token`` or ``refresh_token``.
            number: how many.
        """
        with self._recording("update_active_tokens"):
            self.oauth_active_tokens.labels(token_type).set(number)

    def update_clients(self, client_type: str, number: int) -> None:
        """Say how many clients are enabled.

        Args:
            client_type: ``confidential`` or ``public``.
            number: how many.
        """
        with self._recording("update_clients"):
            self.oauth_clients.labels(client_type).set(number)

    def update_active_sessions(self, number: int) -> None:
        """Say how many sessions are in force."""
        with self._recording("update_active_sessions"):
            self.auth_active_sessions.set(number)

    def update_cache_memory(self, used: int) -> None:
        """Say how much memory the shared cache uses, in bytes."""
        with self._recording("update_cache_memory"):
            self.cache_memory_usage.set(used)

    def update_signing_keys(self, state: str, number: int) -> None:
        """Say how many signing keys are in a state.

        Args:
            state: ``pending``, ``active`` or ``retiring``.
            number: how many.
        """
        with self._recording("update_signing_keys"):
            self.oidc_signing_keys.labels(state).set(number)

    def update_signing_key_age(self, seconds: float) -> None:
        """Say for how long the oldest key that signs has signed."""
        with self._recording("update_signing_key_age"):
            self.oidc_signing_key_age.set(seconds)

    @contextmanager
    def _recording(self, call: str) -> Iterator[None]:
        try:
            yield
        except Exception:  # noqa: BLE001
            self._levels_failed(call)
