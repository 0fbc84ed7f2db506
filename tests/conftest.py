"""Fixtures of every test."""

import os
import resource

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.vocabulary", "tests.postgres", "tests.instance", "tests.browser", "tests.applications", "tests.valkey",
]  # fmt: skip

# Some tests open many connections, and hold both ends of them; the usual limit of 1024 files is a soft one.
_, _MOST_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))

settings.register_profile("authly", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("authly")


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as Authly does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in list(os.environ):
        if (name.startswith("AUTHLY_") and not name.startswith("AUTHLY_TEST_")) or name == "PROMETHEUS_MULTIPROC_DIR":
            monkeypatch.delenv(name)
