"""Registering clients: what contradicts itself is refused, in words; and what is done is recorded."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey
from pydantic import SecretStr

from authly.audit.models import SYSTEM, AuditFilter, Party
from authly.core.repository import Database
from authly.oauth.client_service import ClientError, ClientService
from authly.oauth.models import AuthMethod, ClientSettings, ClientType, GrantType
from authly.oauth.scope_service import ScopeError, ScopeService
from authly.oauth_server import OAuthServer
from authly.settings import Settings
from tests.identity import make_identity

pytestmark = pytest.mark.anyio

CODE = (GrantType.AUTHORIZATION_CODE,)
ITSELF = (GrantType.CLIENT_CREDENTIALS,)
URI = ("https://client.example/",)
PUBLIC, CONFIDENTIAL = ClientType.PUBLIC, ClientType.CONFIDENTIAL
# Of 1024 bits, as joserfc would not make it.
WEAK = {"kty": "RSA", "e": "AQAB", "n": base64.urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode()}
EC = ECKey.generate_key("P-256").as_dict(private=False)


@pytest.fixture
def server(database: Database) -> OAuthServer:
    """The services on a database."""
    return OAuthServer(Settings(secret_key=SecretStr("k" * 32)), database, make_identity(database).audit)


@pytest.fixture
def clients(server: OAuthServer) -> ClientService:
    """The service of clients."""
    return server.clients


@pytest.fixture
def scopes(server: OAuthServer) -> ScopeService:
    """The service of scopes."""
    return server.scopes


@pytest.mark.parametrize(
    ("settings", "type_", "method", "why"),
    [
        ({"name": ""}, CONFIDENTIAL, None, "name"),
        ({"name": "a\nb"}, CONFIDENTIAL, None, "name"),
        ({"name": "n" * 101}, CONFIDENTIAL, None, "name"),
        ({"grant_types": ()}, CONFIDENTIAL, None, "needs a grant type"),
        ({"grant_types": ITSELF, "redirect_uris": ()}, PUBLIC, None, "cannot use client_credentials"),
        ({"grant_types": (GrantType.REFRESH_TOKEN,), "redirect_uris": ()}, PUBLIC, None, "needs authorization_code"),
        ({"redirect_uris": ()}, PUBLIC, None, "have redirect URIs"),
        ({"grant_types": ITSELF}, CONFIDENTIAL, None, "no others do"),
        ({"redirect_uris": ("http://client.example/",)}, PUBLIC, None, "neither https"),
        ({"redirect_uris": ("com.example.app:/x",)}, CONFIDENTIAL, None, "native"),
        ({"redirect_uris": tuple(f"https://c.example/{n}" for n in range(51))}, PUBLIC, None, "at most 50"),
        ({"scopes": ("nothing",)}, PUBLIC, None, "no scope nothing"),
        ({"resources": ("api",)}, PUBLIC, None, "api cannot be a resource"),
        ({"access_token_ttl": timedelta()}, PUBLIC, None, "86400"),
        ({}, PUBLIC, AuthMethod.CLIENT_SECRET_BASIC, "public clients authenticate with none"),
        ({}, CONFIDENTIAL, AuthMethod.NONE, "public clients authenticate with none"),
        ({}, CONFIDENTIAL, AuthMethod.PRIVATE_KEY_JWT, "have a JWK Set"),
        ({"jwks": {"keys": [EC]}}, CONFIDENTIAL, None, "no others do"),
        ({"jwks": {"keys": []}}, CONFIDENTIAL, AuthMethod.PRIVATE_KEY_JWT, "no list of 1 to 10"),
        ({"jwks": {}}, CONFIDENTIAL, AuthMethod.PRIVATE_KEY_JWT, "no list"),
        ({"jwks": {"keys": [{"kty": "EC"}]}}, CONFIDENTIAL, AuthMethod.PRIVATE_KEY_JWT, "cannot be read"),
        ({"jwks": {"keys": [7]}}, CONFIDENTIAL, AuthMethod.PRIVATE_KEY_JWT, "private or symmetric"),
        (
            {"jwks": {"keys": [OctKey.generate_key(256).as_dict()]}},
            CONFIDENTIAL,
            AuthMethod.PRIVATE_KEY_JWT,
            "private or symmetric",
        ),
        (
            {"jwks": {"keys": [ECKey.generate_key("P-256").as_dict(private=True)]}},
            CONFIDENTIAL,
            AuthMethod.PRIVATE_KEY_JWT,
            "private or symmetric",
        ),
        (
            {"jwks": {"keys": [WEAK]}},
            CONFIDENTIAL,
            AuthMethod.PRIVATE_KEY_JWT,
            "2048",
        ),
        (
            {"jwks": {"keys": [ECKey.generate_key("secp256k1").as_dict(private=False)]}},
            CONFIDENTIAL,
            AuthMethod.PRIVATE_KEY_JWT,
            "neither RSA",
        ),
    ],
)
async def test_contradictions(
    clients: ClientService, settings: dict[str, Any], type_: ClientType, method: AuthMethod | None, why: str
) -> None:
    """Nothing is registered, and the message says what is wrong."""
    wanted = ClientSettings(**{"name": "A client", "redirect_uris": URI, "grant_types": CODE, **settings})
    with pytest.raises(ClientError, match=why):
        await clients.create(wanted, type_, SYSTEM, method)
    assert await clients.list() == []


async def test_life_of_a_client(clients: ClientService, database: Database) -> None:
    """It is registered, changed, given another secret, and deleted; each of it is in the audit log."""
    actor = Party.client("an administrator")
    client, secret = await clients.create(ClientSettings("A", redirect_uris=URI), CONFIDENTIAL, actor)
    assert secret
    assert client.settings.name == "A"
    changed = await clients.update(client.client_id, ClientSettings("B", redirect_uris=URI), actor)
    assert changed
    assert changed.settings.name == "B"
    other = await clients.rotate_secret(client.client_id, actor)
    assert other not in {None, secret}
    assert await clients.delete(client.client_id, actor)
    assert not await clients.delete(client.client_id, actor)
    assert await clients.update(client.client_id, ClientSettings("C", redirect_uris=URI), actor) is None
    assert await clients.rotate_secret(client.client_id, actor) is None
    recorded = await make_identity(database).audit.list(AuditFilter(actor=actor))
    assert [entry.event for entry in reversed(recorded)] == [
        "client_created",
        "client_updated",
        "client_secret_rotated",
        "client_deleted",
    ]


async def test_public_clients_have_no_secret(clients: ClientService) -> None:
    """There is nothing that could leak."""
    client, secret = await clients.create(ClientSettings("A", redirect_uris=URI), PUBLIC, SYSTEM)
    assert secret is None
    assert await clients.rotate_secret(client.client_id, SYSTEM) is None


async def test_scopes(scopes: ScopeService) -> None:
    """They have names as RFC 6749 has them, and descriptions for people; those of OpenID Connect stay."""
    await scopes.create("orders:read", "See your orders", SYSTEM)
    assert await scopes.describe("orders:read", "See all your orders", SYSTEM)
    for name, description, why in (
        ("orders:read", "x", "already"),
        ("a b", "x", "printable"),
        ("é", "x", "printable"),
        ("a", "", "description"),
        ("a", "x" * 201, "description"),
    ):
        with pytest.raises(ScopeError, match=why):
            await scopes.create(name, description, SYSTEM)
    with pytest.raises(ScopeError, match="OpenID Connect"):
        await scopes.delete("openid", SYSTEM)
    assert await scopes.delete("orders:read", SYSTEM)
    assert not await scopes.delete("orders:read", SYSTEM)
