"""Logging in over real HTTP: three workers that share their sessions, their limits and nothing else."""

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.forms import PageClient, hidden_fields, log_in, sign_up, submit
from tests.instance import Instance
from tests.integration.test_database_away import Server
from tests.integration.test_database_away import server as server
from tests.plain import NO_TLS
from tests.postgres import new_database
from tests.processes import wait_until

MakeInstance = Callable[..., Instance]

PASSWORD = "correct horse battery staple"
NEW = "a new and longer sentence"
SESSION = "__Host-authly_session"
_numbers = count()


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """The URL of the database of this module's instance."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def address(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of three workers with sign-up."""
    folder = tmp_path_factory.mktemp("instance")
    instance = Instance(folder, {"AUTHLY_DATABASE_URL": database, "AUTHLY_SIGN_UP_ENABLED": "true"})
    try:
        instance.start()
        wait_until(lambda: instance.log().count("database_available") == 3, 30)
        yield f"http://{instance.address}"
    finally:
        instance.stop()
        print(instance.log())  # noqa: T201


@pytest.fixture
def client(address: str) -> Iterator[PageClient]:
    """A browser that nobody has used."""
    with PageClient(address) as client:
        yield client


@pytest.fixture
def username(address: str) -> str:
    """The name of a user of this test's own, whose password is PASSWORD."""
    name = f"user{next(_numbers)}"
    with PageClient(address) as client:
        sign_up(client, name, PASSWORD)
    return name


def cookie(client: PageClient, name: str = SESSION) -> str | None:
    """Return the value of a cookie that a browser keeps."""
    return client.kept.get(name)


def session_cookie(address: str, username: str) -> str:
    """Log in with a new browser, and return its cookie."""
    with PageClient(address) as other:
        log_in(other, username, PASSWORD)
        value = cookie(other)
    assert value is not None
    return value


def account(address: str, value: str) -> int:
    """Ask for the account page with a cookie; return the status."""
    return httpx.get(f"{address}/account", headers={"cookie": f"{SESSION}={value}"}, verify=NO_TLS).status_code


def test_every_worker_knows_every_session(client: PageClient, username: str) -> None:
    """Thirty requests, each of its own connection, all find the session; none does after the end of it."""
    log_in(client, username, PASSWORD)
    assert {client.get("/account").status_code for _ in range(30)} == {200}
    kept = cookie(client)
    assert kept is not None
    page = client.get("/logout")
    assert client.post("/logout", data=hidden_fields(page)).status_code == 303
    assert cookie(client) is None
    assert {account(str(client.base_url), kept) for _ in range(30)} == {303}


def test_a_session_that_was_planted_is_not_used(client: PageClient, username: str) -> None:
    """Neither a value that was made up nor another's session is what a login gives (session fixation)."""
    address = str(client.base_url).rstrip("/")
    planted = "A" * 43
    client.kept.set(SESSION, planted, domain="127.0.0.1", path="/")
    log_in(client, username, PASSWORD)
    values = [one.value for one in client.kept.jar if one.name == SESSION and one.value != planted]
    assert len(values) == 1
    assert account(address, planted) == 303
    assert account(address, str(values[0])) == 200


def test_a_login_ends_the_cookie_before_it(client: PageClient, address: str, username: str) -> None:
    """Whoever knew the old value has nothing."""
    log_in(client, username, PASSWORD)
    before = cookie(client)
    log_in(client, username, PASSWORD)
    after = cookie(client)
    assert before is not None
    assert after is not None
    assert before != after
    assert account(address, before) == 303
    assert account(address, after) == 200


def test_changing_the_password_ends_sessions_of_all_workers(client: PageClient, address: str, username: str) -> None:
    """Wherever they were started."""
    others = [session_cookie(address, username) for _ in range(6)]
    log_in(client, username, PASSWORD)
    fields = {"current_password": PASSWORD, "new_password": NEW, "repeated_password": NEW}
    assert submit(client, "/account/password", **fields).status_code == 303
    assert {client.get("/account").status_code for _ in range(10)} == {200}
    assert {account(address, value) for value in others} == {303}


def test_an_unknown_user_and_a_wrong_password_are_answered_alike(address: str, username: str) -> None:
    """The same status, headers and text, but for what is new in each page."""

    def answer(name: str) -> tuple[int, list[str], str]:
        with PageClient(address) as client:
            found = submit(client, "/login", username=name, password="wrong")
        text = re.sub(r'name="csrf_token" value="\w+"', "", found.text).replace(name, "NAME")
        return found.status_code, sorted(name for name, _ in found.headers.multi_items()), text

    known, unknown = answer(username), answer(f"x{username}")
    assert known == unknown
    assert known[0] == 403


def test_limits_hold_exactly_across_workers(address: str, username: str) -> None:
    """Of sixty guesses at once from one address six are looked at, whichever workers they land on."""

    def guess(number: int) -> int:
        with PageClient(address) as client:
            return submit(client, "/login", username=username, password=f"guess {number}").status_code

    began = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        statuses = sorted(threads.map(guess, range(60)))
    # On a busy machine delays end meanwhile: the first after a second, the next after two more, and so on.
    more = int(math.log2(1 + time.monotonic() - began))
    admitted = statuses.count(403)
    assert 6 <= admitted <= 6 + more
    assert statuses.count(429) == 60 - admitted


def test_logins_at_once(address: str, username: str) -> None:
    """Who has the right password gets in from several browsers at once, each with a session of its own."""
    with ThreadPoolExecutor(10) as threads:
        cookies = list(threads.map(lambda _: session_cookie(address, username), range(5)))
    assert len(set(cookies)) == 5
    assert {account(address, value) for value in cookies} == {200}


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({}, {}, 403),
        ({"csrf_token": "x"}, {}, 403),
        ({"csrf_token": None}, {"sec-fetch-site": "cross-site"}, 403),
        ({"csrf_token": None}, {"sec-fetch-site": "same-site"}, 403),
        ({"csrf_token": None}, {"origin": "https://evil.example"}, 403),
        ({"csrf_token": None}, {"origin": "null"}, 403),
        ({"csrf_token": None}, {"sec-fetch-site": "same-origin", "origin": "null"}, 303),
        ({"csrf_token": None}, {"origin": "http://HOST"}, 303),
        ({"csrf_token": None}, {}, 303),
        ({"csrf_token": None}, {"content-type": "text/plain"}, 400),
        ({"csrf_token": None}, {"content-type": "application/json"}, 400),
    ],
)
def test_forms_of_other_sites_are_refused(
    client: PageClient, username: str, fields: dict[str, str | None], headers: dict[str, str], status: int
) -> None:
    """Without our token, or where the browser says that another site sends it; None stands for the right token."""
    page = client.get("/login")
    host = page.request.headers["host"]
    token = {name: value or hidden_fields(page)[name] for name, value in fields.items()}
    data = {"username": username, "password": PASSWORD, **token}
    sent = {name: value.replace("HOST", host) for name, value in headers.items()}
    answer = client.post("/login", data=data, headers=sent)
    assert answer.status_code == status
    assert (cookie(client) is not None) == (status == 303)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/account/password?x=1", "/account/password?x=1"),
        ("//evil.example", "/account"),
        ("https://evil.example", "/account"),
        ("/\\evil.example", "/account"),
        ("/a\r\nset-cookie: a=b", "/account"),
        ("", "/account"),
    ],
)
def test_after_the_login_nobody_is_sent_elsewhere(
    client: PageClient, username: str, target: str, location: str
) -> None:
    """Whether another target comes with the address or with the form."""
    page = client.get("/login", params={"return_to": target})
    assert hidden_fields(page)["return_to"] == location
    data = {**hidden_fields(page), "username": username, "password": PASSWORD, "return_to": target}
    answer = client.post("/login", data=data)
    assert (answer.status_code, answer.headers["location"]) == (303, location)
    assert answer.headers.get_list("set-cookie") == [
        one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-authly_")
    ]


def test_the_database_holds_no_secret(client: PageClient, database: str, username: str) -> None:
    """Neither passwords nor the values of cookies are in any table."""
    log_in(client, username, PASSWORD)
    secrets = [PASSWORD, *(str(one.value) for one in client.kept.jar)]
    with psycopg.connect(database) as connection:
        for table in ("users", "credentials", "sessions", "known_devices", "login_failures", "audit_log"):
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()
            assert rows
            assert not [secret for secret in secrets if secret in repr(rows)]


def test_pages_are_kept_by_nobody(client: PageClient, username: str) -> None:
    """Neither by browsers nor by proxies, be they answers or the ways to one."""
    log_in(client, username, PASSWORD)
    for path in ("/login", "/logout", "/account", "/account/password", "/signup"):
        assert client.get(path).headers["cache-control"] == "no-store"
    assert httpx.get(f"{client.base_url}/account", verify=NO_TLS).headers["cache-control"] == "no-store"


def is_ready(instance: Instance) -> bool:
    """Tell whether twelve questions in a row find a worker that is ready."""
    return all(instance.get("/health/ready")[0] == 200 for _ in range(12))


def first_administrators(*instances: Instance) -> list[dict[str, str]]:
    """Return what the logs of instances say about the first administrator."""
    lines = [json.loads(line) for instance in instances for line in instance.log().splitlines() if "{" in line]
    return [line for line in lines if line["event"] == "administrator_created"]


def test_one_administrator_of_two_instances_that_start_at_once(make_instance: MakeInstance, database_url: str) -> None:
    """Four workers of two instances find an empty database: one shows a password, once, and it opens the account."""
    # However little is logged.
    settings = {"AUTHLY_DATABASE_URL": database_url, "AUTHLY_LOG_LEVEL": "critical", "AUTHLY_WORKERS": "2"}
    instances = [make_instance(**settings).spawn() for _ in range(2)]
    for instance in instances:
        wait_until(instance.is_live, 30)
        wait_until(partial(is_ready, instance), 30)
    (shown,) = first_administrators(*instances)
    assert shown["username"] == "admin"
    password = shown["password"]
    for instance in instances:
        with PageClient(f"http://{instance.address}") as client:
            log_in(client, "admin", password)
            # A worker that has no connection at this moment says so, and that it is worth asking again.
            wait_until(lambda client=client: "admin" in client.get("/account").text, 10)  # type: ignore[misc]
            # What only an operator offers.
            assert client.get("/signup").status_code == 404
    # It is nowhere else: not in metrics, not in what metrics are made of.
    for instance in instances:
        assert password not in instance.scrape()[2].decode()
        for path in filter(Path.is_file, instance.directory.iterdir()):
            assert password.encode() not in path.read_bytes()
    restarted = make_instance(**settings).start()
    wait_until(lambda: restarted.get("/health/ready")[0] == 200, 30)
    assert first_administrators(restarted) == []


def test_an_administrator_with_a_given_password(make_instance: MakeInstance, migrated_url: str) -> None:
    """The log says that it was created, and not its password."""
    instance = make_instance(
        AUTHLY_DATABASE_URL=migrated_url,
        AUTHLY_ADMIN_USERNAME="Root",
        AUTHLY_ADMIN_PASSWORD=PASSWORD,
        AUTHLY_WORKERS="1",
    ).start()
    wait_until(lambda: instance.get("/health/ready")[0] == 200, 30)
    (shown,) = first_administrators(instance)
    assert (shown["username"], "password" in shown) == ("Root", False)
    assert PASSWORD not in instance.log()
    with PageClient(f"http://{instance.address}") as client:
        log_in(client, "root", PASSWORD)


def test_a_first_start_that_cannot_succeed_says_why(make_instance: MakeInstance, migrated_url: str) -> None:
    """The instance is live and not ready, and its answer says what is wrong with the setting."""
    instance = make_instance(
        AUTHLY_DATABASE_URL=migrated_url,
        AUTHLY_ADMIN_PASSWORD="aaaaaaaaaaaaaaaa",
        AUTHLY_WORKERS="1",
    ).start()
    wait_until(lambda: b"first start failed: The password is too easy" in instance.get("/health/ready")[2], 30)


def test_pages_while_the_database_is_away(server: Server, make_instance: MakeInstance) -> None:
    """A page says so with 503 and Retry-After, and at once; it works again when the database is back."""
    url = server.start()
    instance = make_instance(AUTHLY_DATABASE_URL=url, AUTHLY_ADMIN_PASSWORD=PASSWORD, AUTHLY_WORKERS="2").start()
    wait_until(lambda: instance.log().count("database_available") == 2, 30)
    with PageClient(f"http://{instance.address}") as client:
        log_in(client, "admin", PASSWORD)
        server.stop()
        html = {"accept": "text/html,application/xhtml+xml"}
        answers = [client.get("/account", headers=html) for _ in range(6)]
        for answer in answers:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "Authly cannot answer at this moment" in answer.text
            assert answer.headers["cache-control"] == "no-store"
        # Those who are not people get an error that programs understand.
        answer = client.get("/account")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"] == "temporarily_unavailable"
        # The form itself needs no database; sending it does.
        with PageClient(f"http://{instance.address}") as stranger:
            assert submit(stranger, "/login", username="admin", password=PASSWORD).status_code == 503
        # Soon nobody waits any more to find that out.
        wait_until(lambda: client.get("/account").elapsed.total_seconds() < 0.5, 15)
        assert server.start() == url
        wait_until(lambda: all(client.get("/account").status_code == 200 for _ in range(10)), 20)
