"""The traces of requests, as exemplars in the exposition of a real instance."""

import os
import signal
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import parser as openmetrics_parser

from tests.instance import Instance
from tests.processes import is_alive, wait_until

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
# What a worker answers by itself, at little cost.
PAGE = "/login"
DURATION = "authly_http_request_duration_seconds"
TRACE = "0af7651916cd43dd8448eb211c80319{}"


def ask(instance: Instance, trace: str) -> None:
    """Ask for the page as part of a trace."""
    assert instance.get(PAGE, {"traceparent": f"00-{trace}-b7ad6b7169203331-01"})[0] == 200


def exemplars(instance: Instance) -> dict[str, tuple[str, float]]:
    """Return trace id and value of each bucket's exemplar, by its bound; check that they are where they belong."""
    status, _, body = instance.scrape(headers=OPENMETRICS)
    assert status == 200
    found = {}
    families = openmetrics_parser.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    for family in families:
        bounds = [0.0, *sorted({float(s.labels["le"]) for s in family.samples if "le" in s.labels})]
        for sample in family.samples:
            if sample.exemplar and family.name == DURATION:
                assert sample.labels["endpoint"] == PAGE
                bound = float(sample.labels["le"])
                assert bounds[bounds.index(bound) - 1] < sample.exemplar.value <= bound
                found[sample.labels["le"]] = sample.exemplar.labels["trace_id"], sample.exemplar.value
    return found


def wait_for(instance: Instance, trace: str) -> dict[str, tuple[str, float]]:
    """Wait until a trace is shown, which is after its client has the last byte; return all exemplars."""
    wait_until(lambda: trace in {found for found, _ in exemplars(instance).values()})
    return exemplars(instance)


@pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])
def test_traces_of_requests_are_exemplars(worker_class: str, make_instance: Callable[..., Instance]) -> None:
    """The trace of a request is on the bucket that counted it, and outlives the worker that answered it."""
    instance = make_instance(AUTHLY_WORKER_CLASS=worker_class, AUTHLY_WORKERS="1").start()
    assert instance.get(PAGE)[0] == 200
    assert instance.get(PAGE, {"traceparent": "00-not-valid"})[0] == 200
    assert exemplars(instance) == {}
    for number in range(5):
        ask(instance, TRACE.format(number))
    before = wait_for(instance, TRACE.format(4))

    (worker,) = instance.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker) and instance.is_live())
    assert exemplars(instance) == before
    ask(instance, TRACE.format("f"))
    assert wait_for(instance, TRACE.format("f")).keys() >= before.keys()
    assert os.listdir(instance.directory).count("exemplars_s0.bin") == 1

    # Neither format, nor prometheus-client's own reader, is disturbed by them.
    assert b" # {" not in instance.scrape()[2]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(instance.directory))  # type: ignore[no-untyped-call]
    assert DURATION.encode() in generate_latest(registry)
    broken = instance.directory / "exemplars_s0.new"
    broken.write_bytes(os.urandom(3000))
    broken.replace(instance.directory / "exemplars_s0.bin")
    assert exemplars(instance) == {}
