"""The SQL of clients, and of the assertions that authenticated them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from authly.core.repository import Repository
from authly.oauth.models import AuthMethod, Client, ClientSettings, ClientType, GrantType, SubjectType

# The URIs are read with the client: there is no use of the one without the other.
_COLUMNS = """
    client_id, name, type, token_endpoint_auth_method, secret_hash, jwks, grant_types, scopes,
    resources, require_consent, require_pushed_authorization_requests, access_token_ttl, enabled, require_pkce,
    subject_type, sector_identifier, id_token_signed_response_alg, userinfo_signed_response_alg,
    post_logout_redirect_uris, backchannel_logout_uri, created_at, updated_at,
    ARRAY(SELECT uri FROM client_redirect_uris WHERE client_id = clients.client_id ORDER BY uri) AS redirect_uris
"""


class ClientRepository(Repository):
    """Keeps clients."""

    async def find(self, client_id: str) -> Client | None:
        """Return a client."""
        return await self._one(
            "clients.find", _client, f"SELECT {_COLUMNS} FROM clients WHERE client_id = %s", (client_id,)
        )

    async def look_up(self, client_id: str) -> Client | None:
        """Return a client to whom nothing is about to be changed."""
        return await self.find(client_id)

    async def list(self, limit: int, offset: int, search: str | None = None) -> list[Client]:
        """Return clients by name; with a search, those whose name or id contains it."""
        return await self._all(
            "clients.list",
            _client,
            f"""
            SELECT {_COLUMNS} FROM clients
            WHERE %(search)s::text IS NULL OR strpos(lower(name || ' ' || client_id), lower(%(search)s)) > 0
            ORDER BY lower(name), client_id LIMIT %(limit)s OFFSET %(offset)s
            """,
            {"search": search, "limit": limit, "offset": offset},
        )

    async def has_origin(self, origin: str) -> bool:
        """Tell whether an enabled client has a redirect URI at an origin, such as ``https://app.example``."""
        found = await self._one(
            "clients.has_origin",
            _count,
            """
            SELECT count(*) FROM client_redirect_uris JOIN clients USING (client_id)
            WHERE enabled AND (uri = %(origin)s OR starts_with(uri, %(origin)s || '/')
                               OR starts_with(uri, %(origin)s || '?'))
            """,
            {"origin": origin},
        )
        return bool(found)

    async def count(self) -> int:
        """Return how many clients are enabled."""
        return await self._one("clients.count", _count, "SELECT count(*) FROM clients WHERE enabled") or 0

    async def count_by_type(self) -> dict[ClientType, int]:
        """Return how many clients of each type are enabled."""
        counted = await self._all(
            "clients.count_by_type",
            _type_and_count,
            "SELECT type AS client_type, count(*) AS number FROM clients WHERE enabled GROUP BY type",
        )
        return dict.fromkeys(ClientType, 0) | dict(counted)

    async def add(
        self,
        client_id: str,
        type_: ClientType,
        auth_method: AuthMethod,
        secret_hash: bytes | None,
        settings: ClientSettings,
    ) -> None:
        """Add a client."""
        await self._execute(
            "clients.add",
            """
            WITH client AS (
                INSERT INTO clients (
                    client_id, name, type, token_endpoint_auth_method, secret_hash, jwks,
                    grant_types, scopes, resources, require_consent, require_pushed_authorization_requests,
                    access_token_ttl, enabled, require_pkce, subject_type, sector_identifier,
                    id_token_signed_response_alg, userinfo_signed_response_alg, post_logout_redirect_uris,
                    backchannel_logout_uri
                )
                VALUES (
                    %(client_id)s, %(name)s, %(type)s, %(auth_method)s, %(secret_hash)s,
                    %(jwks)s, %(grant_types)s, %(scopes)s, %(resources)s, %(require_consent)s,
                    %(require_pushed)s, %(access_token_ttl)s, %(enabled)s, %(require_pkce)s, %(subject_type)s,
                    %(sector_identifier)s, %(id_token_algorithm)s, %(userinfo_algorithm)s,
                    %(post_logout_redirect_uris)s, %(backchannel_logout_uri)s
                )
            )
            INSERT INTO client_redirect_uris (client_id, uri)
            SELECT %(client_id)s, uri FROM unnest(%(redirect_uris)s::text[]) AS uri
            """,
            {
                "client_id": client_id,
                "type": type_.value,
                "auth_method": auth_method.value,
                "secret_hash": secret_hash,
                **_values(settings),
            },
        )

    async def update(self, client_id: str, settings: ClientSettings) -> bool:
        """Change what an operator may change; tell whether there is such a client."""
        updated = await self._one(
            "clients.update",
            _count,
            """
            WITH client AS (
                UPDATE clients SET
                    name = %(name)s, jwks = %(jwks)s,
                    grant_types = %(grant_types)s, scopes = %(scopes)s, resources = %(resources)s,
                    require_consent = %(require_consent)s, require_pushed_authorization_requests = %(require_pushed)s,
                    access_token_ttl = %(access_token_ttl)s, enabled = %(enabled)s, require_pkce = %(require_pkce)s,
                    subject_type = %(subject_type)s, sector_identifier = %(sector_identifier)s,
                    id_token_signed_response_alg = %(id_token_algorithm)s,
                    userinfo_signed_response_alg = %(userinfo_algorithm)s,
                    post_logout_redirect_uris = %(post_logout_redirect_uris)s,
                    backchannel_logout_uri = %(backchannel_logout_uri)s, updated_at = now()
                WHERE client_id = %(client_id)s
                RETURNING client_id
            ), gone AS (
                DELETE FROM client_redirect_uris USING client
                WHERE client_redirect_uris.client_id = client.client_id AND uri <> ALL(%(redirect_uris)s::text[])
            ), added AS (
                INSERT INTO client_redirect_uris (client_id, uri)
                SELECT client_id, uri FROM client, unnest(%(redirect_uris)s::text[]) AS uri
                ON CONFLICT DO NOTHING
            )
            SELECT count(*) FROM client
            """,
            {"client_id": client_id, **_values(settings)},
        )
        return updated == 1

    async def set_secret(self, client_id: str, secret_hash: bytes) -> bool:
        """Replace a client's secret; tell whether there is such a client, and it has one."""
        return (
            await self._execute(
                "clients.set_secret",
                """
            UPDATE clients SET secret_hash = %s, updated_at = now()
            WHERE client_id = %s AND secret_hash IS NOT NULL
            """,
                (secret_hash, client_id),
            )
            == 1
        )

    async def delete(self, client_id: str) -> bool:
        """Delete a client and everything that was issued to it; tell whether there was one."""
        return await self._execute("clients.delete", "DELETE FROM clients WHERE client_id = %s", (client_id,)) == 1

    async def use_assertion(self, client_id: str, jti_hash: bytes, expires_at: datetime) -> bool:
        """Note that an assertion was used; tell whether that was the first time."""
        return (
            await self._execute(
                "clients.use_assertion",
                """
            INSERT INTO used_assertions (client_id, jti_hash, expires_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
            """,
                (client_id, jti_hash, expires_at),
            )
            == 1
        )

    async def delete_expired_assertions(self, limit: int) -> int:
        """Delete at most so many assertions that have expired, and cannot be used again; return how many it were."""
        return await self._execute(
            "clients.delete_expired_assertions",
            """
            DELETE FROM used_assertions WHERE (client_id, jti_hash) IN (
                SELECT client_id, jti_hash FROM used_assertions WHERE expires_at < now() - interval '5 minutes'
                LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (limit,),
        )


def _values(settings: ClientSettings) -> dict[str, Any]:
    return {
        "name": settings.name,
        "jwks": None if settings.jwks is None else Jsonb(settings.jwks),
        "grant_types": [grant_type.value for grant_type in settings.grant_types],
        "scopes": list(settings.scopes),
        "resources": list(settings.resources),
        "require_consent": settings.require_consent,
        "require_pushed": settings.require_pushed_authorization_requests,
        "access_token_ttl": settings.access_token_ttl and int(settings.access_token_ttl.total_seconds()),
        "enabled": settings.enabled,
        "redirect_uris": list(settings.redirect_uris),
        "require_pkce": settings.require_pkce,
        "subject_type": settings.subject_type.value,
        "sector_identifier": settings.sector_identifier,
        "id_token_algorithm": settings.id_token_signed_response_alg,
        "userinfo_algorithm": settings.userinfo_signed_response_alg,
        "post_logout_redirect_uris": list(settings.post_logout_redirect_uris),
        "backchannel_logout_uri": settings.backchannel_logout_uri,
    }


def _client(
    *,
    client_id: str,
    type: str,  # noqa: A002 - the name of the column
    token_endpoint_auth_method: str,
    secret_hash: bytes | None,
    created_at: datetime,
    updated_at: datetime,
    grant_types: Sequence[str],
    scopes: Sequence[str],
    resources: Sequence[str],
    redirect_uris: Sequence[str],
    access_token_ttl: int | None,
    subject_type: str,
    post_logout_redirect_uris: Sequence[str],
    **settings: Any,
) -> Client:
    return Client(
        client_id=client_id,
        type=ClientType(type),
        token_endpoint_auth_method=AuthMethod(token_endpoint_auth_method),
        settings=ClientSettings(
            grant_types=tuple(GrantType(value) for value in grant_types),
            scopes=tuple(scopes),
            resources=tuple(resources),
            redirect_uris=tuple(redirect_uris),
            access_token_ttl=None if access_token_ttl is None else timedelta(seconds=access_token_ttl),
            subject_type=SubjectType(subject_type),
            post_logout_redirect_uris=tuple(post_logout_redirect_uris),
            **settings,
        ),
        created_at=created_at,
        updated_at=updated_at,
        secret_hash=secret_hash,
    )


def _count(*, count: int) -> int:
    return count


def _type_and_count(*, client_type: str, number: int) -> tuple[ClientType, int]:
    return ClientType(client_type), number
