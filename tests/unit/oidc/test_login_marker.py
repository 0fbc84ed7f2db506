"""Markers: bound to one request, and met by a later login alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from authly.oidc.login_marker import LoginMarkers, is_since
from authly.sessions.models import Session

NOW = datetime(2026, 11, 25, 12, 0, 0, 5, tzinfo=UTC)
SESSION = Session(uuid4(), uuid4(), NOW, ("pwd",), None, None, NOW, NOW, NOW + timedelta(hours=1))
MARKERS = LoginMarkers(b"k" * 32)


def test_before_and_after() -> None:
    """The login that there was is not the one that is demanded; a later one is, by however little."""
    query, before = MARKERS.read(MARKERS.mark(b"client_id=a", SESSION))
    assert query == b"client_id=a"
    assert not is_since(SESSION, before)
    assert is_since(replace(SESSION, authenticated_at=NOW + timedelta(microseconds=1)), before)
    assert not is_since(SESSION, None)


def test_without_a_session() -> None:
    """Where nobody was logged in any login will do."""
    _, before = MARKERS.read(MARKERS.mark(b"", None))
    assert is_since(SESSION, before)


@given(st.binary())
def test_any_query(query: bytes) -> None:
    """A query comes back as it was, and one without a marker has none."""
    assert MARKERS.read(MARKERS.mark(query, SESSION))[0] == query
    assert MARKERS.read(query) == (query, None)


@given(st.binary(min_size=1), st.integers(0, 200))
def test_changed(change: bytes, place: int) -> None:
    """A marker that was changed, was made with another key or stands behind another query is none."""
    marked = MARKERS.mark(b"client_id=a&prompt=login", SESSION)
    for wrong in (
        marked[: place % len(marked)] + change + marked[place % len(marked) :],
        LoginMarkers(b"x" * 32).mark(b"client_id=a&prompt=login", SESSION),
        marked.replace(b"client_id=a", b"client_id=b"),
    ):
        assert MARKERS.read(wrong)[1] is None
