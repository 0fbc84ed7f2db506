"""Words for connection errors."""

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from authly.core.database import explain

URL = "postgresql://authly:sesame@db/authly"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (psycopg.OperationalError("connection failed: Connection refused\n\tIs the server"), "connection refused"),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (PoolTimeout("couldn't get a connection after 0.50 sec"), "no connection became free in time"),
        (psycopg.OperationalError("FATAL:  the database system is starting up"), "the server is starting up"),
        (psycopg.OperationalError("something with sesame in it\nand more"), "something with *** in it"),
        (psycopg.OperationalError(""), "OperationalError"),
    ],
)
def test_errors_in_words(error: Exception, reason: str) -> None:
    """Each kind of trouble has one line of its own, without the password."""
    assert explain(error, URL) == reason


def test_url_that_is_none() -> None:
    """A URL that cannot be understood is not repeated, for its password may be anywhere in it."""
    error = psycopg.ProgrammingError('invalid port in "postgresql://authly:sesame@db:x/authly"')
    assert explain(error, "postgresql://authly:sesame@[db/authly") == "the database URL cannot be understood"
