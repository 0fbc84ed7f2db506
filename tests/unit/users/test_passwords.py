"""Passwords: which are accepted, how they are hashed, and that nobody waits for it who does not have to."""

import asyncio
import os
import threading
import time

import argon2
import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import ThreadPool
from authly.monitoring.runtime_metrics import RuntimeMetrics
from authly.users.passwords import (
    HasherBusyError,
    HashParameters,
    PasswordHasher,
    PasswordPolicy,
    PasswordRefusedError,
    generate_password,
)

pytestmark = pytest.mark.anyio

CHEAP = HashParameters(time_cost=1, memory_kib=8)


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


async def test_a_hash_is_argon2id_with_the_parameters() -> None:
    """Another implementation's reading of the hash says which function and which costs; it verifies it, too."""
    made = await PasswordHasher(HashParameters(2, 64, 3)).hash("sesame sesame")
    assert made.startswith("$argon2id$v=19$m=64,t=2,p=3$")
    assert argon2.PasswordHasher().verify(made, "sesame sesame")


async def test_verifying() -> None:
    """The right password is right, every other one is wrong, and so are all without a hash."""
    hasher = PasswordHasher(CHEAP)
    made = await hasher.hash("correct horse")
    assert await hasher.verify(made, "correct horse")
    for wrong in ("", "correct horse ", "Correct horse", "correct\0horse", "\ud800", "x" * 100_000):
        assert not await hasher.verify(made, wrong)
    assert not await hasher.verify(None, "correct horse")
    assert not await hasher.verify("", "correct horse")
    assert not await hasher.verify("$argon2id$nonsense", "correct horse")


async def test_the_same_characters_typed_otherwise_are_the_same_password() -> None:
    """An accent that was typed by itself is the same as the letter that has it (NFC)."""
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify(await hasher.hash("caf\u00e9 cr\u00e8me"), "cafe\u0301 cre\u0300me")


async def test_a_hash_with_other_parameters_is_outdated() -> None:
    """Whatever the difference is, also when less is asked for now."""
    made = await PasswordHasher(CHEAP).hash("sesame")
    assert not PasswordHasher(CHEAP).is_outdated(made)
    for other in (HashParameters(2, 8, 1), HashParameters(1, 16, 1), HashParameters(1, 16, 2)):
        assert PasswordHasher(other).is_outdated(made)


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work is done: one verification, with the same parameters and of as many bytes."""
    hasher = PasswordHasher(HashParameters(2, 64, 3))
    made = await hasher.hash("correct horse")
    await hasher.verify(None, "wrong horse")  # the first one makes the hash of nobody's password
    work: list[tuple[argon2.Parameters, bytes]] = []
    verify = argon2.PasswordHasher.verify

    def noted(self: argon2.PasswordHasher, password_hash: str, password: bytes) -> bool:
        work.append((argon2.extract_parameters(password_hash), password))
        return verify(self, password_hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", noted)
    monkeypatch.setattr(argon2.PasswordHasher, "hash", None)
    assert not await hasher.verify(made, "wrong horse")
    assert not await hasher.verify(None, "wrong horse")
    known, unknown = work
    assert known == unknown
    assert (known[0].time_cost, known[0].memory_cost) == (2, 64)


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    """Others have their turn many times during one hash."""
    hasher = PasswordHasher(HashParameters(4, 65536, 1))
    turns = 0
    hashing = asyncio.create_task(hasher.hash("correct horse"))
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10


async def test_threads_are_few_and_nice() -> None:
    """No more hash at once than allowed, and they leave requests the processor."""
    hasher = PasswordHasher(CHEAP, threads=2)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    niceness: dict[int, int] = {}

    def look() -> None:
        niceness[threading.get_ident()] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        time.sleep(0.01)

    await asyncio.gather(*(hasher._run("verify", look) for _ in range(20)))
    assert 1 <= len(niceness) <= 2
    assert all(one == max(own, 5) for one in niceness.values())
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


@pytest.mark.produces("authly_thread_pool_tasks", pool=("passwords",), state=("running", "waiting"))
async def test_whoever_comes_when_too_many_wait_is_turned_away(registry: CollectorRegistry) -> None:
    """The queue is bounded, and free again afterwards, also after somebody gave up waiting."""
    hasher = PasswordHasher(CHEAP, threads=1, queue=2)
    gate = threading.Event()
    waiting = [asyncio.create_task(hasher._run("verify", gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(HasherBusyError):
        await hasher.hash("one too many")
    assert (hasher.running(), hasher.waiting()) == (1, 2)
    metrics = RuntimeMetrics(Instruments("authly", registry))
    metrics.update_thread_pool(ThreadPool.PASSWORDS, hasher.running(), hasher.waiting())
    waiting[2].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await hasher.hash("welcome")
    assert (hasher.running(), hasher.waiting()) == (0, 0)


async def test_closing() -> None:
    """A closed hasher hashes nothing more, and nobody waits for it."""
    hasher = PasswordHasher(CHEAP)
    await hasher.hash("one")
    hasher.close()
    with pytest.raises(RuntimeError):
        await hasher.hash("two")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "too short"),
        ("eleven char", "too short"),
        ("x" * 1025, "too long"),
        ("aaaaaaaaaaaaaaaa", "too easy"),
        ("abababababababab", "too easy"),
        ("AdaLovelaceAdaLovelace12", "too easy"),
    ],
)
def test_bad_passwords_are_refused(password: str, reason: str) -> None:
    """Each with the reason in words."""
    with pytest.raises(PasswordRefusedError, match=reason):
        PasswordPolicy().check(password, "adalovelace")


@pytest.mark.parametrize("password", ["twelve chars", "x1" + "y2z3" * 255, "пароль из слов", "🐎🔋🖇️ four words"])
def test_good_passwords_are_accepted(password: str) -> None:
    """Long ones, of whatever characters."""
    PasswordPolicy().check(password, "ada")


def test_generated_passwords_are_accepted_and_differ() -> None:
    """They have well over a hundred bits, and no characters that are taken for one another."""
    made = {generate_password() for _ in range(1000)}
    assert len(made) == 1000
    for password in made:
        PasswordPolicy(29).check(password, "ada")
        assert not set("01lo") & set(password)
