"""A hundred thousand requests of somebody who makes everything up: metrics grow to their bound, and repeat nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

from authly.monitoring.definitions import Definition
from authly.monitoring.exporter.application import Application, Configuration
from authly.monitoring.exporter.http import Request
from authly.monitoring.labels import METHODS
from tests.attack import BOUND, CANARY, paths
from tests.attack import METHODS as ASKED
from tests.exposition import definitions
from tests.instance import NO_DATABASE, RATE_LIMITS, REPOSITORY, parse

REQUESTS = 100_000


def test_metrics_do_not_grow_with_what_is_made_up(tmp_path: Path) -> None:
    """Neither their number nor their labels depend on what clients send."""
    environment = {
        "PATH": "",
        "PYTHONPATH": str(REPOSITORY),
        "AUTHLY_STATE_DIR": str(tmp_path),
        "AUTHLY_DATABASE_URL": NO_DATABASE,
        "AUTHLY_LOG_LEVEL": "critical",
        "AUTHLY_ALLOWED_HOSTS": "127.0.0.1",
        "AUTHLY_METRICS_INCLUDE_CLIENT_IDS": "true",
        **dict.fromkeys(RATE_LIMITS, "off"),
    }
    command = [sys.executable, "-m", "tests.attack", str(REQUESTS)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-5000:]
    statuses = {int(status): number for status, number in json.loads(done.stdout).items()}
    assert sum(statuses.values()) == REQUESTS
    assert set(statuses) >= {200, 400, 401, 403, 404, 405, 415, 503}
    assert statuses.get(500, 0) == 0

    application = Application(Configuration(tmp_path / "metrics"), time.monotonic, print)
    seen = {}
    for path, accept in (("/metrics", "text/plain"), ("/metrics", "application/openmetrics-text"), ("/", "text/html")):
        request = Request("GET", path, "", {"accept": accept}, "", is_local=True)
        answer = application.respond(request)
        assert answer.status == 200
        assert CANARY not in answer.body.decode().lower()
        seen[accept] = answer.body.decode()
    for file in (tmp_path / "metrics").iterdir():
        assert CANARY.encode() not in file.read_bytes().lower(), file
    series = parse(seen["text/plain"])
    counted = {labels: value for (name, labels), value in series.items() if name == "authly_http_requests_total"}
    assert sum(counted.values()) == REQUESTS
    # All methods at all routes were among them.
    assert len({dict(labels)["endpoint"] for labels in counted}) >= len(paths()) - 5
    assert {dict(labels)["method"] for labels in counted} == {*ASKED, "other"} == {*METHODS, "other"}
    assert len(series) < BOUND
    assert most_series() <= BOUND
    assert f"{BOUND:,}" in (REPOSITORY / "docs/exporter.md").read_text()


def most_series() -> int:
    """Return how many series workers can have, whatever is asked of them, without names of clients."""
    return sum(_most(definition) for definition in definitions().values())


def _most(definition: Definition) -> int:
    """Return how many series a metric can have."""
    # What is not known in full: endpoints are routes, and each answers with a few statuses.
    others = {"endpoint": len(paths()) + 2, "status_code": 20, "status": 20, "metric": 100}
    number = 1
    for label, values in definition.labels.items():
        number *= others.get(label, 1) if values.others else len(values.known)
    # Its buckets (the objectives and +Inf among them), its sum and its count.
    return number * (len(definition.buckets) + 5) if definition.buckets else number
