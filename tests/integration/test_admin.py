"""The administration interface and the command line, on a running instance with three workers."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from authly.tokens.models import Authorization
from authly.tokens.service import Wanted
from tests.administration import Administration, Answer, Services
from tests.instance import Instance, total
from tests.postgres import with_database
from tests.processes import wait_until

REDIRECT_URI = "https://app.example.org/callback"
PASSWORD = "correct horse battery"
# Random ones would give the same test another name in each process.
NOBODY = "7c5f9a86-6d0f-4a6e-9f0b-000000000000"


@pytest.fixture(scope="module")
def admin(postgres_server: str) -> Iterator[Administration]:
    """A running instance, and a token of a client that may do everything."""
    folder = Path(tempfile.mkdtemp(prefix="authly-"))
    name = f"admin_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        instance = Instance(
            folder,
            {
                "AUTHLY_DATABASE_URL": with_database(postgres_server, name),
                "AUTHLY_PASSWORD_HASH_TIME": "1",
                "AUTHLY_PASSWORD_HASH_MEMORY": "8",
                "AUTHLY_CLEANUP_INTERVAL": "1",
            },
        ).start()
        try:
            wait_until(lambda: instance.log().count("database_available") == 3, 30)
            running = Administration(instance)
            client = running.json(
                *("clients", "create", "--name", "Administration", "--type", "confidential"),
                *("--scope", "admin:read", "--scope", "admin:write"),
            )
            running.token = running.client_token(client, "admin:read admin:write")
            yield running
        finally:
            instance.stop()
            print(instance.log())  # noqa: T201
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            shutil.rmtree(folder)


def assert_problem(answer: Answer, status: int) -> None:
    """Make sure that an answer is a problem as RFC 9457 has it."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["status"] == status
    assert answer.body["type"] == "about:blank"
    assert answer.body["title"]
    assert answer.body["detail"].endswith(".")


def events(admin: Administration, subject_kind: str, subject_id: str) -> list[str]:
    """Return what the audit log says of something, in the order in which it happened."""
    answer = admin.call("GET", f"/audit-log?subject_kind={subject_kind}&subject_id={subject_id}")
    assert answer.status == 200
    return [entry["event"] for entry in reversed(answer.body["items"])]


def everywhere(condition: Callable[[], bool]) -> None:
    """Wait until something is so whichever worker is asked: far sooner than a cache would forget by itself."""
    wait_until(lambda: all(condition() for _ in range(9)), 10)


def new_user(admin: Administration, **fields: Any) -> dict[str, Any]:
    """Create a user."""
    answer = admin.call("POST", "/users", {"username": f"u{uuid4().hex}", **fields})
    assert answer.status == 201, answer
    return dict(answer.body)


def authorize(admin: Administration, user_id: str, client_id: str, scopes: tuple[str, ...] = ("openid",)) -> Any:
    """Let a user log in and allow a client something; return the session and what the client was issued."""

    async def act(services: Services) -> Any:
        session, _ = await services.identity.sessions.start(UUID(user_id), client_address="192.0.2.9")
        authorization = Authorization(
            client_id, UUID(user_id), session.session_id, scopes, (), None, session.authenticated_at, user_id
        )
        tokens = services.server.tokens
        code = await tokens.find_code(await tokens.issue_code(authorization, REDIRECT_URI, "x" * 43))
        assert code is not None
        wanted = Wanted(client_id, scopes, (services.server.endpoints.issuer,))
        return session, await tokens.redeem(code, wanted, with_refresh_token=True)

    return admin.inside(act)


# Who may call it


def test_without_a_token(admin: Administration) -> None:
    """Whoever shows no token is told which one it takes, and nothing of an error (RFC 6750, section 3.1)."""
    answer = admin.call("GET", "/users", token="")
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer scope="admin:read"'


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 10_000])
def test_with_a_token_that_is_none(admin: Administration, token: str) -> None:
    """What is no token is refused (RFC 6750, section 3.1)."""
    answer = admin.call("GET", "/users", token=token)
    assert_problem(answer, 401)
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_with_too_little_scope(admin: Administration) -> None:
    """Reading takes one scope, changing another; which one is missing is said (RFC 6750, section 3.1)."""
    client = admin.new_client("admin:read", "admin:write")
    reads, writes = admin.client_token(client, "admin:read"), admin.client_token(client, "admin:write")
    assert admin.call("GET", "/users", token=reads).status == 200
    assert admin.call("POST", "/scopes", {"name": "w", "description": "W"}, token=writes).status == 201
    for answer, missing in [
        (admin.call("GET", "/users", token=writes), "admin:read"),
        (admin.call("POST", "/scopes", {"name": "x", "description": "X"}, token=reads), "admin:write"),
        (admin.call("DELETE", "/scopes/%00", token=reads), "admin:write"),
    ]:
        assert_problem(answer, 403)
        assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{missing}"'
    denied = admin.call("GET", f"/audit-log?event=admin_denied&actor_id={client['client_id']}&actor_kind=client")
    assert [entry["detail"] for entry in reversed(denied.body["items"])] == [
        {"reason": "insufficient_scope", "method": method, "path": f"/admin/v1/{path}"}
        for method, path in [("GET", "users"), ("POST", "scopes"), ("DELETE", "scopes/%00")]
    ]


def test_a_token_for_somebody_else(admin: Administration) -> None:
    """A token for another audience opens nothing, whatever its scopes (RFC 8707, section 2; RFC 9068, section 4)."""
    client = admin.new_client("admin:read", resources=("https://api.example.org",))
    answer = admin.form(
        "/oauth2/token",
        client,
        grant_type="client_credentials",
        scope="admin:read",
        resource="https://api.example.org",
    )
    assert answer.status == 200
    assert_problem(admin.call("GET", "/users", token=answer.body["access_token"]), 401)


def test_a_revoked_token(admin: Administration) -> None:
    """A token that was revoked through the interface opens nothing on any worker."""
    client = admin.new_client("admin:read")
    token = admin.client_token(client, "admin:read")
    listed = admin.call("GET", f"/tokens?client_id={client['client_id']}").body["items"]
    assert len(listed) == 1
    assert listed[0]["scopes"] == ["admin:read"]
    assert admin.call("DELETE", f"/tokens/{listed[0]['token_id']}").status == 204
    for _ in range(6):
        assert_problem(admin.call("GET", "/users", token=token), 401)
    assert_problem(admin.call("DELETE", f"/tokens/{listed[0]['token_id']}"), 404)
    assert events(admin, "token", listed[0]["token_id"]) == ["token_revoked"]


def test_in_the_name_of_a_user(admin: Administration) -> None:
    """A token in the name of a user is good while the user is an administrator, and no longer."""
    client = admin.new_client("admin:read", "admin:write", redirect_uri=REDIRECT_URI)
    user = new_user(admin, is_admin=True)
    _, issued = authorize(admin, user["user_id"], client["client_id"], ("admin:read", "admin:write"))
    path = f"/users/{user['user_id']}"
    assert admin.call("GET", path, token=issued.access_token).status == 200
    # Nobody locks themselves out.
    for answer in [
        admin.call("PATCH", path, {"is_admin": False}, token=issued.access_token),
        admin.call("PATCH", path, {"disabled": True}, token=issued.access_token),
        admin.call("DELETE", path, token=issued.access_token),
    ]:
        assert_problem(answer, 409)
    assert admin.call("PATCH", path, {"name": "Ann"}, token=issued.access_token).body["name"] == "Ann"
    entry = admin.call("GET", f"/audit-log?actor_kind=user&actor_id={user['user_id']}").body["items"][0]
    assert entry["event"] == "user_updated"
    assert entry["actor"] == {"kind": "user", "id": user["user_id"]}
    assert entry["client_address"] == "127.0.0.1"
    assert entry["detail"] == {"changed": ["name"]}
    assert admin.call("PATCH", path, {"is_admin": False}).status == 200
    assert_problem(admin.call("GET", path, token=issued.access_token), 403)
    series = admin.instance.series()
    assert total(series, "authly_security_events_total", event_type="admin_denied", severity="medium") >= 1


# Problems


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("PUT", "/clients", None, 405),
        ("GET", f"/users/{NOBODY}", None, 404),
        ("GET", "/users/none", None, 422),
        ("GET", "/users?limit=0", None, 422),
        ("GET", "/users?limit=201", None, 422),
        ("GET", "/users?cursor=nonsense", None, 400),
        ("GET", "/users?cursor=MTA", None, 400),
        ("GET", "/clients?cursor=WzFd", None, 400),
        ("GET", "/clients?cursor=LTE", None, 400),
        ("GET", "/clients?search=%00", None, 422),
        ("GET", "/clients/%00", None, 422),
        ("GET", "/audit-log?event=made_up", None, 422),
        ("GET", "/audit-log?actor_id=x", None, 422),
        ("GET", "/audit-log?since=2026-01-01T00:00:00", None, 422),
        ("POST", "/clients", {"name": "x"}, 422),
        ("POST", "/clients", {"name": "x", "type": "public", "made_up": 1}, 422),
        ("POST", "/clients", {"name": "x", "type": "public", "redirect_uris": ["http://a.example/"]}, 422),
        ("POST", "/clients", {"name": "\x00", "type": "public"}, 422),
        ("POST", "/users", {"username": "a b"}, 422),
        ("POST", "/users", {"username": "short", "password": "x"}, 422),
        ("POST", "/users", {"username": "u", "name": "\ud800"}, 422),
        ("POST", "/scopes", {"name": "a b", "description": "x"}, 422),
        ("POST", "/scopes", {"name": "openid", "description": "x"}, 422),
        ("DELETE", "/scopes/openid", None, 422),
        ("DELETE", "/scopes/nothing", None, 404),
        ("PATCH", "/clients/nothing", {"name": "x"}, 404),
        ("POST", "/clients/nothing/secret", None, 404),
        ("DELETE", f"/sessions/{NOBODY}", None, 404),
        ("DELETE", f"/tokens/families/{NOBODY}", None, 404),
        ("DELETE", f"/consents/{NOBODY}/nothing", None, 404),
    ],
)
def test_problems(admin: Administration, method: str, path: str, body: object, status: int) -> None:
    """Whatever is wrong is said in one format (RFC 9457)."""
    assert_problem(admin.call(method, path, body), status)


def test_a_body_that_is_too_long(admin: Administration) -> None:
    """So is that a request is too long."""
    assert_problem(admin.call("POST", "/users", {"username": "x" * 70_000}), 413)


def test_what_is_wrong_with_a_field(admin: Administration) -> None:
    """A problem with fields names each of them."""
    answer = admin.call("POST", "/clients", {"name": 1, "type": "odd"})
    assert_problem(answer, 422)
    assert [problem["field"] for problem in answer.body["errors"]] == ["name", "type"]


# What there is


def test_clients(admin: Administration) -> None:
    """Clients are registered, found, changed, disabled and deleted, at once for all workers, and all is recorded."""
    wanted = {
        "name": "Orders",
        "type": "confidential",
        "grant_types": ["client_credentials"],
        "scopes": ["admin:read"],
        "access_token_ttl": 60,
    }
    created = admin.call("POST", "/clients", wanted)
    assert created.status == 201
    client = created.body
    assert wanted.items() <= client.items()
    path = f"/clients/{client['client_id']}"
    assert created.headers["location"] == f"/admin/v1{path}"
    shown = admin.call("GET", path).body
    assert shown == {name: value for name, value in client.items() if name != "client_secret"}
    found = admin.call("GET", f"/clients?search={client['client_id'][4:20]}").body["items"]
    assert found == [shown]
    admin.client_token(client, "admin:read")

    changed = admin.call("PATCH", path, {"name": "Orders 2", "access_token_ttl": None}).body
    assert (changed["name"], changed["access_token_ttl"], changed["scopes"]) == ("Orders 2", None, ["admin:read"])

    secret = admin.call("POST", f"{path}/secret").body["client_secret"]
    renewed = {**client, "client_secret": secret}
    everywhere(lambda: admin.form("/oauth2/token", client, grant_type="client_credentials").status == 401)
    everywhere(lambda: admin.form("/oauth2/token", renewed, grant_type="client_credentials").status == 200)

    token = admin.client_token(renewed, "admin:read")
    # One change after the other, each by whichever worker: none undoes the one before it.
    for number in range(8):
        assert admin.call("PATCH", path, {"access_token_ttl": 60 + number}).status == 200
        changed = admin.call("PATCH", path, {"name": f"Orders {number}"}).body
        assert (changed["name"], changed["access_token_ttl"]) == (f"Orders {number}", 60 + number)
        assert admin.call("GET", path).body == changed
    assert admin.call("PATCH", path, {"enabled": False}).body["enabled"] is False
    everywhere(lambda: admin.form("/oauth2/token", renewed, grant_type="client_credentials").status == 401)
    assert {admin.call("GET", "/users", token=token).status for _ in range(6)} == {401}
    assert admin.call("DELETE", path).status == 204
    assert_problem(admin.call("GET", path), 404)
    assert events(admin, "client", client["client_id"]) == [
        "client_created",
        "client_updated",
        "client_secret_rotated",
        *["client_updated"] * 17,
        "client_deleted",
    ]


def test_scopes(admin: Administration) -> None:
    """Scopes are added, described and deleted."""
    name = f"orders:{uuid4().hex}"
    assert admin.call("POST", "/scopes", {"name": name, "description": "See orders"}).status == 201
    assert_problem(admin.call("POST", "/scopes", {"name": name, "description": "See orders"}), 422)
    assert admin.call("PATCH", f"/scopes/{name}", {"description": "See all"}).body["description"] == "See all"
    assert name in [scope["name"] for scope in admin.call("GET", "/scopes?limit=200").body["items"]]
    assert admin.call("DELETE", f"/scopes/{name}").status == 204
    assert_problem(admin.call("GET", f"/scopes/{name}"), 404)
    assert events(admin, "scope", name) == ["scope_created", "scope_updated", "scope_deleted"]


def test_users(admin: Administration) -> None:
    """Users are created, found, changed, disabled with all that is theirs, and deleted."""
    user = new_user(admin, email="a@example.org", password=PASSWORD, claims={"locale": "de"})
    path = f"/users/{user['user_id']}"
    assert admin.call("GET", path).body == user
    assert "password" not in json.dumps(user)
    assert_problem(admin.call("POST", "/users", {"username": user["username"].upper()}), 422)
    assert admin.call("PATCH", path, {"email": None, "name": "Ann"}).body["email"] is None

    client = admin.new_client("openid", redirect_uri=REDIRECT_URI)
    session, issued = authorize(admin, user["user_id"], client["client_id"])
    assert admin.form("/oauth2/introspect", client, token=issued.access_token).body["active"] is True
    sessions = admin.call("GET", f"/sessions?user_id={user['user_id']}").body["items"]
    assert [found["session_id"] for found in sessions] == [str(session.session_id)]
    assert sessions[0]["client_address"] == "192.0.2.9"
    disabled = admin.call("PATCH", path, {"disabled": True}).body
    assert disabled["disabled_at"] is not None
    assert admin.form("/oauth2/introspect", client, token=issued.access_token).body == {"active": False}
    assert admin.call("GET", f"/sessions?user_id={user['user_id']}").body["items"] == []
    assert admin.call("PATCH", path, {"disabled": False}).body["disabled_at"] is None

    reset = admin.call("POST", f"{path}/password", {}).body
    assert len(reset["password"]) >= 20
    assert admin.call("POST", f"{path}/password", {"password": PASSWORD}).body["password"] is None
    assert admin.call("DELETE", path).status == 204
    assert_problem(admin.call("GET", path), 404)
    assert events(admin, "user", user["user_id"]) == [
        "user_created",
        "user_updated",
        "user_disabled",
        "user_enabled",
        "password_reset",
        "password_reset",
        "user_deleted",
    ]


def test_sessions_and_families(admin: Administration) -> None:
    """Ending a session ends what was allowed in it; so does revoking the authorization, and taking back the consent."""
    user = new_user(admin)
    client = admin.new_client("openid", redirect_uri=REDIRECT_URI)

    def is_active(issued: Any) -> bool:
        return bool(admin.form("/oauth2/introspect", client, token=issued.access_token).body["active"])

    session, issued = authorize(admin, user["user_id"], client["client_id"])
    assert is_active(issued)
    assert admin.call("DELETE", f"/sessions/{session.session_id}").status == 204
    assert not is_active(issued)
    assert_problem(admin.call("DELETE", f"/sessions/{session.session_id}"), 404)
    assert admin.call("GET", f"/sessions/{session.session_id}").body["ended_at"] is not None
    assert events(admin, "session", str(session.session_id)) == ["sessions_ended"]

    _, issued = authorize(admin, user["user_id"], client["client_id"])
    families = admin.call("GET", f"/tokens/families?user_id={user['user_id']}").body["items"]
    family = next(found for found in families if found["revoked_at"] is None)
    assert admin.call("DELETE", f"/tokens/families/{family['family_id']}").status == 204
    assert not is_active(issued)

    async def consent(services: Services) -> None:
        await services.server.consents.grant(UUID(user["user_id"]), client["client_id"], ("openid",), ())

    admin.inside(consent)
    _, issued = authorize(admin, user["user_id"], client["client_id"])
    consents = admin.call("GET", f"/consents?user_id={user['user_id']}").body["items"]
    assert [found["scopes"] for found in consents] == [["openid"]]
    assert admin.call("DELETE", f"/consents/{user['user_id']}/{client['client_id']}").status == 204
    assert not is_active(issued)

    session, issued = authorize(admin, user["user_id"], client["client_id"])
    assert admin.call("DELETE", f"/users/{user['user_id']}/sessions").body == {"ended": 3}
    assert not is_active(issued)


@pytest.mark.parametrize("path", ["/users?search=page", "/clients?search=page", "/scopes?", "/audit-log?"])
def test_pages(admin: Administration, path: str) -> None:
    """Page by page a list has each item once, in its order, however small the pages."""
    for number in range(5):
        name = f"page{number}-{uuid4().hex}"
        new_user(admin, username=name)
        client = {"name": name, "type": "confidential", "grant_types": ["client_credentials"]}
        assert admin.call("POST", "/clients", client).status == 201
    whole = admin.call("GET", f"{path}&limit=200").body
    assert whole["next_cursor"] is None or path.startswith("/audit-log")
    items: list[dict[str, Any]] = []
    cursor = ""
    while len(items) < len(whole["items"]):
        page = admin.call("GET", f"{path}&limit=3{f'&cursor={cursor}' if cursor else ''}").body
        assert len(page["items"]) == 3 or page["next_cursor"] is None
        items += page["items"]
        cursor = page["next_cursor"]
    assert len(items) >= 5
    assert items == whole["items"][: len(items)]


def test_statistics(admin: Administration) -> None:
    """The statistics follow what happens."""
    before = admin.call("GET", "/statistics").body
    user = new_user(admin)
    client = admin.new_client("openid", redirect_uri=REDIRECT_URI)
    authorize(admin, user["user_id"], client["client_id"])
    after = admin.call("GET", "/statistics").body
    assert {name: after[name] - before[name] for name in after} == dict.fromkeys(
        ["users", "sessions", "clients", "access_tokens", "refresh_tokens"], 1
    )


def test_the_openapi_document(admin: Administration) -> None:
    """Each operation says what it takes and what may go wrong, and nothing is referred to that is not there."""
    document = json.loads(admin.instance.get("/openapi.json")[2])
    operations = [
        operation
        for path, methods in document["paths"].items()
        if path.startswith("/admin/")
        for operation in methods.values()
    ]
    assert len(operations) >= 28
    for operation in operations:
        assert operation["security"] == [{"administrator": []}]
        assert operation["summary"]
        assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
        assert "application/problem+json" in operation["responses"]["422"]["content"]
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


def test_answers_are_documented(admin: Administration) -> None:
    """Whatever schemathesis sends, with a token and without, is answered as the document says."""
    schema = schemathesis.openapi.from_url(f"http://{admin.instance.address}/openapi.json")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    operations = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    for operation in (operation for operation in operations if operation.path.startswith("/admin/")):

        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(), authenticates=st.sampled_from([True, True, True, False]))
        def ask(case: Any, authenticates: bool) -> None:
            headers = {"authorization": f"Bearer {admin.token}"} if authenticates else {}
            case.call_and_validate(checks=checks, headers=headers, allow_redirects=False)

        ask()


# The command line


def test_command_line_users(admin: Administration) -> None:
    """An operator creates users, gives them passwords, ends their sessions, and all of it is recorded as theirs."""
    name = f"cli{uuid4().hex}"
    created = admin.json(
        "users", "create", "--username", name, "--email", "c@example.org", "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    assert created["username"] == name
    assert "password" not in created
    generated = admin.json("users", "create", "--username", f"{name}2", "--admin")
    assert generated["is_admin"] is True
    assert len(generated["password"]) >= 20
    assert [user["username"] for user in admin.json("users", "list", "--search", name)] == [name, f"{name}2"]
    assert name in admin.run("users", "list").stdout

    client = admin.new_client("openid", redirect_uri=REDIRECT_URI)
    session, _ = authorize(admin, created["user_id"], client["client_id"])
    listed = admin.json("sessions", "list", "--username", name)
    assert [found["session_id"] for found in listed] == [str(session.session_id)]
    admin.run("sessions", "end", str(session.session_id))
    authorize(admin, created["user_id"], client["client_id"])
    assert admin.json("users", "end-sessions", name)["sessions_ended"] == 1
    assert len(admin.json("users", "reset-password", name)["password"]) >= 20
    admin.run("users", "disable", name)
    assert admin.json("users", "show", name)["disabled_at"] is not None
    admin.run("users", "enable", name)
    admin.run("users", "delete", name, "--yes")
    assert events(admin, "user", created["user_id"]) == [
        "user_created",
        "sessions_ended",
        "password_reset",
        "user_disabled",
        "user_enabled",
        "user_deleted",
    ]
    entry = admin.json("audit", "list", "--event", "user_deleted", "--limit", "1")[0]
    assert entry["actor"].startswith("operator:")


def test_command_line_clients_scopes_keys(admin: Administration) -> None:
    """An operator adds scopes and clients, which work at once, and looks after keys."""
    scope = f"cli:{uuid4().hex}"
    admin.run("scopes", "create", scope, "Do as the test says")
    admin.run("scopes", "describe", scope, "Do it well")
    assert {"name": scope, "description": "Do it well"}.items() <= next(
        found for found in admin.json("scopes", "list") if found["name"] == scope
    ).items()
    client = admin.json(
        *("clients", "create", "--name", "Test", "--type", "confidential"),
        *("--scope", scope, "--grant-type", "client_credentials"),
    )
    assert list(client)[:2] == ["client_id", "client_secret"]
    admin.client_token(client, scope)
    assert client["client_id"] in admin.run("clients", "list").stdout
    renewed = admin.json("clients", "rotate-secret", client["client_id"])

    def status() -> int:
        return admin.form("/oauth2/token", renewed, grant_type="client_credentials", scope=scope).status

    everywhere(lambda: status() == 200)
    admin.run("clients", "disable", client["client_id"])
    everywhere(lambda: status() == 401)
    admin.run("clients", "enable", client["client_id"])
    everywhere(lambda: status() == 200)
    admin.run("clients", "delete", client["client_id"], "--yes")
    everywhere(lambda: status() == 401)
    admin.run("scopes", "delete", scope, "--yes")

    before = admin.json("keys", "list")
    assert {key["state"] for key in before} == {"active"}
    assert not any("d" in key["public_key"] for key in before)
    admin.run("keys", "rotate", "--algorithm", "ES256")
    after = admin.json("keys", "list")
    assert sorted(key["state"] for key in after) == ["active", "active", "active", "pending"]
    assert events(admin, "key", "ES256") == ["key_rotated"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["users", "show", "nobody"], "There is no user nobody."),
        (["users", "create", "--username", "a b"], "A username has 1 to 64 letters"),
        (["users", "create", "--username", "x", "--password-stdin"], "There is no password on standard input."),
        (["clients", "show", "none"], "There is no client none."),
        (["clients", "create", "--name", "x", "--type", "public"], "needs a redirect URI"),
        (["clients", "create", "--name", "x", "--type", "odd"], "'odd' is not one of"),
        (["clients", "create", "--name", "x", "--type", "confidential", "--scope", "nope"], "There is no scope nope"),
        (["scopes", "delete", "openid", "--yes"], "cannot be deleted"),
        (["sessions", "end", NOBODY], "There is no session"),
    ],
)
def test_command_line_problems(admin: Administration, arguments: list[str], message: str) -> None:
    """What is wrong is one line on standard error, and the status says that it went wrong."""
    done = admin.run(*arguments, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_command_line_without_a_schema(admin: Administration, database_url: str) -> None:
    """A database without the schema, or none, is said with what to do."""
    environment = dict(admin.instance.environment)
    try:
        admin.instance.environment["AUTHLY_DATABASE_URL"] = database_url
        assert "authly db migrate" in admin.run("users", "list", check=False).stderr
        admin.instance.environment["AUTHLY_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/none"
        assert "connection refused" in admin.run("users", "list", check=False).stderr
    finally:
        admin.instance.environment = environment


# What nobody needs any more


def test_clean_up(admin: Administration) -> None:
    """Expired tokens and sessions are deleted by one worker; what is still valid stays."""
    user = new_user(admin)
    client = admin.new_client("openid", redirect_uri=REDIRECT_URI)
    authorize(admin, user["user_id"], client["client_id"])
    _, issued = authorize(admin, user["user_id"], client["client_id"])
    url = admin.instance.environment["AUTHLY_DATABASE_URL"]
    token_id = issued.claims.token_id
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE access_tokens SET expires_at = now() - interval '1 second' WHERE client_id = %s AND token_id <> %s",
            (client["client_id"], token_id),
        )
        connection.execute(
            "UPDATE sessions SET ended_at = now() - interval '2 days' WHERE session_id = "
            "(SELECT session_id FROM sessions WHERE user_id = %s LIMIT 1)",
            (user["user_id"],),
        )
        connection.execute("INSERT INTO rate_limits VALUES ('gone', 0, true)")

        def counts() -> tuple[Any, ...]:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM access_tokens WHERE client_id = %s), "
                "(SELECT count(*) FROM sessions WHERE user_id = %s), (SELECT count(*) FROM rate_limits)",
                (client["client_id"], user["user_id"]),
            ).fetchone()
            assert row is not None
            return tuple(row)

        wait_until(lambda: counts() == (1, 1, 0), 30)
    assert admin.form("/oauth2/introspect", client, token=issued.access_token).body["active"] is True

    def rows(task: str) -> float:
        return total(admin.instance.series(), "authly_cleanup_rows_deleted_total", task=task)

    wait_until(lambda: rows("tokens") >= 1 and rows("sessions") >= 1 and rows("rate_limits") >= 1)
    assert total(admin.instance.series(), "authly_cleanup_runs_total", status="success") > 0
    assert total(admin.instance.series(), "authly_cleanup_runs_total", status="error") == 0
    elected = [line for line in admin.instance.log().splitlines() if '"jobs_elected"' in line]
    assert len(elected) == 1
