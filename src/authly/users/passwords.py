"""Passwords: which are accepted, and how they are hashed without holding up anything else."""

import asyncio
import contextlib
import os
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from authly.monitoring.recorders import AuthenticationRecorder, NullAuthenticationMetrics

T = TypeVar("T")
# Enough for any sentence; more would only be work.
_LONGEST = 1024
_NICENESS = 5


class PasswordRefusedError(ValueError):
    """A new password is not good enough; the message says why, to people."""


class HasherBusyError(RuntimeError):
    """So many passwords wait to be hashed that another would wait too long."""


@dataclass(frozen=True, slots=True)
class HashParameters:
    """What a hash costs (RFC 9106, section 4)."""

    time_cost: int = 3
    memory_kib: int = 65536
    parallelism: int = 1


class PasswordPolicy:
    """Says which passwords are accepted: long ones (NIST SP 800-63B-4, section 3.1.1.2).

    Args:
        min_length: in characters.
    """

    def __init__(self, min_length: int = 12) -> None:
        self.min_length = min_length

    def check(self, password: str, username: str) -> None:
        """Check a new password.

        Raises:
            PasswordRefusedError: it is too short, too long, or too easy to guess.
        """
        if len(password) < self.min_length:
            raise PasswordRefusedError(f"The password is too short: it needs at least {self.min_length} characters.")
        if len(password) > _LONGEST:
            raise PasswordRefusedError(f"The password is too long: it may have {_LONGEST} characters.")
        rest = password.casefold().replace(username.casefold(), "")
        if len(set(rest)) < 5:
            raise PasswordRefusedError("The password is too easy to guess: use more different characters or words.")


def generate_password() -> str:
    """Return a password that nobody guesses, in groups that can be read aloud."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(5))


class PasswordHasher:
    """Hashes and verifies with Argon2id, in threads of its own.

    The threads are few, for each takes a core and much memory; they are nice, so that requests go first; and so many
    may wait for them and no more.

    Args:
        parameters: what a hash costs.
        threads: how many hash at once, in this process.
        queue: how many may wait for them.
        metrics: is told how long each took.
    """

    def __init__(
        self,
        parameters: HashParameters = HashParameters(),
        threads: int = 1,
        queue: int = 64,
        metrics: AuthenticationRecorder | None = None,
    ) -> None:
        self._metrics = metrics or NullAuthenticationMetrics()
        self._argon2 = argon2.PasswordHasher(
            time_cost=parameters.time_cost,
            memory_cost=parameters.memory_kib,
            parallelism=parameters.parallelism,
            type=argon2.Type.ID,
        )
        # Threads start with the first password, and so in the worker and not before a fork.
        self._threads = ThreadPoolExecutor(threads, "authly-password", initializer=_be_nice)
        self._at_once = threads
        self._places = threads + queue
        self._taken = 0
        # Somebody's who does not exist, to take the same time over them.
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash of a password.

        Raises:
            HasherBusyError: too many wait already.
        """
        return await self._run("hash", lambda: self._argon2.hash(_bytes(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether a password is the one that was hashed; takes the same time where there is none.

        Raises:
            HasherBusyError: too many wait already.
        """
        if len(password) > _LONGEST:
            password_hash = None
            password = ""
        return await self._run("verify", lambda: self._verify(password_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash was made with other parameters than those of today."""
        return self._argon2.check_needs_rehash(password_hash)

    def running(self) -> int:
        """Return how many passwords are being hashed."""
        return min(self._taken, self._at_once)

    def waiting(self) -> int:
        """Return how many passwords wait to be hashed."""
        return self._taken - self.running()

    def close(self) -> None:
        """End the threads; what waits is not hashed."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str | None, password: str) -> bool:
        if self._nobody is None:
            self._nobody = self._argon2.hash(secrets.token_bytes(16))
        try:
            self._argon2.verify(password_hash or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    async def _run(self, operation: str, work: Callable[[], T]) -> T:
        if self._taken >= self._places:
            raise HasherBusyError("Too many people log in at this moment.")
        self._taken += 1
        try:
            result, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, _timed, work)
            self._metrics.password_hashed(operation, seconds)
            return result
        finally:
            self._taken -= 1


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _bytes(password: str) -> bytes:
    # The same characters can be typed in more than one way (NIST SP 800-63B-4, section 3.1.1.2).
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _be_nice() -> None:
    with contextlib.suppress(OSError):
        # In Linux a thread has a niceness of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
