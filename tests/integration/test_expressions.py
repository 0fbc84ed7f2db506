"""Everything that is asked of Prometheus is asked of one that scrapes a real run, with all flows behind it."""

import math
import os
import signal
from collections.abc import Iterator

import pytest

from dashboards import DASHBOARDS
from tests.alerting import ALERTS, RULES, mentioned, questions
from tests.conformance.oauth.conftest import run_server
from tests.instance import total
from tests.integration.test_catalogue import FLOWS, Scene
from tests.oauth import Server
from tests.processes import kill, wait_until
from tests.prometheus import Prometheus
from tests.valkey import Valkey

# What rates look back over: the run is short, and its scrapes are close to each other.
WINDOW = "2m"
# What is empty in a run in which all is well, and why.
EMPTY = {
    "authly-overview: Failures by endpoint A": "no request failed",
    "authly-resources: Queries that fail A": "there may be no query that failed",
    "authly-workers: Container A": "there may be no container with a limit",
    "authly-workers: Container B": "there may be no container with a limit",
    "authly-workers: Health B": "there is no web configuration file",
    **{f"{board}: Starts": "the instance started once" for board in DASHBOARDS},
}
OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


@pytest.fixture(scope="module")
def prometheus(
    postgres_server: str, _migrated: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Return a Prometheus that knows the rules and saw all flows, a reload, and a worker that was killed."""
    folder = tmp_path_factory.mktemp("expressions")
    environment = {
        "AUTHLY_REDIS_URL": valkey.url,
        "AUTHLY_METRICS_COLLECTION_INTERVAL": "0.1",
        "AUTHLY_METRICS_INCLUDE_CLIENT_IDS": "true",
        "AUTHLY_METRICS_ACCESS_TOKENS": "true",
        "AUTHLY_CLEANUP_INTERVAL": "1",
        "AUTHLY_RATE_LIMIT_LOGIN": "60/hour",
        "AUTHLY_ALLOWED_HOSTS": "127.0.0.1",
        "AUTHLY_CACHE_TTL": "30",
    }
    for server in run_server(postgres_server, _migrated, folder, **environment):
        running = Prometheus(
            folder,
            server.instance.metrics_address,
            rules=[file.read_text().replace("interval: 5m", "interval: 1s") for file in RULES],
        )
        try:
            live_through_all(server, running)
            yield running
        finally:
            running.stop()


def live_through_all(server: Server, prometheus: Prometheus) -> None:
    """Do everything that clients, people and operators do, until Prometheus has seen it."""
    instance = server.instance
    wait_until(lambda: prometheus.value("up") == 1)
    scene = Scene(server)
    for flow in FLOWS:
        flow(scene)
    kill(instance.workers()[0])
    os.kill(instance.master, signal.SIGHUP)
    wait_until(lambda: total(instance.series(), "gunicorn_reloads_total") == 1)
    wait_until(lambda: prometheus.value("gunicorn_reloads_total") == 1)
    # Levels are those of workers that live: the new ones have to have looked at theirs.
    wait_until(lambda: prometheus.value("count(gunicorn_worker_heartbeat_age_seconds)") == 3, 30)
    wait_until(lambda: prometheus.value('gunicorn_workers{state="booting"}') == 0, 30)
    wait_until(lambda: prometheus.value('sum(authly_database_connections{state="idle"})'), 30)
    wait_until(lambda: prometheus.results('authly_startup_duration_seconds{phase="total"}'), 30)
    wait_until(lambda: prometheus.results("job:authly_logins_slow:budget30d"), 30)


def test_each_question_is_answered(prometheus: Prometheus) -> None:
    """No panel, annotation, variable or recording rule is an error, or empty without a reason that is known."""
    alerts = {rule.name for rule in ALERTS}
    empty = set()
    for where, expression in questions(WINDOW):
        found = prometheus.results(expression)
        if where in alerts:
            continue
        if not [one for one in found if not math.isnan(float(one["value"][1]))]:
            empty.add(where)
    optional = {where for where, reason in EMPTY.items() if reason.startswith("there may be")}
    assert sorted(empty - optional) == sorted(set(EMPTY) - optional)


def test_alerts_look_at_what_is_there(prometheus: Prometheus) -> None:
    """Of each alert each metric is there, with the labels that it is looked at by; their rules are evaluated."""
    missing = set()
    for rule in ALERTS:
        for selector in mentioned(rule.expression)[0]:
            matchers = ", ".join(
                f'{label}{OPERATORS[operator]}"{value}"' for label, (operator, value) in selector.labels.items()
            )
            if not prometheus.results(f"{selector.name}{{{matchers}}}"):
                missing.add(f"{rule.name}: {selector.name}{{{matchers}}}")
    assert sorted(missing) == []
    assert prometheus.value("sum(prometheus_rule_evaluation_failures_total)") in {None, 0}
