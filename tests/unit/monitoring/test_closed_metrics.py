"""Metrics that take anything and show what they know."""

import logging
from contextvars import copy_context
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.closed_metrics import ClosedCounter, ClosedHistogram
from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.instruments import Instruments
from authly.monitoring.traceparent import CURRENT_TRACE

COUNTED = Definition(
    "things_total", "counter", "Things.", {"kind": closed(("big", "small")), "owner": described("whoever")}
)
TIMED = Definition("work_seconds", "histogram", "Work.", {"kind": closed(("big",))}, buckets=(1.0,))


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where metrics are registered."""
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return the value of a series."""
    return registry.get_sample_value(name, labels)


def test_what_is_known_is_there_from_the_start(registry: CollectorRegistry) -> None:
    """Series that are named exist as 0, and rise by what is counted."""
    counter = ClosedCounter(Instruments("", registry), COUNTED, [("big", ""), ("small", "")], "things")
    assert value(registry, "things_total", kind="big", owner="") == 0
    counter.count("big", "")
    counter.count("big", "")
    counter.add(5, "small", "")
    counter.add(0, "small", "ada")
    assert value(registry, "things_total", kind="big", owner="") == 2
    assert value(registry, "things_total", kind="small", owner="") == 5
    assert value(registry, "things_total", kind="small", owner="ada") is None


def test_what_is_outside_becomes_other(registry: CollectorRegistry) -> None:
    """A value outside its vocabulary is other, and counted as such, each time; what is not closed stays as it is."""
    instruments = Instruments("", registry)
    counter = ClosedCounter(instruments, COUNTED, [], "things")
    histogram = ClosedHistogram(instruments, TIMED, "work")
    for number in range(50):
        counter.count(f"canary-{number}", "ada")
        histogram.observe(f"canary-{number}", 0.5)
    counter.add(50, "canary", "ada")
    assert value(registry, "things_total", kind="other", owner="ada") == 100
    assert value(registry, "work_seconds_count", kind="other") == 50
    assert value(registry, "work_seconds_count", kind="big") == 0
    assert value(registry, "metrics_label_overflow_total", metric="things_total") == 51
    assert value(registry, "metrics_label_overflow_total", metric="work_seconds") == 50
    assert not any("canary" in str(sample) for family in registry.collect() for sample in family.samples)


def test_what_fails_is_said_once(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """A call that cannot be recorded raises nothing, and is reported once."""
    instruments = Instruments("", registry)
    counter = ClosedCounter(instruments, COUNTED, [], "things")
    histogram = ClosedHistogram(instruments, TIMED, "work")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            counter.count("too", "many", "labels")
            counter.add(1, "too few")
            histogram.observe(["unhashable"], 1.0)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [
        "A metric could not be recorded (things); this is said once",
        "A metric could not be recorded (work); this is said once",
    ]


def test_a_trace_is_the_example_of_what_it_took(registry: CollectorRegistry) -> None:
    """Where a histogram keeps traces, the one that runs is kept; where it does not, or none runs, none is."""
    instruments = Instruments("", registry)
    kept = ClosedHistogram(instruments, replace(TIMED, name="kept_seconds", exemplars=True), "kept")
    other = ClosedHistogram(instruments, TIMED, "work")
    kept.observe("big", 0.1)
    with_trace = copy_context()
    with_trace.run(CURRENT_TRACE.set, "4bf92f3577b34da6a3ce929d0e0e4736")
    for histogram in (kept, other):
        with_trace.run(histogram.observe, "big", 0.5)
    kept.observe("big", 5.0)
    found = [
        (sample.name, sample.labels["le"], sample.exemplar.labels, sample.exemplar.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.exemplar
    ]
    assert found == [("kept_seconds_bucket", "1.0", {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}, 0.5)]
