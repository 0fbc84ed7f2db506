"""PostgreSQL killed under traffic: clear refusals meanwhile, and nothing lost or issued twice."""

import os
import signal
import threading
from collections.abc import Callable

import httpx

from authly.core.embedded_postgres import EmbeddedPostgres
from tests.instance import Instance
from tests.oauth import SETTINGS, Server
from tests.postgres import postmaster_pid
from tests.processes import wait_until


def test_database_is_killed_under_traffic(make_instance: Callable[..., Instance]) -> None:
    """Every token that was given out is worth something afterwards; every refusal says to come again."""
    instance = make_instance(**SETTINGS)
    # One of its own, which the master starts again when it is gone.
    del instance.environment["AUTHLY_DATABASE_URL"]
    instance.start()
    wait_until(lambda: all(instance.get("/health/ready")[0] == 200 for _ in range(10)), 30)
    found = [line for line in instance.log().splitlines() if "PostgreSQL in" in line]
    assert found
    state = instance.folder / "state"
    server = Server(instance, database_url(instance))
    client, service = server.client(), server.service()
    chains = [server.tokens(client)["refresh_token"] for _ in range(3)]
    issued: list[str] = []
    refusals: list[httpx.Response] = []
    stop = threading.Event()

    def refresh(token: str) -> None:
        """Refresh again and again, as a client that repeats what was refused."""
        with httpx.Client(base_url=server.url, timeout=30, auth=client.basic) as http:
            while not stop.is_set():
                form = {"grant_type": "refresh_token", "refresh_token": token}
                answer = http.post("/oauth2/token", data=form)
                if answer.status_code == 200:
                    issued.append(answer.json()["access_token"])
                    token = answer.json()["refresh_token"]
                else:
                    refusals.append(answer)

    threads = [threading.Thread(target=refresh, args=(token,)) for token in chains]
    for thread in threads:
        thread.start()
    for _ in range(2):
        already = len(issued)
        wait_until(lambda seen=already: len(issued) > seen + 20, 60)  # type: ignore[misc]
        os.kill(postmaster_pid(state), signal.SIGKILL)
        wait_until(lambda seen=len(refusals): len(refusals) > seen, 60)  # type: ignore[misc]
        # Recovered, without anybody's help.
        already = len(issued)
        wait_until(lambda seen=already: len(issued) > seen + 20, 60)  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()

    for answer in refusals:
        assert answer.status_code == 503, answer.text
        assert answer.json()["error"] == "temporarily_unavailable"
        assert int(answer.headers["retry-after"]) > 0
    assert all(server.introspect(service, token)["active"] for token in issued)
    families = "SELECT count(*), count(revoked_at) FROM token_families"
    assert server.sql(families) == [(3, 0)]
    live = "SELECT count(*) FROM refresh_tokens WHERE rotated_at IS NULL"
    assert server.sql(live) == [(3,)]
    server.http.close()


def database_url(instance: Instance) -> str:
    """Return the URL of an instance's own PostgreSQL."""
    server = EmbeddedPostgres(instance.folder / "state")
    try:
        return server.start()
    finally:
        server.release()
