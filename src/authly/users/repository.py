"""The SQL of users and of their credentials."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from authly.core.repository import Repository
from authly.users.models import Profile, User, UserDataError

# Never an asterisk: a worker of the version before goes on while the next one adds a column.
_COLUMNS = "user_id, username, email, email_verified, name, claims, is_admin, disabled_at, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users are wanted; None wants any."""

    # Part of the username, the e-mail address or the name.
    text: str | None = None
    is_admin: bool | None = None
    disabled: bool | None = None


class UserRepository(Repository):
    """Keeps users."""

    async def add(self, user: User) -> None:
        """Add a user.

        Raises:
            UserDataError: the username or the verified e-mail address is another's.
        """
        try:
            await self._execute(
                "users.add",
                """
                INSERT INTO users (
                    user_id, username, email, email_verified, name, claims, is_admin, disabled_at, created_at,
                    updated_at
                )
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                """,
                (user.user_id, *_values(user.profile), user.disabled_at, user.created_at, user.updated_at),
            )
        except psycopg.errors.UniqueViolation as error:
            raise _taken(error) from error

    async def update(self, user_id: UUID, profile: Profile, now: datetime) -> User | None:
        """Change what is said about a user; None if there is no such user.

        Raises:
            UserDataError: the username or the verified e-mail address is another's.
        """
        try:
            return await self._one(
                "users.update",
                User,
                f"""
                UPDATE users
                SET username = %s, email = %s, email_verified = %s, name = %s, claims = %s, is_admin = %s,
                    updated_at = %s
                WHERE user_id = %s
                RETURNING {_COLUMNS}
                """,
                (*_values(profile), now, user_id),
            )
        except psycopg.errors.UniqueViolation as error:
            raise _taken(error) from error

    async def get(self, user_id: UUID) -> User | None:
        """Return a user."""
        return await self._one("users.get", User, f"SELECT {_COLUMNS} FROM users WHERE user_id = %s", (user_id,))

    async def get_for_update(self, user_id: UUID) -> User | None:
        """Return a user, whom nobody else changes until the end of the transaction."""
        return await self._one(
            "users.get_for_update", User, f"SELECT {_COLUMNS} FROM users WHERE user_id = %s FOR UPDATE", (user_id,)
        )

    async def find(self, username: str) -> User | None:
        """Return the user of a name, in whichever case it is written."""
        query = f"SELECT {_COLUMNS} FROM users WHERE lower(username) = lower(%s)"
        return await self._one("users.find", User, query, (username,))

    async def list(self, wanted: UserFilter, limit: int, after: tuple[datetime, UUID] | None = None) -> Sequence[User]:
        """Return users, the oldest first.

        Args:
            wanted: which.
            limit: how many at most.
            after: ``created_at`` and ``user_id`` of the last one of the page before.
        """
        return await self._all(
            "users.list",
            User,
            f"""
            SELECT {_COLUMNS} FROM users
            WHERE (%(text)s::text IS NULL
                   OR strpos(lower(concat_ws(' ', username, email, name)), lower(%(text)s)) > 0)
              AND (%(is_admin)s::boolean IS NULL OR is_admin = %(is_admin)s)
              AND (%(disabled)s::boolean IS NULL OR (disabled_at IS NOT NULL) = %(disabled)s)
              AND (%(created_at)s::timestamptz IS NULL
                   OR (created_at, user_id) > (%(created_at)s, %(user_id)s::uuid))
            ORDER BY created_at, user_id
            LIMIT %(limit)s
            """,
            {
                "text": wanted.text,
                "is_admin": wanted.is_admin,
                "disabled": wanted.disabled,
                "created_at": after and after[0],
                "user_id": after and after[1],
                "limit": limit,
            },
        )

    async def count(self) -> int:
        """Return how many users there are."""
        return await self._one("users.count", _count, "SELECT count(*) AS count FROM users") or 0

    async def set_disabled(self, user_id: UUID, disabled_at: datetime | None) -> bool:
        """Disable or enable a user; tell whether that changed anything."""
        return (
            await self._execute(
                "users.set_disabled",
                "UPDATE users SET disabled_at = %(at)s "
                "WHERE user_id = %(id)s AND (disabled_at IS NULL) <> (%(at)s::timestamptz IS NULL)",
                {"id": user_id, "at": disabled_at},
            )
            == 1
        )

    async def delete(self, user_id: UUID) -> bool:
        """Delete a user with all that is theirs; tell whether there was one."""
        return await self._execute("users.delete", "DELETE FROM users WHERE user_id = %s", (user_id,)) == 1

    async def claim_first_administrator(self, now: datetime) -> bool:
        """Take the task of creating the first administrator; tell whether nobody has done it.

        Whoever asks while another has the task waits for the end of the other's transaction.
        """
        return (
            await self._execute(
                "users.claim_first_administrator",
                "UPDATE installation SET administrator_created_at = %s WHERE administrator_created_at IS NULL",
                (now,),
            )
            == 1
        )


class CredentialRepository(Repository):
    """Keeps the hashes of passwords."""

    async def get(self, user_id: UUID) -> str | None:
        """Return the hash of a user's password; None if there is none."""
        return await self._one(
            "credentials.get", _hash, "SELECT password_hash FROM credentials WHERE user_id = %s", (user_id,)
        )

    async def set(self, user_id: UUID, password_hash: str, now: datetime) -> None:
        """Give a user a password."""
        await self._execute(
            "credentials.set",
            """
            INSERT INTO credentials (user_id, password_hash, changed_at) VALUES (%s, %s, %s)
            ON CONFLICT (user_id) DO UPDATE
            SET password_hash = excluded.password_hash, changed_at = excluded.changed_at
            """,
            (user_id, password_hash, now),
        )

    async def replace(self, user_id: UUID, old_hash: str, new_hash: str) -> bool:
        """Put another hash of the same password in place of one, unless the password was changed meanwhile.

        Whoever changes the password waits for the end of this transaction, even if both hashes are the same.
        """
        return (
            await self._execute(
                "credentials.replace",
                "UPDATE credentials SET password_hash = %s WHERE user_id = %s AND password_hash = %s",
                (new_hash, user_id, old_hash),
            )
            == 1
        )

    async def change(self, user_id: UUID, old_hash: str, new_hash: str, now: datetime) -> bool:
        """Give a user another password, unless it was changed meanwhile."""
        return (
            await self._execute(
                "credentials.change",
                "UPDATE credentials SET password_hash = %s, changed_at = %s WHERE user_id = %s AND password_hash = %s",
                (new_hash, now, user_id, old_hash),
            )
            == 1
        )


def _values(profile: Profile) -> tuple[Any, ...]:
    return (
        profile.username,
        profile.email,
        profile.email_verified,
        profile.name,
        Jsonb(dict(profile.claims)),
        profile.is_admin,
    )


def _taken(error: psycopg.errors.UniqueViolation) -> UserDataError:
    if error.diag.constraint_name == "users_verified_email":
        return UserDataError("Another user has proved to own this e-mail address.")
    return UserDataError("This username is taken.")


def _count(*, count: int) -> int:
    return count


def _hash(*, password_hash: str) -> str:
    return password_hash
