"""What is recorded of requests, and the bounds of its labels."""

import logging
from contextvars import copy_context
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import MAX_ENDPOINTS, METHODS, Vocabulary
from authly.monitoring.request_metrics import RequestMetrics
from authly.monitoring.traceparent import CURRENT_TRACE


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> RequestMetrics:
    """Return the metrics in that registry."""
    return RequestMetrics(Instruments("authly", registry))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return the value of a series; None if there is none."""
    return registry.get_sample_value(name, labels)


def test_a_request_is_counted_and_timed(registry: CollectorRegistry, metrics: RequestMetrics) -> None:
    """One request moves its counter, its histogram, and the gauge up and down again."""
    metrics.request_started("GET")
    assert value(registry, "authly_http_requests_in_progress", method="GET") == 1
    metrics.response_started("GET", "/x", 200)
    metrics.request_ended("GET", "/x", 0.3)
    labels = {"method": "GET", "endpoint": "/x"}
    assert value(registry, "authly_http_requests_total", **labels, status_code="200") == 1
    assert value(registry, "authly_http_request_duration_seconds_sum", **labels) == pytest.approx(0.3)
    assert value(registry, "authly_http_request_duration_seconds_bucket", **labels, le="0.25") == 0
    assert value(registry, "authly_http_request_duration_seconds_bucket", **labels, le="0.5") == 1
    assert value(registry, "authly_http_requests_in_progress", method="GET") == 0


def test_a_trace_becomes_an_exemplar(registry: CollectorRegistry, metrics: RequestMetrics) -> None:
    """The bucket that a traced request falls in has its trace id as exemplar; a request without leaves none."""
    with_trace = copy_context()
    with_trace.run(CURRENT_TRACE.set, "0af7651916cd43dd8448eb211c80319c")
    with_trace.run(metrics.request_ended, "GET", "/x", 0.3)
    metrics.request_ended("GET", "/x", 0.6)
    found = {
        sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {"0.5": ({"trace_id": "0af7651916cd43dd8448eb211c80319c"}, 0.3)}


def test_an_unknown_method_becomes_other(registry: CollectorRegistry, metrics: RequestMetrics) -> None:
    """Methods that clients make up share one series, and are counted as an overflow of the label."""
    for number in range(50):
        method = f"METHOD{number}"
        metrics.request_started(method)
        metrics.response_started(method, "/x", 405)
        metrics.request_ended(method, "/x", 0.1)
    labels = {"method": "other", "endpoint": "/x"}
    assert value(registry, "authly_http_requests_total", **labels, status_code="405") == 50
    assert value(registry, "authly_http_request_duration_seconds_count", **labels) == 50
    assert value(registry, "authly_http_requests_in_progress", method="other") == 0
    assert value(registry, "authly_metrics_label_overflow_total", metric="authly_http_requests_total") == 50


@pytest.mark.produces("authly_http_requests_total", endpoint=("other",))
@pytest.mark.produces("authly_http_request_duration_seconds", endpoint=("other",))
def test_the_number_of_endpoints_is_bounded(registry: CollectorRegistry, metrics: RequestMetrics) -> None:
    """Should a template ever leak what clients choose, its series end at a bound."""
    for number in range(MAX_ENDPOINTS + 100):
        metrics.response_started("GET", f"/{number}", 200)
        metrics.request_ended("GET", f"/{number}", 0.1)
    endpoints = {
        sample.labels["endpoint"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "authly_http_requests_total"
    }
    assert len(endpoints) == MAX_ENDPOINTS
    assert "other" in endpoints


def test_a_failing_metric_fails_nothing_and_is_reported_once(
    metrics: RequestMetrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A recording call that raises is swallowed; the log says so once, not once a request."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(metrics.http_requests, "labels", broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            metrics.response_started("GET", "/never-seen", 200)
            metrics.request_ended("GET", "/never-seen", 0.1)
    assert [record.message for record in caplog.records] == [
        "A metric could not be recorded (response_started); this is said once"
    ]


def test_a_vocabulary_turns_away_what_it_has_no_room_for() -> None:
    """A closed vocabulary takes nothing new; a bounded one takes what fits, for ever."""
    closed = Vocabulary(METHODS)
    assert closed("GET") == "GET"
    assert closed("get") == "other"
    bounded = Vocabulary(frozenset({"a"}), 3)
    assert [bounded(value) for value in "abcdabc"] == ["a", "b", "c", "other", "a", "b", "c"]
