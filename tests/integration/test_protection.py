"""Limits and guards of a running instance: exact over all workers, and with a store that comes and goes."""

import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from tests.administration import Administration
from tests.instance import RATE_LIMITS, Instance, total
from tests.integration.test_database_away import Server, server  # noqa: F401 - a fixture
from tests.processes import wait_until
from tests.valkey import Valkey

MakeInstance = Callable[..., Instance]

# Under the default policy, and needs neither the database nor a session.
PAGE = "/login"


@pytest.fixture(params=["postgresql", "redis"])
def backend(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings for each store."""
    if request.param == "redis":
        yield {"AUTHLY_REDIS_URL": request.getfixturevalue("own_valkey").url, "AUTHLY_REDIS_TIMEOUT": "10"}
    else:
        yield {"AUTHLY_DATABASE_URL": request.getfixturevalue("database_url")}


def hammer(instances: list[Instance], requests: int) -> Counter[int]:
    """Ask so many times, many at once, one instance after the other; return how often each status came."""
    with ThreadPoolExecutor(10) as threads:
        statuses = threads.map(lambda number: instances[number % len(instances)].get(PAGE)[0], range(requests))
        return Counter(statuses)


def counts_exactly(instance: Instance) -> bool:
    """Tell whether a worker asks the store: those that just started, or found it away, do not yet."""
    return all("ratelimit" in instance.get(PAGE)[1] for _ in range(20))


def test_exact_over_workers_and_instances(backend: dict[str, str], make_instance: MakeInstance) -> None:
    """Of 400 requests to five workers of two instances at once, exactly the hundred go on that may."""
    settings = {**backend, "AUTHLY_RATE_LIMIT_FAIL_OPEN": "none"}
    # One client at a time, whom a proxy names.
    settings["AUTHLY_TRUSTED_PROXIES"] = "127.0.0.1"
    instances = [
        make_instance(AUTHLY_WORKERS=workers, AUTHLY_RATE_LIMIT_DEFAULT="100/hour", **settings) for workers in "32"
    ]
    for instance in instances:
        instance.start()
    for number, instance in enumerate(instances):
        wait_until(partial(_is_counted, instance, f"192.0.2.{number}"), 30)
    assert hammer(instances, 400) == {200: 100, 429: 300}
    _, headers, body = instances[0].get(PAGE)
    assert int(headers["retry-after"]) in range(1, 37)
    assert headers["ratelimit-policy"] == '"default";q=100;w=3600'
    assert json.loads(body)["error"] == "temporarily_unavailable"
    name = "redis" if "AUTHLY_REDIS_URL" in backend else "postgresql"
    hits = sum(total(i.series(), "authly_rate_limit_hits_total", policy="default", backend=name) for i in instances)
    assert hits >= 301


def _is_counted(instance: Instance, client: str) -> bool:
    """Tell whether all workers reach the store, with requests of another client than the test's."""
    return all(instance.get(PAGE, {"x-forwarded-for": client})[0] in {200, 429} for _ in range(20))


@pytest.mark.produces(
    "authly_rate_limit_hits_total", policy=("login", "token", "introspect", "default"), backend=("redis",)
)
@pytest.mark.produces("authly_rate_limit_check_duration_seconds", backend=("redis",))
def test_what_counts_as_what(own_valkey: Valkey, make_instance: MakeInstance) -> None:
    """Passwords count together whatever they are for, and so does what clients authenticate at; the rest does, too."""
    limits = dict.fromkeys(RATE_LIMITS, "3/hour")
    instance = make_instance(
        AUTHLY_WORKERS="1", AUTHLY_REDIS_URL=own_valkey.url, AUTHLY_SIGN_UP_ENABLED="true", **limits
    )
    instance.start()
    for policy, method, paths in [
        ("login", "POST", ["/login", "/signup", "/account/password"]),
        ("token", "POST", ["/oauth2/token", "/oauth2/revoke", "/oauth2/par"]),
        ("introspect", "POST", ["/oauth2/introspect"] * 3),
        ("default", "GET", ["/login", "/oauth2/authorize", "/admin/v1/users"]),
    ]:
        for remaining, path in zip((2, 1, 0), paths, strict=True):
            status, headers, _ = instance.get(path, method=method)
            assert status != 429
            assert headers["ratelimit"].startswith(f'"{policy}";r={remaining};')
        for path in paths:
            status, headers, _ = instance.get(path, method=method)
            assert (status, headers["ratelimit-policy"]) == (429, f'"{policy}";q=3;w=3600')
    for path in ("/health/live", "/jwks", "/static/authly.css", "/.well-known/oauth-authorization-server"):
        assert instance.get(path)[0] != 429
    assert instance.get("/metrics")[0] == 200
    hits = instance.series()
    for policy, count in [("login", 3), ("token", 3), ("introspect", 3), ("default", 3)]:
        assert total(hits, "authly_rate_limit_hits_total", policy=policy, backend="redis") == count


@pytest.mark.produces("authly_rate_limit_errors_total", backend=("redis",))
def test_valkey_comes_and_goes(own_valkey: Valkey, make_instance: MakeInstance) -> None:
    """Killed under traffic, a store costs closed policies 503 with Retry-After, and nothing once it is back."""
    instance = make_instance(
        AUTHLY_REDIS_URL=own_valkey.url, AUTHLY_RATE_LIMIT_DEFAULT="60000/minute", AUTHLY_RATE_LIMIT_FAIL_OPEN="none"
    ).start()
    workers = instance.workers()
    wait_until(lambda: counts_exactly(instance))
    for _ in range(2):
        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(instance.get, PAGE) for _ in range(200)]
            own_valkey.kill()
            answers = [future.result() for future in asking]
        assert {status for status, _, _ in answers} <= {200, 503}
        wait_until(lambda: instance.get(PAGE)[0] == 503)
        for status, headers, body in [answer for answer in answers if answer[0] == 503]:
            assert (status, headers["retry-after"]) == (503, "1")
            assert json.loads(body)["error"] == "temporarily_unavailable"
        assert instance.is_live()
        own_valkey.start()
        wait_until(lambda: counts_exactly(instance))
    assert instance.workers() == workers
    assert total(instance.series(), "authly_rate_limit_errors_total", backend="redis") >= 2
    events = Counter(json.loads(line)["event"] for line in instance.log().splitlines())
    # Once for each worker and each time, however many requests there were.
    assert 2 <= events["rate_limit_store_unavailable"] <= 6
    assert 2 <= events["rate_limit_store_available"] <= 6


@pytest.mark.produces("authly_cache_operations_total", status=("error",))
def test_tokens_while_valkey_is_away(own_valkey: Valkey, migrated_url: str, make_instance: MakeInstance) -> None:
    """Killed under traffic, Valkey costs clients nothing: each gets its token, and changes are seen all the same."""
    instance = make_instance(
        AUTHLY_DATABASE_URL=migrated_url,
        AUTHLY_REDIS_URL=own_valkey.url,
        AUTHLY_RATE_LIMIT_TOKEN="60000/minute",
        AUTHLY_RATE_LIMIT_LOGIN="1000/minute",
    ).start()
    wait_until(lambda: instance.log().count("database_available") == 3, 30)
    administration = Administration(instance)
    client, other = (
        administration.json(
            *("clients", "create", "--name", name, "--type", "confidential"),
            *("--scope", "admin:read", "--scope", "admin:write"),
        )
        for name in "AB"
    )
    administration.token = administration.client_token(other, "admin:read admin:write")

    def token() -> int:
        return administration.form("/oauth2/token", client, grant_type="client_credentials").status

    def everywhere(status: int) -> bool:
        return all(token() == status for _ in range(9))

    wait_until(lambda: everywhere(200))
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(token) for _ in range(100)]
        own_valkey.kill()
        asking += [threads.submit(token) for _ in range(100)]
        assert Counter(future.result() for future in asking) == {200: 200}
    wait_until(lambda: instance.get("/login", method="POST")[0] == 503)
    # A worker that changes something cannot tell the others.
    assert administration.call("PATCH", f"/clients/{other['client_id']}", {"name": "C"}).status == 200
    assert total(instance.series(), "authly_cache_operations_total", operation="invalidate", status="error") > 0
    # Nobody hears of it, and so nobody remembers anything.
    administration.run("clients", "disable", client["client_id"])
    wait_until(lambda: everywhere(401))
    own_valkey.start()
    administration.run("clients", "enable", client["client_id"])
    wait_until(lambda: everywhere(200))
    # Long before anybody would forget by itself.
    administration.run("clients", "disable", client["client_id"])
    wait_until(lambda: everywhere(401), 10)
    # No form of ours, which is told again once requests are counted.
    wait_until(lambda: instance.get("/login", method="POST")[0] in {400, 403})
    with psycopg.connect(migrated_url) as connection:
        issued = connection.execute("SELECT count(*) FROM access_tokens").fetchone()
    answered = total(
        instance.series(), "authly_http_requests_total", endpoint="/oauth2/token", status_code="200", method="POST"
    )
    assert issued == (answered,)


@pytest.mark.produces("authly_rate_limit_errors_total", backend=("postgresql",))
@pytest.mark.produces("authly_rate_limit_hits_total", backend=("memory",))
def test_postgresql_comes_and_goes(server: Server, make_instance: MakeInstance) -> None:  # noqa: F811
    """While PostgreSQL is away, workers count by themselves where the policy is open; afterwards for all again."""
    instance = make_instance(
        AUTHLY_DATABASE_URL=server.start(),
        AUTHLY_WORKERS="2",
        AUTHLY_RATE_LIMIT_DEFAULT="60000/minute",
        AUTHLY_RATE_LIMIT_TOKEN="1/hour",
    ).start()

    def count(name: str) -> float:
        return total(instance.series(), name, backend="postgresql")

    errors, checks = "authly_rate_limit_errors_total", "authly_rate_limit_check_duration_seconds_count"
    wait_until(lambda: instance.get(PAGE)[0] == 200 and count(checks) > 0)
    server.stop()
    wait_until(lambda: instance.get(PAGE)[0] == 200 and count(errors) > 0)
    assert {instance.get(PAGE)[0] for _ in range(20)} == {200}
    refused = [instance.get("/oauth2/token", method="POST")[0] for _ in range(20)].count(429)
    assert total(instance.series(), "authly_rate_limit_hits_total", policy="token", backend="memory") == refused >= 18
    server.start()
    before = count(checks)
    wait_until(lambda: instance.get(PAGE)[0] == 200 and count(checks) > before, 20)


@pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])
def test_a_proxy_on_a_unix_socket(worker_class: str, make_instance: MakeInstance) -> None:
    """Whoever connects to a Unix socket can be a proxy, which is believed about whom it speaks for."""
    instance = make_instance(
        AUTHLY_WORKER_CLASS=worker_class,
        AUTHLY_WORKERS="1",
        AUTHLY_ADMIN_NETWORKS="192.0.2.0/24",
        AUTHLY_TRUSTED_PROXIES="unix",
    )
    path = instance.folder / "s"
    instance.environment["AUTHLY_BIND"] = f"unix:{path}"
    instance.spawn()

    def ask(client: str) -> int:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(b"GET /admin/v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
                connection.sendall(f"X-Forwarded-For: {client}\r\n\r\n".encode())
                return int(connection.recv(4096).split(b" ")[1])
        except (OSError, IndexError):
            return 0

    wait_until(lambda: ask("192.0.2.1") == 404, 30)
    assert ask("198.51.100.1") == 403


def test_guards(make_instance: MakeInstance) -> None:
    """Each answer of a running instance has the headers; hosts, sizes, addresses and administrators are as set."""
    instance = make_instance(
        AUTHLY_WORKERS="1",
        AUTHLY_ALLOWED_HOSTS="127.0.0.1",
        AUTHLY_TRUSTED_PROXIES="127.0.0.0/8",
        AUTHLY_ADMIN_NETWORKS="192.0.2.0/24",
        AUTHLY_MAX_BODY_BYTES="2048",
    ).start()
    # Of the metrics, a proxy has to say for whom it asks.
    for path, status in [(PAGE, 200), ("/nowhere", 404), ("/metrics", 403), ("/health/live", 200)]:
        got, headers, _ = instance.get(path)
        assert got == status
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "strict-transport-security" not in headers
    _, headers, _ = instance.get(PAGE, {"x-forwarded-proto": "https"})
    assert "strict-transport-security" in headers
    assert instance.get(PAGE, {"host": "evil.example"})[0] == 400
    assert instance.get(PAGE, {"content-length": "4096"}, "POST")[0] == 413
    assert instance.get("/admin/v1/nothing", {"x-forwarded-for": "198.51.100.1"})[0] == 403
    assert instance.get("/admin/v1/nothing", {"x-forwarded-for": "198.51.100.1, 192.0.2.7"})[0] == 404
    series = instance.series()
    assert total(series, "authly_security_events_total", event_type="host_rejected") == 1
    assert total(series, "authly_security_events_total", event_type="admin_denied", severity="medium") == 1
    assert total(series, "authly_admin_requests_total", resource="other", action="read", status="403") == 1
    # The line of a request is written when its client has the answer.
    wait_until(lambda: instance.log().count('"path": "/admin/v1/nothing"') == 2)
    lines = [json.loads(line) for line in instance.log().splitlines()]
    assert [line["client"] for line in lines if line["event"] == "admin_denied"] == ["198.51.100.1"]
    assert {line["client"] for line in lines if line.get("path") == "/admin/v1/nothing"} == {
        "198.51.100.1",
        "192.0.2.7",
    }
