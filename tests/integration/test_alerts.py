"""From a fault to somebody who is told: Authly, Prometheus, Alertmanager and a webhook, all of them real.

Prometheus has the rules of the project with one change: each window and each wait of theirs is a twentieth of what it
is (``hurried``), so that a test takes seconds and not minutes. Thresholds are those of the files, and so is what
metrics measure themselves: workers hang when they have given no sign of life for 20 real seconds.
"""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from authly.core.embedded_postgres import EmbeddedPostgres
from tests.alerting import RULES, hurried
from tests.instance import Instance, get
from tests.oauth import SETTINGS, Form, Person, Server
from tests.postgres import keeper_pid
from tests.processes import kill, wait_until
from tests.prometheus import Alertmanager, Prometheus

FACTOR = 20


class Webhook:
    """Whoever is told of alerts."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        heard = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                heard.extend({**alert, "receiver": told["receiver"]} for alert in told["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def first(self, name: str, status: str = "firing") -> dict[str, Any] | None:
        """Return what was first told of an alert."""
        return next(
            (alert for alert in self.alerts if alert["labels"]["alertname"] == name and alert["status"] == status), None
        )

    def wait_for(self, name: str, status: str = "firing", seconds: float = 90) -> dict[str, Any]:
        """Wait until an alert is told, and return it."""
        wait_until(lambda: self.first(name, status), seconds)
        found = self.first(name, status)
        assert found
        return found

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Scene(NamedTuple):
    """All that takes part."""

    server: Server
    state: Path
    prometheus: Prometheus
    webhook: Webhook


@pytest.fixture
def scene(create_state: Callable[[Path], None], tmp_path: Path) -> Iterator[Scene]:
    """Authly on a PostgreSQL that can be killed, watched by Prometheus and Alertmanager."""
    webhook = Webhook()
    state = Path(tempfile.mkdtemp(prefix="authly-"))
    create_state(state)
    postgres = EmbeddedPostgres(state)
    started: list[Any] = []
    try:
        alertmanager = Alertmanager(tmp_path, webhook.url)
        started.append(alertmanager)
        url = postgres.start()
        (tmp_path / "instance").mkdir()
        environment = {**SETTINGS, "AUTHLY_DATABASE_URL": url, "AUTHLY_METRICS_COLLECTION_INTERVAL": "0.5"}
        # However busy the machine is, the alert comes before Gunicorn replaces workers that hang.
        instance = Instance(tmp_path / "instance", environment, ("--timeout", "120"))
        started.append(instance)
        instance.start()
        wait_until(lambda: instance.get("/health/ready")[0] == 200, 30)
        rules = [hurried(file.read_text(), FACTOR) for file in RULES]
        # Their windows are seconds, in which there have to be some scrapes.
        prometheus = Prometheus(
            tmp_path, instance.metrics_address, rules=rules, alertmanager=alertmanager.address, interval="200ms"
        )
        started.append(prometheus)
        wait_until(lambda: prometheus.value("up") == 1)
        server = Server(instance, url)
        yield Scene(server, state, prometheus, webhook)
        server.http.close()
    finally:
        for one in reversed(started):
            one.stop()
        postgres.release()
        shutil.rmtree(state, ignore_errors=True)
        webhook.close()


def fail_to_log_in(server: Server, number: int) -> None:
    """Send a wrong password for a name that nobody has."""
    browser = Person(server, f"nobody{number}", "")
    browser.open(f"{server.url}/login")
    form = Form(browser.page.text)
    browser.submit(**{**form.fields, "username": browser.username, "password": "not the password of anybody"})


@pytest.mark.timeout(400)
def test_who_has_to_know_is_told(scene: Scene) -> None:
    """Reused tokens, guessed passwords, a PostgreSQL that is killed, workers that stop: each has its alert."""
    server, webhook, instance = scene.server, scene.webhook, scene.server.instance
    assert webhook.alerts == []

    client = server.client()
    tokens = server.tokens(client)
    server.sql("UPDATE refresh_tokens SET rotated_at = rotated_at - interval '1 minute' WHERE rotated_at IS NOT NULL")
    assert server.refresh(client, tokens["refresh_token"]).status_code == 200
    server.sql("UPDATE refresh_tokens SET rotated_at = rotated_at - interval '1 minute' WHERE rotated_at IS NOT NULL")
    assert server.refresh(client, tokens["refresh_token"]).status_code == 400
    stolen = webhook.wait_for("AuthlyRefreshTokenReuse")
    assert stolen["receiver"] == "night"
    assert "times in 10 minutes a refresh token came back that had been used before" in stolen["annotations"]["summary"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: fail_to_log_in(server, number), range(60)))
    guessed = webhook.wait_for("AuthlyLoginFailures")
    assert guessed["receiver"] == "day"
    assert "% of the logins of the last 5 minutes failed" in guessed["annotations"]["summary"]

    # The keeper takes its server with it, and nobody starts it again.
    kill(keeper_pid(scene.state))
    instance.get("/health/ready")
    away = webhook.wait_for("AuthlyDatabaseDown")
    assert away["receiver"] == "night"
    assert away["annotations"]["summary"] == (
        f"{instance.metrics_address} has been without PostgreSQL for 30 seconds. "
        "Nobody can log in or get tokens there (503)."
    )

    for pid in instance.workers():
        os.kill(pid, signal.SIGSTOP)
    hanging = webhook.wait_for("AuthlyWorkersHang")
    assert hanging["labels"]["severity"] == "critical"
    assert hanging["annotations"]["summary"].startswith(
        f"All workers of {instance.metrics_address} hang: none has given"
    )

    # The link of an alert leads to words for it.
    status, _, page = get(hanging["annotations"]["runbook_url"].partition("#")[0])
    assert status == 200
    assert b"## AuthlyWorkersHang" in page
    # Its window has passed meanwhile.
    webhook.wait_for("AuthlyRefreshTokenReuse", "resolved")
