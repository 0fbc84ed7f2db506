"""Compare passwords with bcrypt hashes, in a thread beside the one that answers, without letting strangers fill it.

A check takes a tenth of a second on purpose. Its outcome is remembered, so that whoever may look waits once; and those
of different addresses take turns, so that one who guesses delays nobody but himself.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import bcrypt

MAX_PENDING = 32
MAX_PENDING_PER_ADDRESS = 4
_MAX_REMEMBERED = 256
# More would be cut off by some implementations and refused by others; Go, and so the toolkit, cuts off.
_MAX_PASSWORD = 72
# A hash in form, of which nobody knows a password.
_NOBODYS = "$2b$%02d$" + "." * 53

T = TypeVar("T")


class _Check(NamedTuple):
    """A question that waits for its turn, and who waits for the answer."""

    hash: str
    password: bytes
    is_user: bool
    waiting: list[Callable[[bool | None], None]]


class Passwords:
    """Tells whether a name and a password belong together.

    Args:
        compare: takes a password and a bcrypt hash; for tests.
    """

    def __init__(self, compare: Callable[[bytes, bytes], bool] = bcrypt.checkpw) -> None:
        self._compare = compare
        # Outcomes are kept under a keyed hash: what lies in memory is no password, and nothing to guess one by.
        self._secret = os.urandom(32)
        self._accepted: dict[bytes, None] = {}
        self._rejected: dict[bytes, None] = {}
        self._turns: dict[str, dict[bytes, _Check]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def known(self, users: Mapping[str, str], name: bytes, password: bytes) -> bool | None:
        """Return the outcome of a check that was made before; None if there was none."""
        key, _, _ = self._question(users, name, password)
        with self._changed:
            if key in self._accepted:
                return True
            return False if key in self._rejected else None

    def ask(
        self,
        users: Mapping[str, str],
        name: bytes,
        password: bytes,
        address: str,
        answer: Callable[[bool | None], None],
    ) -> None:
        """Let a check be made.

        Args:
            users: the hash of each user.
            name: of the user.
            password: as it was presented.
            address: who asks; those of one address share their turns.
            answer: called, most likely in another thread, with the outcome, or None where too many wait.
        """
        key, hash_, is_user = self._question(users, name, password)
        with self._changed:
            turns = self._turns.setdefault(address, {})
            if key not in turns:
                turns[key] = _Check(hash_, password, is_user, [answer])
                refused = self._make_room(address)
            elif _waiting(turns) < MAX_PENDING_PER_ADDRESS:
                turns[key].waiting.append(answer)
                return
            else:
                refused = _Check(hash_, password, is_user, [answer])
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="passwords", daemon=True)
                self._thread.start()
            self._changed.notify()
        for give in refused.waiting if refused else ():
            give(None)

    def _question(self, users: Mapping[str, str], name: bytes, password: bytes) -> tuple[bytes, str, bool]:
        """Return what to remember the outcome by, the hash to compare with, and whether it is that of a user."""
        hash_ = users.get(name.decode("utf-8", "surrogateescape"))
        digest = hashlib.blake2b(key=self._secret)
        for part in (name, (hash_ or "").encode(), password):
            digest.update(b"%d:" % len(part) + part)
        is_user = hash_ is not None
        if hash_ is None:
            # Costs what some user's costs, and always the same for one name, so that time does not tell who exists.
            costs = sorted(int(known[4:6]) for known in users.values()) or [10]
            chosen = hashlib.blake2b(name, key=self._secret, digest_size=8).digest()
            hash_ = _NOBODYS % costs[int.from_bytes(chosen, "big") % len(costs)]
        return digest.digest(), hash_, is_user

    def _make_room(self, address: str) -> _Check | None:
        """Take out a check, where there are more than may wait: any, so that nobody can push out a certain one."""
        numbers = {other: _waiting(turns) for other, turns in self._turns.items()}
        if numbers[address] > MAX_PENDING_PER_ADDRESS:
            crowded = address
        elif sum(numbers.values()) > MAX_PENDING:
            most = max(numbers.values())
            crowded = _any_of([other for other, number in numbers.items() if number == most])
        else:
            return None
        turns = self._turns[crowded]
        refused = turns.pop(_any_of(list(turns)))
        if not turns:
            del self._turns[crowded]
        return refused

    def _work(self) -> None:
        # Less important than requests: not even a core's worth of guesses slows the workers down by much.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while True:
            with self._changed:
                while not self._turns:
                    self._changed.wait()
                address = next(iter(self._turns))
                turns = self._turns.pop(address)
                key = next(iter(turns))
                check = turns.pop(key)
                if turns:
                    # Behind the others.
                    self._turns[address] = turns
            outcome = self._is_right(check)
            with self._changed:
                _remember(self._accepted if outcome else self._rejected, key)
            for give in check.waiting:
                give(outcome)

    def _is_right(self, check: _Check) -> bool:
        try:
            return self._compare(check.password[:_MAX_PASSWORD], check.hash.encode()) and check.is_user
        except ValueError:
            return False  # a password that bcrypt does not take, such as one with a zero byte


def _waiting(turns: Mapping[bytes, _Check]) -> int:
    return sum(len(check.waiting) for check in turns.values())


def _any_of(choices: Sequence[T]) -> T:
    # Not the random module, for its memory.
    return choices[int.from_bytes(os.urandom(4), "big") % len(choices)]


def _remember(outcomes: dict[bytes, None], key: bytes) -> None:
    outcomes[key] = None
    if len(outcomes) > _MAX_REMEMBERED:
        del outcomes[next(iter(outcomes))]
