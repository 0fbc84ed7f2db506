"""A real Valkey for tests, which a test may kill and start again at the same address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.valkey import Valkey, running

__all__ = ["Valkey"]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A running Valkey, which the tests of a module share."""
    with running() as server:
        yield server


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running Valkey of one test alone."""
    server = Valkey(tmp_path).start()
    yield server
    server.kill()
