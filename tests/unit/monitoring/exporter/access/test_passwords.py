"""Passwords are compared aside, in turn, and remembered."""

import threading
import time
from collections.abc import Iterator

import bcrypt
import pytest

from authly.monitoring.exporter.access import passwords
from authly.monitoring.exporter.access.passwords import MAX_PENDING, MAX_PENDING_PER_ADDRESS, Passwords
from tests.processes import wait_until

HASHES = [bcrypt.hashpw(b"right", bcrypt.gensalt(cost)).decode() for cost in (4, 5)]
USERS = {"a": HASHES[0], "b": HASHES[1]}


class Slow:
    """Stands in for bcrypt: waits until it may go on, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.proceed = threading.Event()

    def __call__(self, password: bytes, hash_: bytes) -> bool:
        """Compare, in time."""
        self.asked.append((password, hash_))
        assert self.proceed.wait(20)
        return password == b"right"


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Return a comparison that goes on when the test ends, at the latest."""
    made = Slow()
    yield made
    made.proceed.set()


class Outcomes:
    """Collects what was answered."""

    def __init__(self) -> None:
        self.given: list[bool | None] = []

    def __call__(self, outcome: bool | None) -> None:
        """Take an outcome."""
        self.given.append(outcome)


def test_outcomes_are_remembered() -> None:
    """The same question is answered at once the second time; another password or hash is another question."""
    checked = Passwords()
    outcomes = Outcomes()
    for password in (b"right", b"wrong"):
        assert checked.known(USERS, b"a", password) is None
        checked.ask(USERS, b"a", password, "1", outcomes)
    wait_until(lambda: len(outcomes.given) == 2)
    assert outcomes.given == [True, False]
    assert checked.known(USERS, b"a", b"right") is True
    assert checked.known(USERS, b"a", b"wrong") is False
    assert checked.known({"a": HASHES[1]}, b"a", b"right") is None
    assert checked.known(USERS, b"b", b"right") is None


@pytest.mark.parametrize("password", [b"", b"right\0", b"\xff\xfe", b"x" * 73])
def test_any_password_can_be_asked_about(password: bytes) -> None:
    """What bcrypt does not take is wrong, and nothing more."""
    checked, outcomes = Passwords(), Outcomes()
    checked.ask(USERS, b"a", password, "1", outcomes)
    wait_until(lambda: bool(outcomes.given))
    assert outcomes.given == [False]


def test_a_long_password_counts_as_in_go() -> None:
    """The first 72 bytes decide."""
    users = {"a": bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()}
    checked, outcomes = Passwords(), Outcomes()
    checked.ask(users, b"a", b"p" * 72 + b"more", "1", outcomes)
    wait_until(lambda: bool(outcomes.given))
    assert outcomes.given == [True]


def test_an_unknown_name_costs_what_a_known_one_costs(slow: Slow) -> None:
    """It is compared with a hash of a cost that some user has, the same at each attempt; it is never right."""
    slow.proceed.set()
    checked, outcomes = Passwords(slow), Outcomes()
    for number in range(80):
        checked.ask(USERS, b"nobody%d" % (number % 40), b"right", "1", outcomes)
        wait_until(lambda: len(outcomes.given) == number + 1)  # noqa: B023 - waited for within the turn
    costs = [int(hash_[4:6]) for _, hash_ in slow.asked]
    assert set(costs) == {4, 5}
    assert costs[:40] == costs[40:]
    assert set(outcomes.given) == {False}
    assert not bcrypt.checkpw(b"right", (passwords._NOBODYS % 4).encode())


def test_the_same_question_is_asked_once(slow: Slow) -> None:
    """Several who wait for one outcome get it together; of one address no more than may wait."""
    checked, outcomes = Passwords(slow), Outcomes()
    checked.ask(USERS, b"a", b"first", "1", outcomes)
    wait_until(lambda: len(slow.asked) == 1)
    for _ in range(MAX_PENDING_PER_ADDRESS + 5):
        checked.ask(USERS, b"a", b"right", "1", outcomes)
    assert outcomes.given == [None] * 5
    slow.proceed.set()
    wait_until(lambda: len(outcomes.given) == MAX_PENDING_PER_ADDRESS + 6)
    assert [password for password, _ in slow.asked] == [b"first", b"right"]


def test_addresses_take_turns(slow: Slow) -> None:
    """Who comes with one question waits for one of each other address, not for all of them."""
    checked, outcomes = Passwords(slow), Outcomes()
    checked.ask(USERS, b"a", b"first", "0", outcomes)
    wait_until(lambda: len(slow.asked) == 1)
    for number in range(MAX_PENDING_PER_ADDRESS):
        checked.ask(USERS, b"a", b"guess%d" % number, "1", outcomes)
    checked.ask(USERS, b"a", b"right", "2", outcomes)
    slow.proceed.set()
    wait_until(lambda: len(outcomes.given) == MAX_PENDING_PER_ADDRESS + 2)
    assert [password for password, _ in slow.asked].index(b"right") == 2


def test_no_more_wait_than_may(slow: Slow) -> None:
    """Beyond the number for an address, and that for all, one is refused at once; those of others stay."""
    checked, outcomes = Passwords(slow), Outcomes()
    checked.ask(USERS, b"a", b"first", "0", outcomes)
    wait_until(lambda: len(slow.asked) == 1)
    checked.ask(USERS, b"a", b"right", "mine", outcomes)
    for number in range(100):
        checked.ask(USERS, b"a", b"guess%d" % number, "1", outcomes)
    assert outcomes.given == [None] * (100 - MAX_PENDING_PER_ADDRESS)
    for number in range(100):
        checked.ask(USERS, b"a", b"guess%d" % number, f"2.{number // 20}", outcomes)
    assert sum(len(check.waiting) for turns in checked._turns.values() for check in turns.values()) <= MAX_PENDING
    slow.proceed.set()
    wait_until(lambda: len(outcomes.given) == 202)
    assert True in outcomes.given


def test_the_thread_that_answers_goes_on_meanwhile() -> None:
    """While bcrypt computes, another thread runs."""
    checked, outcomes = Passwords(), Outcomes()
    users = {"a": bcrypt.hashpw(b"right", bcrypt.gensalt(10)).decode()}
    checked.ask(users, b"a", b"right", "1", outcomes)
    turns = 0
    while not outcomes.given:
        time.sleep(0.001)
        turns += 1
    assert outcomes.given == [True]
    assert turns > 5
