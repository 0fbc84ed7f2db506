"""A signing key, and what it does at a moment."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from joserfc.jwk import ECKey, OKPKey, RSAKey

# EdDSA by its old name: RFC 9864 calls it Ed25519, which few verifiers know yet.
Algorithm = Literal["RS256", "ES256", "EdDSA"]
ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
KeyState = Literal["pending", "active", "retiring", "expired"]
PrivateKey = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class Rotation:
    """How keys follow each other, so that nobody is ever asked to verify with a key that they cannot know."""

    # How long verifiers may go without looking: the max-age of what is published.
    max_age: timedelta = timedelta(minutes=5)
    # How long workers go without looking.
    refresh: timedelta = timedelta(seconds=30)
    # How long anything that is signed is valid.
    longest_token: timedelta = timedelta(days=1)
    # How long a key signs before it is due to be replaced; None is for ever.
    lifetime: timedelta | None = timedelta(days=90)

    @property
    def signs_after(self) -> timedelta:
        """How long a key is published before it signs.

        A worker that has not looked publishes the old set, and a verifier that asks it then keeps that set; once more
        for clocks that differ.
        """
        return self.max_age + 2 * self.refresh

    @property
    def overlap(self) -> timedelta:
        """How long a key is published after its successor signs.

        A worker whose clock is late goes on signing with it, and its last token is to be verified until its end. A
        verifier that looks again within max_age of that still finds it.
        """
        return self.longest_token + self.refresh + self.max_age


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
