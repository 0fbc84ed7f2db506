"""By what clients know users."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from authly.oauth.models import AuthMethod, Client, ClientSettings, ClientType, SubjectType
from authly.oauth.subjects import SectorError, Subjects, sector_of

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def client(**settings: Any) -> Client:
    """Return a client."""
    wanted = {"subject_type": SubjectType.PAIRWISE, "redirect_uris": ("https://a.example/one",), **settings}
    return Client(
        "client", ClientType.CONFIDENTIAL, AuthMethod.CLIENT_SECRET_BASIC, ClientSettings("Test", **wanted), NOW, NOW
    )


def test_pairwise() -> None:
    """A subject is always the same for a user and a sector, and another one for anything else, and for another key."""
    subjects, user_id = Subjects(b"k" * 32), uuid4()
    known = {
        subjects.of(client(), user_id),
        subjects.of(client(), uuid4()),
        subjects.of(client(sector_identifier="b.example"), user_id),
        Subjects(b"x" * 32).of(client(), user_id),
        subjects.of(client(subject_type=SubjectType.PUBLIC), user_id),
    }
    assert len(known) == 5
    assert str(user_id) in known
    assert subjects.of(client(redirect_uris=("https://a.example/two",)), user_id) in known
    assert subjects.of(client(sector_identifier="a.example"), user_id) in known


@pytest.mark.parametrize(
    "redirect_uris", [(), ("https://a.example/", "https://b.example/"), ("com.example.app:/callback",)]
)
def test_no_sector(redirect_uris: tuple[str, ...]) -> None:
    """A client whose addresses are of no host, or of several, has no sector unless one was chosen (Core 1.0, 8.1)."""
    with pytest.raises(SectorError, match="choose a sector_identifier"):
        sector_of(client(redirect_uris=redirect_uris).settings)
    assert sector_of(client(redirect_uris=redirect_uris, sector_identifier="c.example").settings) == "c.example"
