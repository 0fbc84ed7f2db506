"""People who ask for what Authly answers, a Prometheus that scrapes, and the books of both compared at the end."""

import os
import re
import urllib.request
from typing import Any

from locust import HttpUser, between, constant_pacing, events, task

METRICS_URL = os.environ.get("AUTHLY_METRICS_URL", "http://127.0.0.1:9464/metrics")
_COUNTER = re.compile(
    r'^authly_http_requests_total\{.*endpoint="(?P<endpoint>[^"]+)".*\} (?P<value>\S+)$', re.MULTILINE
)
_before: dict[str, float] = {}


def counted() -> dict[str, float]:
    """Return the requests that Authly has counted, by endpoint."""
    totals: dict[str, float] = {}
    with urllib.request.urlopen(METRICS_URL, timeout=5) as answer:  # noqa: S310 - the address is the operator's
        for match in _COUNTER.finditer(answer.read().decode()):
            totals[match["endpoint"]] = totals.get(match["endpoint"], 0.0) + float(match["value"])
    return totals


class Visitor(HttpUser):
    """Somebody who asks whether Authly is there, and for its documents."""

    wait_time = between(0.01, 0.1)

    @task(8)
    def live(self) -> None:
        """Ask whether it lives."""
        self.client.get("/health/live")

    @task(1)
    def document(self) -> None:
        """Ask for the OpenAPI document."""
        self.client.get("/openapi.json")


class Prometheus(HttpUser):
    """A scraper, as Prometheus is one, at once a second."""

    host = METRICS_URL
    fixed_count = 1
    wait_time = constant_pacing(1)

    @task
    def scrape(self) -> None:
        """Scrape."""
        self.client.get(METRICS_URL, name="scrape")


@events.test_start.add_listener
def remember(**_: Any) -> None:
    """Note what had been counted before."""
    _before.update(counted())


@events.quitting.add_listener
def compare(environment: Any, **_: Any) -> None:
    """Compare what was answered with what was counted; a difference fails the run."""
    after = counted()
    wrong = environment.stats.total.num_failures > 0
    for endpoint in ("/health/live", "/openapi.json"):
        seen = environment.stats.get(endpoint, "GET")
        count = after.get(endpoint, 0.0) - _before.get(endpoint, 0.0)
        answered = seen.num_requests - seen.num_failures
        agree = answered <= count <= seen.num_requests
        wrong = wrong or not agree
        print(f"{endpoint}: {answered} answered, {count:.0f} counted, {seen.num_requests} sent")  # noqa: T201
    environment.process_exit_code = int(wrong)
