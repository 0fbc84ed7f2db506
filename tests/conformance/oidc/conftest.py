"""One running instance for all tests of OpenID Connect: three workers, a database, relying parties and their users."""

from collections.abc import Iterator

import pytest

from tests.conformance.oauth.conftest import run_server
from tests.oauth import Person, Server
from tests.oidc import EVERYTHING, SCOPES, RelyingParty


@pytest.fixture(scope="session")
def server(postgres_server: str, _migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an instance of three workers; which of them answers is chance. Verifiers may cache keys for a second."""
    folder = tmp_path_factory.mktemp("oidc")
    yield from run_server(postgres_server, _migrated, folder, AUTHLY_WORKERS="3", AUTHLY_JWKS_MAX_AGE="1")


@pytest.fixture(scope="session")
def relying_party(server: Server) -> RelyingParty:
    """Certification's client: it sends no PKCE, from which an administrator exempted it."""
    return RelyingParty(server, server.client(scopes=SCOPES, require_pkce=False, name="Certification"))


@pytest.fixture(scope="session")
def second_party(server: Server) -> RelyingParty:
    """Certification's second client, which sends its secret in the body."""
    return RelyingParty(server, server.client(scopes=SCOPES, require_pkce=False, name="Second"), in_body=True)


@pytest.fixture
def person(server: Server) -> Person:
    """A user of whom everything is known, with a browser that knows nobody yet."""
    return server.person(**EVERYTHING)
