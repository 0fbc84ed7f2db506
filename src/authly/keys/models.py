"""A signing key, and what it does at a moment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from joserfc.jwk import ECKey, RSAKey

Algorithm = Literal["RS256", "ES256"]
ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256")
KeyState = Literal["pending", "active", "retiring", "expired"]
PrivateKey = RSAKey | ECKey


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as the database has it: the private part is encrypted."""

    kid: str
    algorithm: Algorithm
    public_key: dict[str, Any]
    private_key: bytes
    created_at: datetime
    active_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that can sign."""

    kid: str
    algorithm: Algorithm
    key: PrivateKey
    public_key: dict[str, Any]
    active_at: datetime
    expires_at: datetime | None

    def is_published(self, now: datetime) -> bool:
        """Tell whether verifiers are told of it."""
        return self.expires_at is None or now < self.expires_at


def signing_with(keys: list[SigningKey], algorithm: Algorithm, now: datetime) -> SigningKey | None:
    """Return the key of an algorithm that signs now: the one that became active last."""
    active = [key for key in keys if key.algorithm == algorithm and key.active_at <= now and key.is_published(now)]
    return max(active, key=lambda key: key.active_at, default=None)


def state_of(key: SigningKey, keys: list[SigningKey], now: datetime) -> KeyState:
    """Return what a key does now."""
    if not key.is_published(now):
        return "expired"
    if key.active_at > now:
        return "pending"
    return "active" if signing_with(keys, key.algorithm, now) is key else "retiring"
