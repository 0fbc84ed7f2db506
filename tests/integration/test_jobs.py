"""The election of the worker that runs jobs, by a real PostgreSQL."""

from collections.abc import AsyncIterator
from functools import partial

import psycopg
import pytest

from authly.core.database import connect
from authly.core.jobs import JOBS_LOCK, Election

pytestmark = pytest.mark.anyio


@pytest.fixture
async def members(database_url: str) -> AsyncIterator[list[Election]]:
    """Three workers that stand for election."""
    made = [Election(partial(connect, database_url), JOBS_LOCK) for _ in range(3)]
    yield made
    for member in made:
        await member.resign()


async def test_one_is_elected(members: list[Election]) -> None:
    """Of all members one is elected, and stays it."""
    for _ in range(3):
        assert [await member.is_won() for member in members] == [True, False, False]


async def test_whoever_resigns_is_followed(members: list[Election]) -> None:
    """The office is free as soon as its holder gives it up."""
    assert await members[0].is_won()
    assert not await members[1].is_won()
    await members[0].resign()
    assert await members[1].is_won()
    assert not await members[0].is_won()


async def test_a_lost_connection_loses_the_office(members: list[Election], database_url: str) -> None:
    """A member whose connection is cut notices before it works again, and another one is elected."""
    assert await members[0].is_won()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
    with pytest.raises(psycopg.OperationalError):
        await members[0].is_won()
    assert await members[1].is_won()
    assert not await members[0].is_won()
