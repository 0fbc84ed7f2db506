"""Signing keys for whoever signs, and for whoever verifies."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta

from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from authly.core.clock import Clock, utc_now
from authly.keys.encryption import KeyEncryption
from authly.keys.models import (
    ALGORITHMS,
    Algorithm,
    KeyState,
    PrivateKey,
    Rotation,
    SigningKey,
    StoredKey,
    signing_with,
    state_of,
)
from authly.keys.repository import SigningKeyRepository

# How soon a worker looks again for a key that it was asked for and does not know: somebody may be making ids up.
_PATIENCE_SECONDS = 1.0
_RSA_BITS = 2048
# A thumbprint (RFC 7638).
_KID = re.compile(r"[A-Za-z0-9_-]{43}")


class SigningKeyService:
    """Keeps the keys of a worker.

    Args:
        repository: where they are kept.
        encryption: of their private parts.
        rotation: how they follow each other.
        clock: a monotonic clock, in seconds.
        now: the time of day.
    """

    def __init__(
        self,
        repository: SigningKeyRepository,
        encryption: KeyEncryption,
        rotation: Rotation = Rotation(),  # noqa: B008
        clock: Callable[[], float] = time.monotonic,
        now: Clock = utc_now,
    ) -> None:
        self._repository = repository
        self._encryption = encryption
        self._rotation = rotation
        self._refresh_seconds = rotation.refresh.total_seconds()
        self._clock = clock
        self._now = now
        self._keys: list[SigningKey] = []
        self._read_at = -float("inf")
        self._reading = asyncio.Lock()

    async def signing_key(self, algorithm: Algorithm) -> SigningKey:
        """Return the key that signs with an algorithm now.

        Raises:
            KeyUnreadableError: the keys were made under another secret key.
        """
        await self._refresh(self._refresh_seconds)
        key = signing_with(self._keys, algorithm, self._now())
        if key is None:
            # A clock that is behind that of the database's server finds keys that are yet to become active.
            key = min((key for key in self._keys if key.algorithm == algorithm), key=lambda key: key.active_at)
        return key

    async def verification_key(self, kid: str, *, retired: bool = False) -> SigningKey | None:
        """Return a published key by its id.

        Args:
            kid: the id.
            retired: whether to look for keys that are no longer published, too.

        Raises:
            KeyUnreadableError: the keys were made under another secret key.
        """
        await self._refresh(self._refresh_seconds)
        found = self._find(kid)
        if found is None:
            # Another worker may have made it a moment ago.
            await self._refresh(_PATIENCE_SECONDS)
            found = self._find(kid)
        if found is None and retired and _KID.fullmatch(kid):
            stored = await self._repository.find(kid)
            return self._load(stored, None) if stored else None
        return found

    async def published(self) -> list[SigningKey]:
        """Return the keys that verifiers are told of, oldest first.

        Raises:
            KeyUnreadableError: the keys were made under another secret key.
        """
        await self._refresh(self._refresh_seconds)
        now = self._now()
        return [key for key in self._keys if key.is_published(now)]

    async def states(self) -> list[tuple[SigningKey, KeyState]]:
        """Return the keys as they are in the database now, each with what it does.

        Raises:
            KeyUnreadableError: the keys were made under another secret key.
        """
        await self._refresh(0.0)
        now = self._now()
        return [(key, state_of(key, self._keys, now)) for key in self._keys]

    async def rotate(
        self, algorithm: Algorithm, *, signs_after: timedelta | None = None, overlap: timedelta | None = None
    ) -> bool:
        """Make the successor of the youngest key of an algorithm; tell whether nobody else was quicker.

        Args:
            algorithm: whose key to replace.
            signs_after: how long the successor is published before it signs; unless told otherwise, longer than
                verifiers go without looking.
            overlap: how long the old key is published after that; unless told otherwise, longer than anything that it
                signed is valid.
        """
        await self._refresh(0.0)
        key = await asyncio.to_thread(_generate, algorithm)
        private = self._encryption.encrypt(_private_part(key), key.thumbprint())
        done = await self._repository.succeed(
            key.thumbprint(),
            algorithm,
            _public_part(key),
            private,
            signs_after=self._rotation.signs_after if signs_after is None else signs_after,
            overlap=self._rotation.overlap if overlap is None else overlap,
        )
        self._read_at = -float("inf")
        return done

    async def due(self) -> list[Algorithm]:
        """Return the algorithms whose youngest key has signed for as long as a key shall.

        Raises:
            KeyUnreadableError: the keys were made under another secret key.
        """
        if self._rotation.lifetime is None:
            return []
        await self._refresh(0.0)
        ended = self._now() - self._rotation.lifetime
        return [key.algorithm for key in self._keys if key.expires_at is None and key.active_at <= ended]

    def _find(self, kid: str) -> SigningKey | None:
        now = self._now()
        return next((key for key in self._keys if key.kid == kid and key.is_published(now)), None)

    async def _refresh(self, age: float) -> None:
        if self._clock() - self._read_at < age:
            return
        async with self._reading:
            # Somebody else may have read them meanwhile.
            if self._clock() - self._read_at < age:
                return
            keys = await self._read()
            for algorithm in ALGORITHMS:
                if not any(key.algorithm == algorithm for key in keys):
                    await self._make_first(algorithm)
                    keys = await self._read()
            self._keys = keys
            self._read_at = self._clock()

    async def _read(self) -> list[SigningKey]:
        known = {key.kid: key for key in self._keys}
        return [self._load(stored, known.get(stored.kid)) for stored in await self._repository.published()]

    def _load(self, stored: StoredKey, known: SigningKey | None) -> SigningKey:
        key = known.key if known else _import(self._encryption.decrypt(stored.private_key, stored.kid))
        return SigningKey(stored.kid, stored.algorithm, key, stored.public_key, stored.active_at, stored.expires_at)

    async def _make_first(self, algorithm: Algorithm) -> None:
        # Some hundred milliseconds of computing; every worker may come here when a database is new, and one key stays.
        key = await asyncio.to_thread(_generate, algorithm)
        private = self._encryption.encrypt(_private_part(key), key.thumbprint())
        await self._repository.add_first(key.thumbprint(), algorithm, _public_part(key), private)


def _generate(algorithm: Algorithm) -> PrivateKey:
    if algorithm == "RS256":
        return RSAKey.generate_key(_RSA_BITS, {"use": "sig", "alg": algorithm})
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", {"use": "sig", "alg": algorithm})
    return OKPKey.generate_key("Ed25519", {"use": "sig", "alg": algorithm})


def _import(private: bytes) -> PrivateKey:
    key = JWKRegistry.import_key(json.loads(private))
    if not isinstance(key, (RSAKey, ECKey, OKPKey)):
        raise TypeError("a signing key is neither RSA, nor EC, nor OKP")
    return key


def _private_part(key: PrivateKey) -> bytes:
    return json.dumps(key.as_dict(private=True)).encode()


def _public_part(key: PrivateKey) -> dict[str, str]:
    """Return the public JWK (RFC 7517), with the thumbprint (RFC 7638) as its id."""
    return {**{name: str(value) for name, value in key.as_dict(private=False).items()}, "kid": key.thumbprint()}
