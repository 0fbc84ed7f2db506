"""How clients are called: the same by all workers, differently under another secret, and so many and no more."""

import hashlib
import hmac
import logging
import os
from pathlib import Path

import pytest

from authly.monitoring.client_labels import MOST_CLIENTS, HashedClientLabels, NoClientLabels, label_of
from authly.monitoring.multiprocess import directory as directories
from authly.monitoring.multiprocess.shared_set import SharedSet

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def test_a_name_needs_the_key() -> None:
    """A name is HMAC-SHA256 of the client id, shortened to 12 hexadecimal digits."""
    expected = hmac.new(KEY, b"shop", hashlib.sha256).hexdigest()[:12]
    assert label_of(KEY, "shop") == expected
    assert label_of(OTHER_KEY, "shop") != expected
    assert HashedClientLabels(KEY, None).of("shop") == expected
    assert HashedClientLabels(KEY, None).of("") == ""
    assert NoClientLabels().of("shop") == ""


def test_an_instance_names_so_many_clients(tmp_path: Path) -> None:
    """The limit holds for all workers together, whoever comes and goes, and whichever of them meets a client first."""
    clients = [f"client-{number}" for number in range(MOST_CLIENTS + 50)]
    seen = {}
    for index, client in enumerate(clients):
        # A worker lives for ten clients.
        if index % 10 == 0:
            workers = [HashedClientLabels(KEY, tmp_path) for _ in range(3)]
        seen[client] = workers[index % 3].of(client)
    assert set(seen.values()) == {label_of(KEY, client) for client in clients[:MOST_CLIENTS]} | {"other"}
    assert list(seen.values()).count("other") == 50
    late = HashedClientLabels(KEY, tmp_path)
    assert {client: late.of(client) for client in clients} == seen
    assert not any(client in (tmp_path / "shared_clients.set").read_text() for client in clients)


@pytest.mark.parametrize("problem", ["nowhere", "directory"])
def test_without_the_file(tmp_path: Path, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that cannot write names down keeps them to itself, up to the same limit, and says so once."""
    folder = tmp_path / "nowhere" if problem == "nowhere" else tmp_path
    if problem == "directory":
        (tmp_path / "shared_clients.set").mkdir()
    labels = HashedClientLabels(KEY, folder, 2)
    with caplog.at_level(logging.WARNING):
        assert [labels.of(client) for client in ("a", "b", "c", "a")] == [
            label_of(KEY, "a"),
            label_of(KEY, "b"),
            "other",
            label_of(KEY, "a"),
        ]
    assert len(caplog.records) == 1


def test_the_file_belongs_to_an_instance(tmp_path: Path) -> None:
    """It is known to be Authly's, not for others to read, and deleted with the metric files of a dead instance."""
    shared = SharedSet(tmp_path, "clients", 2)
    assert shared.add("one")
    path = tmp_path / "shared_clients.set"
    assert path.stat().st_mode & 0o777 == 0o600
    assert directories.is_known(path.name)
    assert directories.is_known("levels.lock")
    (tmp_path / "shared_notes.set").write_text("somebody's notes, and not a set of ours")
    assert directories.clear(tmp_path) == ["shared_clients.set"]
    assert os.listdir(tmp_path) == ["shared_notes.set"]
