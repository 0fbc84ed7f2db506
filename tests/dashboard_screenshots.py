"""Takes the pictures of the dashboards in ``docs/images/dashboards``: ``make pictures``.

Everything is real: what ``make observe`` runs, a Valkey, and some minutes in which a worker is killed, the
configuration is read again, somebody guesses passwords, and the database does not answer. Prometheus is asked what the
panels ask.
"""

import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import sync_playwright

from dashboards import DASHBOARDS
from dashboards.__main__ import FOLDER as BOARDS
from dashboards.drawing import WIDTH, draw
from loadtests.valkey import running as valkey
from tests.alerting import in_grafana
from tests.browser import CHROMIUM, OPTIONS
from tests.instance import REPOSITORY, free_port
from tests.integration.test_catalogue import FLOWS, Flow, Scene, too_many
from tests.oauth import Person, Server
from tests.observe import PORTS, observation
from tests.postgres import postmaster_pid
from tests.processes import children, command, kill

FOLDER = REPOSITORY / "docs/images/dashboards"
SETTINGS = {
    "AUTHLY_METRICS_INCLUDE_CLIENT_IDS": "true",
    "AUTHLY_METRICS_ACCESS_TOKENS": "true",
    "AUTHLY_CLEANUP_INTERVAL": "2",
    "AUTHLY_RATE_LIMIT_LOGIN": "240/minute",
    # About what it costs where it protects somebody.
    "AUTHLY_PASSWORD_HASH_TIME": "2",
    "AUTHLY_PASSWORD_HASH_MEMORY": "19456",
    "AUTHLY_ALLOWED_HOSTS": "127.0.0.1",
    "AUTHLY_CACHE_TTL": "30",
}
# What is shown, in seconds.
LENGTH = 180.0
STEP = 5.0
# In bytes: what a page may bring with each picture.
LARGEST = 400 * 1024
# What Grafana lets rates look back: four scrapes.
WINDOW = "20s"


class Answers:
    """What Prometheus answers to the panels, in the time that ends now.

    Args:
        prometheus: its address.
    """

    def __init__(self, prometheus: str) -> None:
        self.step = STEP
        self.end = time.time() // STEP * STEP
        self.begin = self.end - LENGTH
        self._prometheus = prometheus

    def over_time(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression over the whole time."""
        return self._ask("query_range", expression, start=self.begin, end=self.end, step=self.step)

    def at_the_end(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression as they are at the end."""
        return self._ask("query", expression, time=self.end)

    def _ask(self, how: str, expression: str, **times: float) -> list[dict[str, Any]]:
        parameters: dict[str, str | float] = {"query": in_grafana(expression, WINDOW), **times}
        answer = httpx.get(f"{self._prometheus}/api/v1/{how}", params=parameters, timeout=30)
        return list(answer.raise_for_status().json()["data"]["result"])


def live(server: Server) -> None:
    """Let happen what there are panels for; it takes as long as what is shown, and a little more."""
    began = time.monotonic()
    instance = server.instance

    def at(second: float) -> None:
        time.sleep(max(0.0, began + second - time.monotonic()))

    scene = Scene(Server(instance, server.database_url))
    # Each flow is checked where it is tested; here one has others beside it.
    flows: list[Flow] = [flow for flow in FLOWS if flow is not too_many]
    # Twice: of a series that comes, Prometheus does not know that it grew.
    for number, flow in enumerate(flows * 2):
        at(20 + number * 1.6)
        with contextlib.suppress(Exception, pytest.fail.Exception):
            flow(scene)
    at(115)
    # What keeps the database is a child of the master too.
    kill(next(pid for pid in instance.workers() if command(pid) == command(instance.master)))
    at(128)
    os.kill(instance.master, signal.SIGHUP)
    at(145)
    guess(server, 15)
    at(165)
    with away(postmaster_pid(instance.folder / "state")):
        at(177)
    at(LENGTH + 18)


def guess(server: Server, seconds: float) -> None:
    """Guess passwords, many at the same time."""
    ends = time.monotonic() + seconds

    def one() -> None:
        own = Server(server.instance, server.database_url)
        while time.monotonic() < ends:
            time.sleep(0.15)
            with contextlib.suppress(httpx.HTTPError, AssertionError, KeyError, ValueError):
                person = Person(own, "ada", "")
                person.open("/login")
                person.submit(username="ada", password=f"guess {time.monotonic()}")

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def away(postmaster: int) -> Iterator[None]:
    """Let the database answer nothing for a while."""
    stopped = [postmaster, *children(postmaster)]
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def pages() -> dict[str, str]:
    """Run everything, and return each dashboard as a page."""
    with (
        tempfile.TemporaryDirectory(prefix="authly-pictures-", ignore_cleanup_errors=True) as folder,
        valkey() as cache,
    ):
        # The database may have a user of its own.
        Path(folder).chmod(0o711)
        ports = tuple(free_port() for _ in PORTS)
        with observation(Path(folder), ports, AUTHLY_REDIS_URL=cache.url, **SETTINGS) as found:
            live(found.server)
            answers = Answers(found.prometheus)
            return {name: draw(json.loads((BOARDS / f"{name}.json").read_text()), answers) for name in DASHBOARDS}


def take(drawn: dict[str, str]) -> None:
    """Take a picture of each page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, "--disable-lcd-text"])
        for name, text in drawn.items():
            # As sharp as there is room for.
            for scale in (1.5, 1.25, 1.1, 1.0):
                page = browser.new_page(viewport={"width": WIDTH, "height": 800}, device_scale_factor=scale)
                page.set_content(text)
                picture = page.screenshot(full_page=True)
                page.close()
                if len(picture) < LARGEST:
                    break
            (FOLDER / f"{name}.png").write_bytes(picture)
        browser.close()


def main() -> None:
    """Take all pictures."""
    if not CHROMIUM:
        raise SystemExit("There is no Chromium, which takes the pictures: install Debian's chromium-headless-shell.")
    # However it is told to end, what it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    take(pages())


if __name__ == "__main__":
    main()
