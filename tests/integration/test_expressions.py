"""Everything that is asked of Prometheus is asked of one that scrapes a real run, with all flows behind it."""

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.alerting import ALERTS, in_grafana, mentioned, panels, questions, rules
from tests.conformance.oauth.conftest import run_server
from tests.instance import Instance
from tests.integration.test_catalogue import FLOWS, Scene
from tests.processes import kill, wait_until
from tests.prometheus import Prometheus
from tests.valkey import Valkey

# What rates look back over: the run is short, and its scrapes are close to each other.
WINDOW = "1m"
# What is empty in a run in which all is well, and why.
EMPTY = {
    "authly-workers: Container A": "the machine of the tests may have no container with a limit",
    "authly-workers: Container B": "the machine of the tests may have no container with a limit",
    "authly-workers: Health B": "no web configuration file",
    "authly-resources: Queries that fail A": "no query failed",
    "authly-overview: Failures by endpoint A": "no request failed",
}
# Of what alerts look at: what is not there while all is well.
ABSENT = {
    "authly_http_requests_total": "no request failed (5xx)",
}


@pytest.fixture(scope="module")
def prometheus(
    postgres_server: str, _migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Return a Prometheus that knows the rules and saw all flows, a reload, and a worker that was killed."""
    folder = tmp_path_factory.mktemp("expressions")
