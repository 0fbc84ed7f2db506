"""The example of a protected API does what its page says."""

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.instance import REPOSITORY, free_port
from tests.oauth import Registered, Server
from tests.plain import NO_TLS
from tests.processes import wait_until

AUDIENCE = "https://orders.example/"


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[httpx.Client]:
    """The API, running."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--app-dir", "examples/protected_api", "--port", str(port), "app:app"],
        cwd=REPOSITORY,
        env={"ISSUER": server.url, "AUDIENCE": AUDIENCE, "PATH": ""},
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=NO_TLS) as client:

            def answers() -> bool:
                try:
                    return client.get("/openapi.json").status_code == 200
                except httpx.ConnectError:
                    return False

            wait_until(answers, 30)
            yield client
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def reports(server: Server) -> Registered:
    """The client of the page, which may do something else besides."""
    return server.service(name="Reports", scopes=("orders:read", "orders:write"), resources=(AUDIENCE,))


def ask(api: httpx.Client, token: str | None) -> httpx.Response:
    """Ask for the orders."""
    return api.get("/orders", headers={} if token is None else {"authorization": f"Bearer {token}"})


def token(server: Server, client: Registered, **wanted: str) -> str:
    """Get an access token."""
    answer = server.token(client, grant_type="client_credentials", **wanted)
    return str(answer.json()["access_token"])


def test_with_a_token(server: Server, api: httpx.Client, reports: Registered) -> None:
    """The page's own request is answered."""
    good = token(server, reports, scope="orders:read", resource=AUDIENCE)
    answer = ask(api, good)
    assert answer.json() == {"asked_by": reports.id, "orders": ["tea", "biscuits"]}


def test_without_a_good_one(server: Server, api: httpx.Client, reports: Registered) -> None:
    """Nothing, nonsense, a token for Authly, a forged one: 401; one without the scope: 403."""
    good = token(server, reports, scope="orders:read", resource=AUDIENCE)
    for bad in (None, "x", "a.b.c", token(server, reports, scope="orders:read"), good[:-4] + "AAAA"):
        answer = ask(api, bad)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert ask(api, token(server, reports, scope="orders:write", resource=AUDIENCE)).status_code == 403
