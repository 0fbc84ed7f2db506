"""The users, for Locust: ``locust -f loadtests/traffic/locustfile.py``; ``LOAD_*`` variables choose (see options)."""

import contextlib
import itertools
import time
from random import Random
from typing import Any
from urllib.parse import urlsplit

import gevent
from locust import LoadTestShape, User, constant_pacing, events, task
from locust.exception import StopUser

from loadtests.traffic import shapes
from loadtests.traffic.arrivals import Arrivals
from loadtests.traffic.flows import FLOWS, Flow, Seeds
from loadtests.traffic.options import read
from loadtests.traffic.records import Records
from loadtests.traffic.wire import Request, UnexpectedAnswerError, Wire

OPTIONS = read()
SEEDS = Seeds(OPTIONS.seeds)
RECORDS = Records()
# What users of a closed loop choose follows from the seed too, as far as answers do.
_random = Random(OPTIONS.random_seed)
_numbers = itertools.count()


def _told(environment: Any) -> Any:
    """Return what tells records and Locust's statistics of a request."""

    def tell(request: Request) -> None:
        RECORDS.add(request)
        _fire(environment, request)

    return tell


def _fire(environment: Any, request: Request) -> None:
    environment.events.request.fire(
        request_type=request.method,
        name=request.endpoint,
        response_time=request.milliseconds,
        response_length=request.length,
        exception=request.problem,
        context={},
    )


def _wire(user: User) -> Wire:
    """Return a connection; on the loopback network from an address of its own, by which limits are kept."""
    host = urlsplit(user.host)
    number = next(_numbers)
    source = f"127.0.{1 + number // 250 % 250}.{1 + number % 250}" if host.hostname == "127.0.0.1" else ""
    return Wire(host.netloc, _told(user.environment), source)


class FlowUser(User):  # type: ignore[misc]
    """Somebody of a closed loop: performs a flow, thinks, and performs it again."""

    abstract = True
    flow_class: type[Flow]

    def on_start(self) -> None:
        """Take a connection."""
        self._flow = self.flow_class(_wire(self), SEEDS, Random(_random.random()))

    def wait_time(self) -> float:
        """Think."""
        return _random.uniform(*OPTIONS.think)

    @task  # type: ignore[untyped-decorator]
    def perform(self) -> None:
        """Do it once."""
        # An unexpected answer has been told already.
        with contextlib.suppress(UnexpectedAnswerError):
            self._flow.perform()


class OpenLoop(User):  # type: ignore[misc]
    """All those who come whether or not others are still waiting."""

    abstract = OPTIONS.arrivals == 0
    fixed_count = 1

    @task  # type: ignore[untyped-decorator]
    def arrive(self) -> None:
        """Let them come, and end the run after the last."""

        def make(flow: type[Flow], random: Random) -> Flow:
            return flow(_wire(self), SEEDS, random)

        Arrivals(OPTIONS, make).run()
        # Not in this greenlet: the end waits for all users, and this is one.
        gevent.spawn(self.environment.runner.quit)
        raise StopUser


class Prometheus(User):  # type: ignore[misc]
    """A scraper: asks the exporter as Prometheus does, and takes note of whether and when it answers."""

    abstract = not OPTIONS.metrics_url
    fixed_count = 1
    wait_time = constant_pacing(OPTIONS.scrape_interval)

    def on_start(self) -> None:
        """Take a connection."""

        def tell(request: Request) -> None:
            RECORDS.add_scrape(request)
            _fire(self.environment, request._replace(method="SCRAPE"))

        self._wire = Wire(urlsplit(OPTIONS.metrics_url).netloc, tell)

    @task  # type: ignore[untyped-decorator]
    def scrape(self) -> None:
        """Scrape."""
        headers = {
            "accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "accept-encoding": "gzip",
            "x-prometheus-scrape-timeout-seconds": "10",
        }
        # An unexpected answer has been told already.
        with contextlib.suppress(UnexpectedAnswerError):
            self._wire.ask("GET", urlsplit(OPTIONS.metrics_url).path, headers=headers)


if not OPTIONS.arrivals:
    # A class for each flow, so that Locust's own options name and weigh them.
    for _name, _flow in FLOWS.items():
        if OPTIONS.mix.get(_name):
            globals()[_flow.__name__] = type(
                _flow.__name__,
                (FlowUser,),
                {"flow_class": _flow, "weight": OPTIONS.mix[_name], "__doc__": _flow.__doc__},
            )

    if OPTIONS.shape:

        class Shape(LoadTestShape):  # type: ignore[misc]
            """The number of users, as it changes with time."""

            def tick(self) -> tuple[int, float] | None:
                """Return how many there are to be now, and how many may come in a second."""
                now = shapes.share(OPTIONS.shape, self.get_run_time(), OPTIONS.seconds)
                return None if now is None else (max(1, round(OPTIONS.peak * now)), OPTIONS.peak)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def start(**_: Any) -> None:
    """Let the time of the records begin."""
    RECORDS.started = time.time()


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def write(**_: Any) -> None:
    """Write what there is to know of each request."""
    if OPTIONS.records:
        RECORDS.write(OPTIONS.records)
