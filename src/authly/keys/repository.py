"""Where signing keys are kept."""

from datetime import timedelta

from psycopg.types.json import Jsonb

from authly.core.repository import Repository
from authly.keys.models import Algorithm, StoredKey

_COLUMNS = "kid, algorithm, public_key, private_key, created_at, active_at, expires_at"


class SigningKeyRepository(Repository):
    """The table ``signing_keys``."""

    async def published(self) -> list[StoredKey]:
        """Return the keys that verifiers are told of, oldest first."""
        return await self._all(
            "signing_keys.published",
            StoredKey,
            f"""
            SELECT {_COLUMNS} FROM signing_keys
            WHERE expires_at IS NULL OR expires_at > now() ORDER BY active_at, kid
            """,
        )

    async def find(self, kid: str) -> StoredKey | None:
        """Return a key, published or not."""
        return await self._one(
            "signing_keys.find", StoredKey, f"SELECT {_COLUMNS} FROM signing_keys WHERE kid = %s", (kid,)
        )

    async def add_first(self, kid: str, algorithm: Algorithm, public: dict[str, str], private: bytes) -> bool:
        """Add a key that signs at once, unless there is one of its algorithm; tell whether it was added."""
        return (
            await self._execute(
                "signing_keys.add_first",
                "INSERT INTO signing_keys (kid, algorithm, public_key, private_key, active_at) "
                "VALUES (%s, %s, %s, %s, now()) ON CONFLICT DO NOTHING",
                (kid, algorithm, Jsonb(public), private),
            )
            == 1
        )

    async def succeed(
        self,
        kid: str,
        algorithm: Algorithm,
        public: dict[str, str],
        private: bytes,
        *,
        signs_after: timedelta,
        overlap: timedelta,
    ) -> bool:
        """Add the successor of the youngest key of an algorithm; tell whether nobody else was quicker.

        Args:
            kid: of the successor.
            algorithm: of both.
            public: the successor's public part.
            private: the successor's private part, encrypted.
            signs_after: how long the successor is published before it signs.
            overlap: how long its predecessor is published after that.
        """
        return (
            await self._execute(
                "signing_keys.succeed",
                """
                WITH old AS (
                    UPDATE signing_keys SET expires_at = now() + %(signs_after)s + %(overlap)s
                    WHERE algorithm = %(algorithm)s AND expires_at IS NULL RETURNING kid
                )
                INSERT INTO signing_keys (kid, algorithm, public_key, private_key, active_at)
                SELECT %(kid)s, %(algorithm)s, %(public)s, %(private)s, now() + %(signs_after)s FROM old
                """,
                {
                    "kid": kid,
                    "algorithm": algorithm,
                    "public": Jsonb(public),
                    "private": private,
                    "signs_after": signs_after,
                    "overlap": overlap,
                },
            )
            == 1
        )
