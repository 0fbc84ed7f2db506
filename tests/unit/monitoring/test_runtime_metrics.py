"""What is recorded of a worker's own state."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import ThreadPool
from authly.monitoring.runtime_metrics import RuntimeMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> RuntimeMetrics:
    """Return the metrics in that registry."""
    return RuntimeMetrics(Instruments("authly", registry))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return the value of a series; None if there is none."""
    return registry.get_sample_value(f"authly_{name}", labels)


def test_lag_and_pauses_are_timed(registry: CollectorRegistry, metrics: RuntimeMetrics) -> None:
    """Each is one observation; generations that were not collected stay at 0."""
    metrics.track_event_loop_lag(0.3)
    metrics.track_gc_pause(2, 0.02)
    assert value(registry, "event_loop_lag_seconds_bucket", le="0.25") == 0
    assert value(registry, "event_loop_lag_seconds_bucket", le="0.5") == 1
    assert value(registry, "gc_pause_seconds_sum", generation="2") == pytest.approx(0.02)
    assert [value(registry, "gc_pause_seconds_count", generation=generation) for generation in "012"] == [0, 0, 1]


def test_threads_are_shown(registry: CollectorRegistry, metrics: RuntimeMetrics) -> None:
    """Tasks that run and tasks that wait, 0 from the start."""
    assert value(registry, "thread_pool_tasks", pool="passwords", state="waiting") == 0
    metrics.update_thread_pool(ThreadPool.PASSWORDS, 1, 3)
    assert value(registry, "thread_pool_tasks", pool="passwords", state="running") == 1
    assert value(registry, "thread_pool_tasks", pool="passwords", state="waiting") == 3


@pytest.mark.parametrize(
    ("metric", "record"),
    [
        ("event_loop_lag", lambda metrics: metrics.track_event_loop_lag(0.1)),
        ("gc_pause", lambda metrics: metrics.track_gc_pause(0, 0.1)),
        ("thread_pool_tasks", lambda metrics: metrics.update_thread_pool(ThreadPool.PASSWORDS, 0, 0)),
    ],
)
def test_nothing_is_raised_and_it_is_said_once(
    metric: str,
    record: Callable[[RuntimeMetrics], None],
    metrics: RuntimeMetrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Metrics that fail end nothing; the log says so once."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    for call in ("labels", "observe", "set"):
        monkeypatch.setattr(getattr(metrics, metric), call, broken, raising=False)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            record(metrics)
    assert len(caplog.records) == 1
