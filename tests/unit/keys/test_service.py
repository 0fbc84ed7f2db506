"""Signing keys: the same for all who share a database and a secret, and replaced without a gap."""

import asyncio
from datetime import timedelta

import pytest

from authly.core.repository import Database
from authly.keys.encryption import KeyEncryption, KeyUnreadableError
from authly.keys.models import ALGORITHMS, Rotation
from authly.keys.repository import SigningKeyRepository
from authly.keys.service import SigningKeyService
from tests.identity import FakeClock

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


class Times:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def service(database: Database, secret: bytes = b"s" * 32, clock: Times | None = None) -> SigningKeyService:
    """Return what a worker has."""
    return SigningKeyService(SigningKeyRepository(database), KeyEncryption(secret), clock=clock or Times())


async def test_many_workers_agree(database: Database) -> None:
    """Whoever comes first makes the keys; all sign with the same."""
    workers = [service(database) for _ in range(4)]
    for algorithm in ALGORITHMS:
        keys = await asyncio.gather(*(worker.signing_key(algorithm) for worker in workers))
        assert len({key.kid for key in keys}) == 1
        assert await workers[0].verification_key(keys[0].kid) is not None
    assert len(await workers[0].published()) == 3
    assert [state for _, state in await workers[0].states()] == ["active"] * 3


async def test_private_parts_are_not_in_the_database(database: Database) -> None:
    """What is stored tells nothing to whoever has no secret key."""
    key = await service(database).signing_key("ES256")
    stored = next(stored for stored in await SigningKeyRepository(database).published() if stored.kid == key.kid)
    assert str(key.key.as_dict(private=True)["d"]).encode() not in stored.private_key
    assert "d" not in stored.public_key
    with pytest.raises(KeyUnreadableError, match="AUTHLY_SECRET_KEY"):
        await service(database, b"t" * 32).signing_key("ES256")


async def test_rotation(database: Database) -> None:
    """The successor is published first, then signs, then the old key goes; everybody knows it beforehand."""
    worker, now = service(database), FakeClock()
    first = await worker.signing_key("ES256")
    assert await worker.rotate("ES256", signs_after=5 * MINUTE, overlap=20 * MINUTE)
    states = {key.kid: state for key, state in await worker.states() if key.algorithm == "ES256"}
    (second,) = states.keys() - {first.kid}
    assert states == {first.kid: "active", second: "pending"}
    assert (await worker.signing_key("ES256")).kid == first.kid

    # The same rows, seen later: nobody has to change anything.
    now.now = next(key.active_at for key in await worker.published() if key.kid == second)
    later = SigningKeyService(SigningKeyRepository(database), KeyEncryption(b"s" * 32), clock=Times(), now=now)
    assert (await later.signing_key("ES256")).kid == second
    assert {key.kid: state for key, state in await later.states() if key.algorithm == "ES256"} == {
        first.kid: "retiring",
        second: "active",
    }
    assert await later.verification_key(first.kid) is not None
    now.advance(minutes=21)
    assert await later.verification_key(first.kid) is None
    assert (await later.signing_key("ES256")).kid == second


async def test_keys_of_others_are_found(database: Database) -> None:
    """A key that another worker made is looked for, but not at every question."""
    clock = Times()
    worker = service(database, clock=clock)
    await worker.published()
    await service(database).rotate("ES256", signs_after=MINUTE, overlap=MINUTE)
    (new,) = {key.kid for key, _ in await service(database).states()} - {key.kid for key in await worker.published()}
    assert await worker.verification_key(new) is None  # asked a moment ago
    clock.now += 1.5
    assert await worker.verification_key(new) is not None


async def test_keys_are_due_in_time(database: Database) -> None:
    """A key is due when it has signed for its lifetime, and its successor is not, though it does not sign yet."""
    now = FakeClock()
    rotation = Rotation(lifetime=timedelta(days=90))
    worker = SigningKeyService(
        SigningKeyRepository(database), KeyEncryption(b"s" * 32), rotation, clock=Times(), now=now
    )
    now.now = (await worker.signing_key("ES256")).active_at
    assert await worker.due() == []
    now.advance(days=91)
    assert sorted(await worker.due()) == sorted(ALGORITHMS)
    assert await worker.rotate("ES256")
    (old, new) = [key for key, _ in await worker.states() if key.algorithm == "ES256"]
    assert new.active_at - old.active_at >= rotation.max_age + rotation.refresh
    assert old.expires_at is not None
    assert old.expires_at - new.active_at >= rotation.longest_token + rotation.max_age
    forever = SigningKeyService(
        SigningKeyRepository(database), KeyEncryption(b"s" * 32), Rotation(lifetime=None), clock=Times(), now=now
    )
    assert await forever.due() == []


def test_encryption_is_bound_to_the_id() -> None:
    """A private key that was moved to another row, or cut, cannot be read."""
    encryption = KeyEncryption(b"s" * 32)
    encrypted = encryption.encrypt(b"private", "one")
    assert encryption.decrypt(encrypted, "one") == b"private"
    assert encryption.encrypt(b"private", "one") != encrypted
    for wrong, kid in ((encrypted, "two"), (encrypted[:-1], "one"), (b"x" * 40, "one")):
        with pytest.raises(KeyUnreadableError):
            encryption.decrypt(wrong, kid)
