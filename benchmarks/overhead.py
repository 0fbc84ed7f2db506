"""What all metrics together cost a request: the whole application with them and without, asked in turn."""

import gc
import http.client
import itertools
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, closing
from urllib.parse import urlencode

from benchmarks.agent import AgentError
from benchmarks.instance import Instance, administer, authly
from benchmarks.timing import USUAL, Progress, Row, alone, compare

ON, OFF = "with metrics", "without metrics"
_LIVE, _TOKEN = "/health/live", "/oauth2/token"
# Limits that count each request, and refuse none. One worker, so that a request of one side has no other to go to.
_SETTINGS = {"AUTHLY_WORKERS": "1", "AUTHLY_RATE_LIMIT_TOKEN": "1000/second", "AUTHLY_MAX_REQUESTS": "0"}
_PATIENCE = 10.0


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    rounds, requests = (2, 100) if quick else (9, 1000)
    progress("overhead: Gunicorn with one worker, twice, on one PostgreSQL")
    with ExitStack() as stack:
        instances = {ON: stack.enter_context(authly(**_SETTINGS))}
        url = subprocess.check_output(
            [sys.executable, "-m", "authly.cli", "db", "url"], env=instances[ON].environment, text=True
        ).strip()
        instances[OFF] = stack.enter_context(
            authly(
                **_SETTINGS,
                AUTHLY_METRICS_ENABLED="false",
                AUTHLY_DATABASE_URL=url,
                AUTHLY_SECRET_KEY=(instances[ON].state / "secret.key").read_text().strip(),
            )
        )
        credentials = _service(instances[ON])
        connections = {
            name: stack.enter_context(closing(http.client.HTTPConnection(instance.address, timeout=_PATIENCE)))
            for name, instance in instances.items()
        }
        asked: dict[str, Callable[[http.client.HTTPConnection], None]] = {
            _LIVE: lambda connection: connection.request("GET", _LIVE),
            _TOKEN: lambda connection: connection.request(
                "POST", _TOKEN, urlencode({"grant_type": "client_credentials"}), credentials
            ),
        }
        rows = []
        for path, ask in asked.items():
            # The first round is for connections, caches and keys.
            measured = [_round(connections, ask, requests) for _ in range(rounds + 1)][1:]
            medians = {name: [statistics.median(taken[name]) for taken in measured] for name in instances}
            added = [(on - off) * 1e6 for on, off in zip(medians[ON], medians[OFF], strict=True)]
            milliseconds = {name: [one * 1e3 for one in of] for name, of in medians.items()}
            rows.append(compare("overhead", path, USUAL, "ms", (ON, milliseconds[ON]), (OFF, milliseconds[OFF])))
            rows.append(alone("overhead", f"{path}, time added", USUAL, "µs", ("all metrics", added)))
    return rows


def _round(
    connections: dict[str, http.client.HTTPConnection],
    ask: Callable[[http.client.HTTPConnection], None],
    requests: int,
) -> dict[str, list[float]]:
    """Return what each of so many requests to each side took, in seconds; the sides take turns, and turns to begin."""
    taken: dict[str, list[float]] = {name: [] for name in connections}
    orders = itertools.cycle([(ON, OFF), (OFF, ON)])
    gc.disable()
    try:
        for _, order in zip(range(requests), orders, strict=False):
            for name in order:
                started = time.perf_counter()
                ask(connections[name])
                response = connections[name].getresponse()
                response.read()
                taken[name].append(time.perf_counter() - started)
                if response.status != 200:
                    raise AgentError(f"{name}: answered {response.status}")
    finally:
        gc.enable()
    return taken


def _service(instance: Instance) -> dict[str, str]:
    """Register a client that acts for itself; return the headers of its requests."""
    administer(instance, "scopes", "create", "read", "Read")
    registered = administer(
        instance, "clients", "create", "--name", "Service", "--type", "confidential", "--scope", "read"
    )
    credentials = f"{registered['client_id']}:{registered['client_secret']}"
    return {
        "authorization": f"Basic {b64encode(credentials.encode()).decode()}",
        "content-type": "application/x-www-form-urlencoded",
    }
