"""A real Prometheus scrapes a real instance."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.administration import Administration
from tests.instance import Instance, parse, running, total
from tests.processes import kill, wait_until
from tests.prometheus import Prometheus, program


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Run an instance with three workers."""
    with running(tmp_path_factory.mktemp("instance"), AUTHLY_WORKERS="3") as instance:
        yield instance


@pytest.fixture
def make_prometheus(instance: Instance, tmp_path: Path) -> Iterator[Callable[[str], Prometheus]]:
    """Return what makes a Prometheus that scrapes the instance at an interval."""
    with ExitStack() as stack:

        def make(interval: str) -> Prometheus:
            prometheus = Prometheus(tmp_path, instance.metrics_address, interval=interval)
            stack.callback(prometheus.stop)
            return prometheus

        yield make


def test_prometheus_counts_what_was_asked(instance: Instance, make_prometheus: Callable[[str], Prometheus]) -> None:
    """The target is up, and Prometheus has as many requests as were made, after a killed worker too."""
    # A scrape that takes so long was not answered, however busy the machine is.
    prometheus = make_prometheus("2s")
    wait_until(lambda: prometheus.value("up") == 1)
    made = total(instance.series(), "authly_http_requests_total")
    for number in range(60):
        assert instance.get("/health/live")[0] == 200
        assert instance.get(f"/nowhere/{number}")[0] == 404
        made += 2
        if number == 30:
            kill(instance.workers()[0])
            wait_until(lambda: len(instance.workers()) == 3)
    wait_until(lambda: prometheus.value("sum(authly_http_requests_total)") == made)
    assert prometheus.value('sum(authly_http_requests_total{status_code="404"})') == 60
    # The worker was killed when its client had the answer; whether it had noted the duration by then is open.
    assert prometheus.value("sum(authly_http_request_duration_seconds_count)") in {made - 1, made}
    assert prometheus.value("sum(authly_http_requests_in_progress)") == 0
    assert prometheus.value("min_over_time(up[1m])") == 1
    (target,) = prometheus.targets()
    assert target["lastError"] == ""


def test_prometheus_misses_nothing_when_the_exporter_is_killed(
    instance: Instance, make_prometheus: Callable[[str], Prometheus]
) -> None:
    """An exporter that was killed is back before Prometheus has had to do without for two seconds."""
    prometheus = make_prometheus("200ms")
    wait_until(lambda: prometheus.value("up") == 1)
    kill(instance.exporters()[0])
    killed = time.time()
    wait_until(lambda: prometheus.value("authly_exporter_scrapes_total{outcome='success'}") is not None)
    wait_until(lambda: (prometheus.value("timestamp(up == 1)") or 0) > killed, 2)


def test_prometheus_gets_its_access_tokens_from_authly(
    make_instance: Callable[..., Instance], database_url: str, tmp_path: Path
) -> None:
    """With nothing but an `oauth2` block it scrapes the application port; other access tokens do not let anybody in."""
    instance = make_instance(AUTHLY_METRICS_ACCESS_TOKENS="true", AUTHLY_DATABASE_URL=database_url).start()
    wait_until(lambda: instance.log().count("database_available") == 3, 30)
    administration = Administration(instance)
    options = ["--type", "confidential", "--grant-type", "client_credentials", "--scope"]
    client = administration.json("clients", "create", "--name", "Prometheus", *options, "metrics:read")
    other = administration.json("clients", "create", "--name", "Other", *options, "admin:read")

    def read(token: str) -> int:
        return instance.get("/metrics", headers={"Authorization": f"Bearer {token}"})[0]

    assert instance.get("/metrics")[0] == 401
    assert read("no-token-of-anybodys") == 401
    assert read(administration.client_token(other, "admin:read")) == 401
    token = administration.client_token(client, "metrics:read")
    assert read(token) == 200
    assert read(token[:-4] + "AAAA") == 401

    job = (
        "    oauth2:\n"
        f"      client_id: {client['client_id']}\n"
        f"      client_secret: {client['client_secret']}\n"
        f"      token_url: http://{instance.address}/oauth2/token\n"
        "      scopes: [metrics:read]\n"
    )
    prometheus = Prometheus(tmp_path, instance.address, job)
    try:
        wait_until(lambda: prometheus.value("up") == 1)
        wait_until(lambda: prometheus.value("sum(authly_http_requests_total{endpoint='/oauth2/token'})") is not None)
    finally:
        prometheus.stop()


def test_promtool_accepts_the_exposition(make_instance: Callable[..., Instance]) -> None:
    """`promtool check metrics` has nothing to say of the text format, constant labels and all edges included."""
    instance = make_instance(
        AUTHLY_METRICS_RESOLUTION="high", AUTHLY_METRICS_CONST_LABELS="region=eu,tier=prod"
    ).start()
    instance.get("/health/live")
    _, _, body = instance.scrape()
    check = subprocess.run([program("promtool"), "check", "metrics"], input=body, capture_output=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")
    assert parse(body.decode())
