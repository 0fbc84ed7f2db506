"""From services to what is counted of them at intervals."""

from collections.abc import Mapping
from pathlib import Path

from authly.core.clock import utc_now
from authly.core.level_collector import LevelCollector, Office
from authly.core.repository import Database, Repository
from authly.identity import Identity
from authly.monitoring.labels import KEY_STATES
from authly.monitoring.recorders import LevelRecorder
from authly.oauth.client_repository import ClientRepository
from authly.oauth.models import ClientType
from authly.oauth_server import OAuthServer
from authly.settings import Settings
from authly.shared_state import SharedState
from authly.tokens.repository import TokenRepository


class _Limit(Repository):
    async def apply(self, seconds: float) -> None:
        """Let each query of a transaction take so long and no longer."""
        await self._execute(
            "levels.limit", "SELECT set_config('statement_timeout', %s, true)", (f"{int(seconds * 1000)}ms",)
        )


def levels(
    settings: Settings,
    database: Database,
    identity: Identity,
    server: OAuthServer,
    shared: SharedState,
    directory: Path | None,
    metrics: LevelRecorder,
) -> LevelCollector:
    """Return what counts.

    Args:
        settings: what an operator chose.
        database: where tokens and clients are counted.
        identity: knows sessions.
        server: knows keys.
        shared: knows how much memory Valkey uses.
        directory: of the metric files, by which the worker that counts is elected.
        metrics: is told what there is.
    """
    # The server ends a count that takes long. Were it the worker, by breaking the connection, it would take the
    # database for away; so all of them together end before that.
    patience = settings.database_timeout / 4

    async def tokens_and_clients() -> None:
        with database.timed("levels.count"):
            access, refresh, by_type, sessions = await counts()
        metrics.update_active_tokens("access_token", access)
        metrics.update_active_tokens("refresh_token", refresh)
        for client_type, number in by_type.items():
            metrics.update_clients(client_type, number)
        metrics.update_active_sessions(sessions)

    async def counts() -> tuple[int, int, Mapping[ClientType, int], int]:
        async with database.transaction() as transaction:
            await _Limit(transaction).apply(patience)
            access, refresh = await TokenRepository(transaction).count_active()
            by_type = await ClientRepository(transaction).count_by_type()
            sessions = await identity.sessions.count(transaction)
        return access, refresh, by_type, sessions

    async def keys() -> None:
        states = await server.keys.states()
        found: list[str] = [state for _, state in states]
        for state in KEY_STATES:
            metrics.update_signing_keys(state, found.count(state))
        now = utc_now()
        ages = [(now - key.active_at).total_seconds() for key, state in states if state == "active"]
        metrics.update_signing_key_age(max(ages, default=0.0))

    async def cache() -> None:
        metrics.update_cache_memory(await shared.memory())

    return LevelCollector(
        Office(directory),
        {"tokens, clients and sessions": tokens_and_clients, "keys": keys, "cache": cache},
        settings.metrics_collection_interval,
    )
