"""How requests end, for whoever counts them: ``success``, or the error code that the client is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authly.core.repository import DatabaseUnavailableError
from authly.errors import OAuthError, ServerError, TemporarilyUnavailableError

SUCCESS = "success"


def outcome_of(error: BaseException) -> str:
    """Return the error code that an exception ends in."""
    if isinstance(error, OAuthError):
        return error.code
    if isinstance(error, DatabaseUnavailableError):
        return TemporarilyUnavailableError.code
    return ServerError.code


@contextmanager
def recorded(record: Callable[[str], None]) -> Iterator[None]:
    """Record how a block ends.

    Args:
        record: takes the outcome.
    """
    try:
        yield
    except BaseException as error:
        record(outcome_of(error))
        raise
    record(SUCCESS)
