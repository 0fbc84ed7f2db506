"""What a login costs, and what logins cost the requests that are answered meanwhile.

``python -m benchmarks.login ADDRESS`` is the agent whose browsers log in at that address, one after the other.
"""

import http.client
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import argon2

from authly.settings import Settings
from benchmarks.agent import Agent, AgentError, serve
from benchmarks.instance import authly
from benchmarks.latency import latencies_of
from benchmarks.timing import USUAL, WORST, Progress, Row, compare

QUIET = "nobody logs in"
BUSY = "two browsers log in without a pause"
_PASSWORD = "correct horse battery staple"
_BROWSERS = 2


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    rounds, seconds = (2, 1.0) if quick else (5, 2.0)
    progress("login: Gunicorn with 2 workers, and PostgreSQL")
    logins: list[float] = []
    hashes: list[float] = []
    percentiles: dict[str, dict[str, list[float]]] = {"p50": {BUSY: [], QUIET: []}, "p99": {BUSY: [], QUIET: []}}
    # All browsers come from one address.
    settings = {"AUTHLY_ADMIN_PASSWORD": _PASSWORD, "AUTHLY_LOG_LEVEL": "warning", "AUTHLY_RATE_LIMIT_LOGIN": "off"}
    with authly(**settings) as instance, closing(Agent("login", instance.address)) as browsers:
        for number in range(rounds):
            browsers.send(f"1 {seconds}")
            logins.append(statistics.median(browsers.receive()) * 1e3)
            hashes.append(_time_of_a_hash(5) * 1e3)
            for name in (BUSY, QUIET) if number % 2 else (QUIET, BUSY):
                if name == BUSY:
                    browsers.send(f"{_BROWSERS} {seconds}")
                taken = latencies_of(instance.address, seconds, 0.005, "/health/live")
                if name == BUSY:
                    browsers.receive()
                hundredths = statistics.quantiles(taken, n=100, method="inclusive")
                percentiles["p50"][name].append(hundredths[49] * 1e3)
                percentiles["p99"][name].append(hundredths[98] * 1e3)
    load = "GET /health/live, 200 a second"
    return [
        compare("login", "one at a time", USUAL, "ms", ("POST /login", logins), ("Argon2id alone", hashes)),
        *(
            compare("login", f"{load}, {name}", WORST, "ms", (BUSY, of[BUSY]), (QUIET, of[QUIET]))
            for name, of in percentiles.items()
        ),
    ]


def _time_of_a_hash(times: int) -> float:
    """Return how long it takes to verify a password with the settings by default, in seconds."""
    settings = Settings()
    hasher = argon2.PasswordHasher(
        settings.password_hash_time, settings.password_hash_memory, settings.password_hash_parallelism
    )
    password_hash = hasher.hash(_PASSWORD)
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        hasher.verify(password_hash, _PASSWORD)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _log_in(address: str, until: float) -> list[float]:
    """Log in with one browser, again and again until a moment; return what each time took, in seconds."""
    taken: list[float] = []
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", "/login")
        response = connection.getresponse()
        token = re.search(rb'name="csrf_token" value="(\w+)"', response.read())
        cookie = response.getheader("set-cookie")
        if token is None or cookie is None:
            raise AgentError("the login page has no token")
        body = urlencode({"csrf_token": token[1].decode(), "username": "admin", "password": _PASSWORD})
        headers = {"cookie": cookie.partition(";")[0], "content-type": "application/x-www-form-urlencoded"}
        while not taken or time.monotonic() < until:
            started = time.perf_counter()
            connection.request("POST", "/login", body, headers)
            response = connection.getresponse()
            response.read()
            taken.append(time.perf_counter() - started)
            if response.status != 303:
                raise AgentError(f"the login was answered {response.status}")
    return taken


def main(arguments: list[str]) -> None:
    """Answer a number of browsers and of seconds, for which they log in, with what each login took."""
    (address,) = arguments

    def answer(words: str) -> list[float]:
        browsers, seconds = words.split()
        until = time.monotonic() + float(seconds)
        with ThreadPoolExecutor(int(browsers)) as threads:
            taken = threads.map(lambda _: _log_in(address, until), range(int(browsers)))
            return [one for of_browser in taken for one in of_browser]

    def prepare() -> Callable[[str], Any]:
        return answer

    serve(prepare)


if __name__ == "__main__":
    main(sys.argv[1:])
