"""The SQL of pushed authorization requests."""

from collections.abc import Sequence
from datetime import timedelta

from psycopg.types.json import Jsonb

from authly.core.repository import Repository
from authly.oauth.parameters import Parameters


class PushedRequestRepository(Repository):
    """Keeps pushed authorization requests."""

    async def add(
        self, request_uri_hash: bytes, client_id: str, parameters: Sequence[tuple[str, str]], lifetime: timedelta
    ) -> None:
        """Add a request."""
        await self._execute(
            "pushed_requests.add",
            """
            INSERT INTO pushed_authorization_requests (request_uri_hash, client_id, parameters, expires_at)
            VALUES (%s, %s, %s, now() + %s)
            """,
            (request_uri_hash, client_id, Jsonb([list(pair) for pair in parameters]), lifetime),
        )

    async def find(self, request_uri_hash: bytes, client_id: str) -> Parameters | None:
        """Return a client's request that has neither expired nor been used."""
        return await self._one(
            "pushed_requests.find",
            _parameters,
            """
            SELECT parameters FROM pushed_authorization_requests
            WHERE request_uri_hash = %s AND client_id = %s AND used_at IS NULL AND expires_at > now()
            """,
            (request_uri_hash, client_id),
        )

    async def use(self, request_uri_hash: bytes) -> bool:
        """Note that a request was answered; tell whether it had not been before."""
        return (
            await self._execute(
                "pushed_requests.use",
                """
            UPDATE pushed_authorization_requests SET used_at = now()
            WHERE request_uri_hash = %s AND used_at IS NULL AND expires_at > now()
            """,
                (request_uri_hash,),
            )
            == 1
        )

    async def delete_expired(self, limit: int) -> int:
        """Delete at most so many requests that have expired; return how many it were."""
        return await self._execute(
            "pushed_requests.delete_expired",
            """
            DELETE FROM pushed_authorization_requests WHERE request_uri_hash IN (
                SELECT request_uri_hash FROM pushed_authorization_requests WHERE expires_at < now()
                LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (limit,),
        )


def _parameters(*, parameters: Sequence[tuple[str, str]]) -> Parameters:
    return Parameters((name, value) for name, value in parameters)
