"""Reading migration files."""

from pathlib import Path

import pytest

from authly.core.migrations import Migration, MigrationError, read_migrations


def test_own_files_are_in_order() -> None:
    """The migrations that Authly brings are numbered without a gap and none is empty."""
    migrations = read_migrations()
    assert [migration.number for migration in migrations] == list(range(1, len(migrations) + 1))
    assert all(migration.sql.strip() for migration in migrations)


def test_checksum_follows_the_text() -> None:
    """Two texts that differ in one character have different checksums."""
    assert Migration(1, "a", "SELECT 1").checksum != Migration(1, "a", "SELECT 2").checksum


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0003_c.sql"], "Migration 0002 is missing or there twice: .*0003_c.sql"),
        (["0001_a.sql", "0001_b.sql"], "Migration 0002 is missing or there twice: .*0001_b.sql"),
        (["0002_a.sql"], "Migration 0001 is missing"),
        (["1_a.sql"], "1_a.sql is not called NNNN_name.sql"),
        (["0001-a.sql"], "0001-a.sql is not called NNNN_name.sql"),
    ],
)
def test_wrong_names(tmp_path: Path, names: list[str], message: str) -> None:
    """A gap, a number used twice and a name of another form are errors that name the file."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=message):
        read_migrations(tmp_path)
