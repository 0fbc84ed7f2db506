"""What three workers say of their database and of themselves, to the last query."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser

from tests.administration import Administration
from tests.instance import Instance, Series, total
from tests.integration.test_database_away import Server
from tests.processes import kill, wait_until
from tests.valkey import Valkey

TOKENS = 12
# What workers do by themselves at any time: jobs, and keys, which each of them remembers for a while.
UNASKED = {"backchannel_logouts.take", "signing_keys.published", "rate_limits.forget"}


@pytest.fixture(scope="module")
def scene(create_state: Callable[[Path], None]) -> Iterator[tuple[Administration, Server]]:
    """An instance whose workers remember no clients, and look at their pools all the time; and its PostgreSQL."""
    state, folder = (Path(tempfile.mkdtemp(prefix="authly-")) for _ in range(2))
    create_state(state)
    server = Server(state)
    instance = Instance(
        folder,
        {
            "AUTHLY_DATABASE_URL": server.start(),
            "AUTHLY_CACHE_TTL": "0",
            # Levels are counted with queries too.
            "AUTHLY_METRICS_GROUPS": "http,oauth,database,ratelimit,runtime,lifecycle",
            "AUTHLY_METRICS_COLLECTION_INTERVAL": "0.1",
            "AUTHLY_PASSWORD_HASH_MEMORY": "8",
        },
    )
    try:
        instance.start()
        wait_until(lambda: instance.log().count("database_available") == 3, 30)
        administration = Administration(instance)
        client = administration.json(
            *("clients", "create", "--name", "Administration", "--type", "confidential"),
            *("--scope", "admin:read", "--scope", "admin:write"),
        )
        administration.token = administration.client_token(client, "admin:read admin:write")
        yield administration, server
    finally:
        instance.stop()
        print(instance.log())  # noqa: T201
        server.stop()
        shutil.rmtree(folder)
        shutil.rmtree(state)


def queries(series: Series) -> dict[tuple[str, str], float]:
    """Return how many queries there were by operation and status."""
    return {
        (labels["operation"], labels["status"]): count
        for labels, count in (
            (dict(has), value) for (name, has), value in series.items() if name == "authly_database_queries_total"
        )
    }


def connections_taken(series: Series) -> float:
    """Return how often a connection was asked for."""
    return total(series, "authly_database_pool_requests_total")


def rise(before: Series, after: Series) -> dict[tuple[str, str], float]:
    """Return by how much the counts of queries rose, of those that rose and that somebody asked for."""
    first = queries(before)
    return {
        kind: count - first[kind]
        for kind, count in queries(after).items()
        if count != first[kind] and kind[0] not in UNASKED
    }


def unasked(before: Series, after: Series) -> float:
    """Return how many queries there were that nobody asked for."""
    first = queries(before)
    return sum(count - first[kind] for kind, count in queries(after).items() if kind[0] in UNASKED)


def test_each_query_is_counted_and_timed(scene: tuple[Administration, Server]) -> None:
    """Of a known flow over three workers: each query once, in its counter and in its histogram, and no other."""
    administration, _ = scene
    client = administration.new_client("admin:read")
    before = administration.instance.series()
    for _ in range(TOKENS):
        administration.client_token(client, "admin:read")
    after = administration.instance.series()
    assert rise(before, after) == {
        ("clients.find", "success"): TOKENS,
        ("tokens.add_access_token", "success"): TOKENS,
    }
    for operation in ("clients.find", "tokens.add_access_token"):
        name = "authly_database_query_duration_seconds_count"
        assert total(after, name, operation=operation) - total(before, name, operation=operation) == TOKENS
        name = "authly_database_query_duration_seconds_sum"
        assert 0 < total(after, name, operation=operation) - total(before, name, operation=operation) < TOKENS


def test_a_trace_is_found_at_each_of_its_steps(scene: tuple[Administration, Server]) -> None:
    """The trace of a token request is the example of its duration, of its queries and of its token; others are none."""
    administration, _ = scene
    client = administration.new_client("admin:read")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    def examples() -> dict[str, set[str]]:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        body = administration.instance.scrape(headers=accept)[2].decode()
        families = openmetrics_parser.text_string_to_metric_families(body)  # type: ignore[no-untyped-call]
        found: dict[str, set[str]] = {}
        for family in families:
            for sample in family.samples:
                if sample.exemplar and sample.exemplar.labels == {"trace_id": trace}:
                    found.setdefault(family.name, set()).add(sample.labels.get("operation", ""))
        return found

    form = {"grant_type": "client_credentials", "scope": "admin:read"}
    assert administration.form("/oauth2/token", client, f"00-{trace}-00f067aa0ba902b7-01", **form).status == 200
    wait_until(lambda: "authly_http_request_duration_seconds" in examples())
    # On the same connection or not, what is part of no trace leaves none.
    administration.client_token(client, "admin:read")
    found = examples()
    # A store of limits that answers late is not asked for a second.
    found["authly_database_query_duration_seconds"].discard("rate_limits.hit")
    assert found == {
        "authly_http_request_duration_seconds": {""},
        "authly_oauth_token_generation_duration_seconds": {""},
        "authly_database_query_duration_seconds": {"clients.find", "tokens.add_access_token"},
    }


def test_connections_are_counted(scene: tuple[Administration, Server]) -> None:
    """Queries that stand for themselves ask the pool for a connection each; that is seen within an interval."""
    administration, _ = scene
    instance = administration.instance
    client = administration.new_client("admin:read")
    wait_until(lambda: is_settled(instance))
    before = instance.series()
    for _ in range(TOKENS):
        administration.client_token(client, "admin:read")

    def all_are_seen() -> bool:
        after = instance.series()
        return connections_taken(after) - connections_taken(before) == 2 * TOKENS + unasked(before, after)

    wait_until(all_are_seen)
    after = instance.series()
    assert total(after, "authly_database_pool_requests_total", outcome="error") == 0
    assert total(after, "authly_database_connections_max") == 3 * 8
    # Some are held by a query, if only of a job; at rest each worker has at least one.
    wait_until(lambda: total(instance.series(), "authly_database_connections", state="in_use") == 0)
    assert 3 <= total(instance.series(), "authly_database_connections", state="idle") <= 3 * 8
    assert total(instance.series(), "authly_database_requests_waiting") == 0


def is_settled(instance: Instance) -> bool:
    """Tell whether the counts of connections have caught up with what was done."""
    first = connections_taken(instance.series())
    ticks = total(instance.series(), "authly_event_loop_lag_seconds_count")
    # Each worker has looked at its pool at least once more.
    wait_until(lambda: total(instance.series(), "authly_event_loop_lag_seconds_count") >= ticks + 12)
    return connections_taken(instance.series()) == first


@pytest.mark.produces("authly_database_queries_total", status=("error",))
def test_a_query_that_fails_is_an_error(scene: tuple[Administration, Server]) -> None:
    """A second user of the same name is refused by the database, and that is one error of one operation."""
    administration, _ = scene
    user = {"username": "somebody", "password": "correct horse battery staple"}
    assert administration.call("POST", "/users", user).status == 201
    before = administration.instance.series()
    assert administration.call("POST", "/users", user).status == 422
    after = administration.instance.series()
    assert {kind: count for kind, count in rise(before, after).items() if kind[1] == "error"} == {
        ("users.add", "error"): 1
    }
    assert total(after, "authly_metrics_label_overflow_total", metric="authly_database_queries_total") == 0


def test_workers_tell_of_themselves(scene: tuple[Administration, Server]) -> None:
    """Starts, settings, dependencies, event loops, collections and threads: each has its figures."""
    series = scene[0].instance.series()
    phases = {
        dict(has)["phase"]: value for (name, has), value in series.items() if name == "authly_startup_duration_seconds"
    }
    assert set(phases) == {"settings", "database", "migrations", "total"}
    assert 0 < phases["settings"] < phases["total"]
    assert phases["migrations"] < phases["total"]
    assert total(series, "authly_config_valid") == 1
    assert total(series, "authly_dependency_up", dependency="database") == 1
    assert 0 < total(series, "authly_dependency_connect_duration_seconds", dependency="database") < 10
    assert ("authly_dependency_up", frozenset({("dependency", "cache")})) not in series
    assert total(series, "authly_event_loop_lag_seconds_count") > 0
    assert total(series, "authly_gc_pause_seconds_count") > 0
    wait_until(lambda: total(scene[0].instance.series(), "authly_thread_pool_tasks") == 0)


def test_counters_outlive_a_worker(scene: tuple[Administration, Server]) -> None:
    """A worker that is killed is followed by one that counts on; what it had counted stays."""
    administration, _ = scene
    instance = administration.instance
    before = instance.series()
    kill(instance.workers()[0])
    wait_until(lambda: instance.log().count("database_available") >= 4, 30)
    after = instance.series()
    assert connections_taken(after) >= connections_taken(before)
    assert all(count >= queries(before)[kind] for kind, count in queries(after).items())


def test_the_database_goes_and_returns(scene: tuple[Administration, Server]) -> None:
    """A PostgreSQL that is stopped is down for whoever asks, and up again when it is back."""
    administration, server = scene
    instance = administration.instance

    def is_up() -> float:
        # Workers find out when they are asked.
        instance.get("/health/ready")
        return total(instance.series(), "authly_dependency_up", dependency="database")

    for _ in range(2):
        server.stop()
        wait_until(lambda: is_up() == 0)
        server.start()
        wait_until(lambda: is_up() == 1, 20)


def test_settings_that_cannot_be_used(database_url: str, make_instance: Callable[..., Instance]) -> None:
    """An administrator whose password is refused makes the configuration invalid, and the database no less up."""
    instance = make_instance(
        AUTHLY_DATABASE_URL=database_url, AUTHLY_WORKERS="1", AUTHLY_ADMIN_PASSWORD="a" * 14
    ).start()
    wait_until(lambda: "first start failed" in instance.log())
    wait_until(lambda: total(instance.series(), "authly_config_valid") == 0)
    series = instance.series()
    assert total(series, "authly_dependency_up", dependency="database") == 1
    assert ("authly_startup_duration_seconds", frozenset({("phase", "total")})) not in series


@pytest.mark.produces("authly_dependency_up", dependency=("cache",))
@pytest.mark.produces("authly_dependency_connect_duration_seconds", dependency=("cache",))
@pytest.mark.produces("authly_startup_duration_seconds", phase=("cache",))
def test_valkey_goes_and_returns(own_valkey: Valkey, database_url: str, make_instance: Callable[..., Instance]) -> None:
    """A Valkey that is killed is down without anybody asking, and up again when it is back."""
    instance = make_instance(
        AUTHLY_DATABASE_URL=database_url, AUTHLY_WORKERS="1", AUTHLY_REDIS_URL=own_valkey.url
    ).start()

    def is_up() -> float:
        return total(instance.series(), "authly_dependency_up", dependency="cache")

    wait_until(lambda: is_up() == 1)
    assert total(instance.series(), "authly_startup_duration_seconds", phase="cache") > 0
    assert total(instance.series(), "authly_dependency_connect_duration_seconds", dependency="cache") > 0
    own_valkey.kill()
    wait_until(lambda: is_up() == 0)
    own_valkey.start()
    wait_until(lambda: is_up() == 1)
