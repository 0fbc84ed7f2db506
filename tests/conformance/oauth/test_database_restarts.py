"""PostgreSQL killed under traffic: clear refusals meanwhile, and nothing lost or issued twice."""

import contextlib
import threading
from collections.abc import Callable, Sized

import httpx

from tests.instance import Instance
from tests.oauth import SETTINGS, Server, embedded_url
from tests.postgres import postmaster_pid
from tests.processes import children, kill, wait_until


def test_database_is_killed_under_traffic(make_instance: Callable[..., Instance]) -> None:
    """Every token that was given out is worth something afterwards; every refusal says to come again."""
    instance = make_instance(**SETTINGS)
    # One of its own, which the master starts again when it is gone.
    del instance.environment["AUTHLY_DATABASE_URL"]
    instance.start()
    wait_until(lambda: all(instance.get("/health/ready")[0] == 200 for _ in range(10)), 30)
    state = instance.folder / "state"
    server = Server(instance, embedded_url(state))
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
        wait_for_more(issued, 20)
        # Its processes too: one that is kept busy notices late that the first of them is gone, and answers on.
        postmaster = postmaster_pid(state)
        for pid in (postmaster, *children(postmaster)):
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
        # Recovered, without anybody's help; how many were refused meanwhile depends on how soon.
        wait_for_more(issued, 20)
    stop.set()
    for thread in threads:
        thread.join()
    # Each worker finds out for itself that the database is back.
    wait_until(lambda: all(instance.get("/health/ready")[0] == 200 for _ in range(30)), 30)

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


def wait_for_more(of: Sized, number: int) -> None:
    """Wait until there are so many more of something."""
    enough = len(of) + number
    wait_until(lambda: len(of) >= enough, 60)
