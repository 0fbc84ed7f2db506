"""PostgreSQL killed or hanging under traffic: clear refusals meanwhile, and nothing lost or issued twice."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.instance import Instance
from tests.oauth import SETTINGS, Server, embedded_url
from tests.plain import NO_TLS
from tests.postgres import freeze, postmaster_pid
from tests.processes import children, kill, wait_until

CHAINS = 3


class Traffic:
    """Clients that refresh again and again, and repeat what was refused.

    Args:
        server: whom they ask.
    """

    def __init__(self, server: Server) -> None:
        self.issued: list[str] = []
        self.refusals: list[httpx.Response] = []
        self._server = server
        self._client = server.client()
        self._stop = threading.Event()
        tokens = [server.tokens(self._client)["refresh_token"] for _ in range(CHAINS)]
        self._threads = [threading.Thread(target=self._refresh, args=(token,)) for token in tokens]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _refresh(self, token: str) -> None:
        auth = self._client.basic
        with httpx.Client(base_url=self._server.url, timeout=30, auth=auth, verify=NO_TLS) as http:
            while not self._stop.is_set():
                answer = http.post("/oauth2/token", data={"grant_type": "refresh_token", "refresh_token": token})
                if answer.status_code == 200:
                    self.issued.append(answer.json()["access_token"])
                    token = answer.json()["refresh_token"]
                else:
                    self.refusals.append(answer)

    def left_nothing_behind(self) -> None:
        """Make sure that each refusal said to come again, and each token that was given out is worth something."""
        for answer in self.refusals:
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"] == "temporarily_unavailable"
            assert int(answer.headers["retry-after"]) > 0
        service = self._server.service()
        assert all(self._server.introspect(service, token)["active"] for token in self.issued)
        assert self._server.sql("SELECT count(*), count(revoked_at) FROM token_families") == [(CHAINS, 0)]
        assert self._server.sql("SELECT count(*) FROM refresh_tokens WHERE rotated_at IS NULL") == [(CHAINS,)]


Start = Callable[..., tuple[Server, Path]]


@pytest.fixture
def start(create_state: Callable[[Path], None], make_instance: Callable[..., Instance]) -> Start:
    """Return what starts Authly with a database of its own, which the master starts again when it is gone.

    It returns where that is, too.
    """

    def start(**settings: str) -> tuple[Server, Path]:
        instance = make_instance(**SETTINGS, **settings)
        del instance.environment["AUTHLY_DATABASE_URL"]
        state = instance.folder / "state"
        create_state(state)
        instance.start()
        wait_until(lambda: is_ready(instance), 30)
        return Server(instance, embedded_url(state)), state

    return start


def is_ready(instance: Instance) -> bool:
    """Tell whether all workers are, each of which finds out for itself."""
    return all(instance.get("/health/ready")[0] == 200 for _ in range(30))


def wait_for_more(of: Sized, number: int) -> None:
    """Wait until there are so many more of something."""
    enough = len(of) + number
    wait_until(lambda: len(of) >= enough, 60)


def test_database_is_killed_under_traffic(start: Start) -> None:
    """Every token that was given out is worth something afterwards; every refusal says to come again."""
    # What was being committed as it was killed is found when it has recovered, which takes a busy machine its time.
    server, state = start(AUTHLY_REFRESH_TOKEN_GRACE="60")
    with Traffic(server) as traffic:
        for _ in range(2):
            wait_for_more(traffic.issued, 20)
            # Its processes too: one that is kept busy notices late that the first of them is gone, and answers on.
            postmaster = postmaster_pid(state)
            for pid in (postmaster, *children(postmaster)):
                with contextlib.suppress(ProcessLookupError):
                    kill(pid)
            # Recovered, without anybody's help; how many were refused meanwhile depends on how soon.
            wait_for_more(traffic.issued, 20)
    wait_until(lambda: is_ready(server.instance), 30)
    traffic.left_nothing_behind()
    server.http.close()


def test_database_hangs_under_traffic(start: Start) -> None:
    """Who asks while it hangs is told to come again, rather than kept waiting; nobody loses anything by it."""
    # What was on its way to a server that hangs is done when it goes on: clients repeat it, however late.
    server, state = start(AUTHLY_DATABASE_TIMEOUT="1", AUTHLY_REFRESH_TOKEN_GRACE="60")
    workers = server.instance.workers()
    with Traffic(server) as traffic:
        wait_for_more(traffic.issued, 20)
        frozen = freeze(postmaster_pid(state))
        try:
            wait_for_more(traffic.refusals, 20)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        wait_for_more(traffic.issued, 20)
    wait_until(lambda: is_ready(server.instance), 30)
    assert server.instance.workers() == workers
    traffic.left_nothing_behind()
    server.http.close()
