"""The secret key: made once, read ever after, and never used as it is."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authly.core.secret_key import SecretKey, SecretKeyError, read_or_create


def test_purposes_have_keys_of_their_own() -> None:
    """A key is the same for the same purpose, and another for any other."""
    secret = SecretKey("s" * 32)
    assert secret.derive("a") == SecretKey("s" * 32).derive("a")
    assert len({secret.derive("a"), secret.derive("b"), SecretKey("t" * 32).derive("a")}) == 3
    assert len(secret.derive("a")) == 32


def test_everybody_gets_the_same(tmp_path: Path) -> None:
    """Many workers that begin at once make one key, which only its owner can read."""
    state = tmp_path / "state"
    with ThreadPoolExecutor(16) as threads:
        keys = list(threads.map(lambda _: read_or_create(state).derive("x"), range(64)))
    assert len(set(keys)) == 1
    assert [path.name for path in state.iterdir()] == ["secret.key"]
    assert (state / "secret.key").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700


def test_what_is_no_key(tmp_path: Path) -> None:
    """A file that was cut is not used, and not replaced: what it encrypted would be lost."""
    (tmp_path / "secret.key").write_text("short\n")
    with pytest.raises(SecretKeyError, match="Restore it"):
        read_or_create(tmp_path)
    assert (tmp_path / "secret.key").read_text() == "short\n"


def test_nowhere_to_keep_it(tmp_path: Path) -> None:
    """The message says what to do."""
    (tmp_path / "state").write_text("a file")
    with pytest.raises(SecretKeyError, match="AUTHLY_SECRET_KEY"):
        read_or_create(tmp_path / "state")
