"""The schema of the database: numbered SQL files, applied in order and never changed again.

Owns ``sql/NNNN_name.sql``, the table ``schema_migrations`` that records what was applied, and the row that names this
installation. Knows nothing of what the tables are for.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

_DIRECTORY = Path(__file__).parent / "sql"
_FILE_NAME = re.compile(r"(?P<number>[0-9]{4})_(?P<name>[a-z0-9_]+)\.sql")
# Any number does, as long as nobody else uses it in this database: "authly" in ASCII.
_LOCK = 0x617574686C79
_CREATE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(RuntimeError):
    """The schema cannot be brought up to date; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What is recorded of the text, to notice that it was changed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


@dataclass(frozen=True, slots=True)
class _Applied:
    number: int
    name: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def read_migrations(directory: Path = _DIRECTORY) -> list[Migration]:
    """Read the migrations of a directory, in order.

    Raises:
        MigrationError: a file is not called ``NNNN_name.sql``, or the numbers are not 1, 2, 3 and so on.
    """
    migrations = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path} is not called NNNN_name.sql. Rename it.")
        migrations.append(Migration(int(match["number"]), match["name"], path.read_text(encoding="utf-8")))
        if migrations[-1].number != len(migrations):
            raise MigrationError(
                f"Migration {len(migrations):04} is missing or there twice: {path} comes instead of it. Install "
                "Authly again, or number the files without a gap."
            )
    return migrations


async def migrate(
    connection: AsyncConnection[TupleRow], migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """Apply what has not been applied yet and return it.

    Safe to call in any number of processes at once: each step is taken by one of them. A step that fails leaves
    nothing behind, and those before it stay.

    Args:
        connection: a connection in autocommit mode.
        migrations: what to apply; by default what this version of Authly brings.

    Raises:
        MigrationError: the database and the files contradict each other, or a step failed.
        psycopg.OperationalError: the database went away; try again.
    """
    known = read_migrations() if migrations is None else migrations
    done = []
    while (migration := await _apply_next(connection, known)) is not None:
        done.append(migration)
    return done


async def pending(
    connection: AsyncConnection[TupleRow], migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """Return what has not been applied yet, changing nothing.

    Raises:
        MigrationError: the database and the files contradict each other.
    """
    known = read_migrations() if migrations is None else migrations
    found = await connection.execute("SELECT to_regclass('schema_migrations')")
    if await found.fetchone() == (None,):
        return list(known)
    return list(known[await _count_applied(connection, known) :])


async def installation_id(connection: AsyncConnection[TupleRow]) -> UUID:
    """Return the name of this installation: as old as its database."""
    row = await (await connection.execute("SELECT id FROM installation")).fetchone()
    if row is None:
        raise MigrationError("The table installation is empty. Restore the database from a backup.")
    return UUID(str(row[0]))


async def _apply_next(connection: AsyncConnection[TupleRow], known: Sequence[Migration]) -> Migration | None:
    async with connection.transaction():
        # Held to the end of the transaction: whoever waits here finds this step applied. A lock of the session would
        # be lost behind a pooler that shares sessions.
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(_CREATE)
        count = await _count_applied(connection, known)
        if count == len(known):
            return None
        migration = known[count]
        try:
            await connection.execute(migration.sql.encode())
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise MigrationError(
                f"Migration {migration} failed and was undone: {str(error).splitlines()[0]}"
            ) from error
        await connection.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (migration.number, migration.name, migration.checksum),
        )
    return migration


async def _count_applied(connection: AsyncConnection[TupleRow], known: Sequence[Migration]) -> int:
    """Return how many migrations were applied, having checked that they are those that are known."""
    rows = await connection.execute("SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    applied = [_Applied(*row) for row in await rows.fetchall()]
    if len(applied) > len(known) or (applied and applied[-1].number > len(known)):
        newest = f"{known[-1]}" if known else "none"
        raise MigrationError(
            f"The database is newer than this version of Authly: it has migration {applied[-1]}, the newest known "
            f"here is {newest}. Start the version that was used last, or restore a backup made before it."
        )
    for place, (was, migration) in enumerate(zip(applied, known, strict=False), start=1):
        if was.number != place:
            raise MigrationError(f"The database lacks migration {place:04} but has {was}. Restore it from a backup.")
        if was.name != migration.name:
            raise MigrationError(
                f"The database has migration {was}, whose file is missing; {migration} is there instead. Install "
                "the version of Authly that belongs to this database."
            )
        if was.checksum != migration.checksum:
            raise MigrationError(
                f"The file of migration {migration} was changed after it had been applied. Restore the file, and "
                "put the change into a new migration."
            )
    return len(applied)
