"""The time of day, as services are given it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time, aware of its zone."""
    return datetime.now(UTC)
