"""One running instance for all tests of the protocol: three workers, a database, and what they need of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instance import Instance
from tests.oauth import SETTINGS, Server
from tests.postgres import new_database
from tests.processes import wait_until


@pytest.fixture(scope="session")
def server(postgres_server: str, _migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an instance of three workers; which of them answers is chance."""
    yield from run_server(postgres_server, _migrated, tmp_path_factory.mktemp("oauth"))


def run_server(postgres: str, template: str, folder: Path, **environment: str) -> Iterator[Server]:
    """Run an instance on a database of its own.

    Args:
        postgres: the URL of the server.
        template: the name of a database with the schema.
        folder: for its state.
        environment: further settings.
    """
    with new_database(postgres, template) as url:
        instance = Instance(folder, {"AUTHLY_DATABASE_URL": url, **SETTINGS, **environment})
        try:
            instance.start()
            wait_until(lambda: all(instance.get("/health/ready")[0] == 200 for _ in range(10)), 30)
            running = Server(instance, url)
            try:
                yield running
            finally:
                running.http.close()
        finally:
            instance.stop()
            print(f"--- log of the authorization server\n{instance.log()[-5000:]}")  # noqa: T201
