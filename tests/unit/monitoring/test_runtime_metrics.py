"""What is recorded of a worker's own state and of its start."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.labels import Dependency, StartupPhase, ThreadPool
from authly.monitoring.metrics import AuthlyMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> AuthlyMetrics:
    """Return the metrics in that registry."""
    return AuthlyMetrics(registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return the value of a series; None if there is none."""
    return registry.get_sample_value(f"authly_{name}", labels)


def test_lag_and_pauses_are_timed(registry: CollectorRegistry, metrics: AuthlyMetrics) -> None:
    """Each is one observation; generations that were not collected stay at 0."""
    metrics.track_event_loop_lag(0.3)
    metrics.track_gc_pause(2, 0.02)
    assert value(registry, "event_loop_lag_seconds_bucket", le="0.25") == 0
    assert value(registry, "event_loop_lag_seconds_bucket", le="0.5") == 1
    assert value(registry, "gc_pause_seconds_sum", generation="2") == pytest.approx(0.02)
    assert [value(registry, "gc_pause_seconds_count", generation=generation) for generation in "012"] == [0, 0, 1]


def test_threads_are_shown(registry: CollectorRegistry, metrics: AuthlyMetrics) -> None:
    """Tasks that run and tasks that wait, 0 from the start."""
    assert value(registry, "thread_pool_tasks", pool="passwords", state="waiting") == 0
    metrics.update_thread_pool(ThreadPool.PASSWORDS, 1, 3)
    assert value(registry, "thread_pool_tasks", pool="passwords", state="running") == 1
    assert value(registry, "thread_pool_tasks", pool="passwords", state="waiting") == 3


def test_a_start_is_shown(registry: CollectorRegistry, metrics: AuthlyMetrics) -> None:
    """What is not known yet has no series: 0 would say that a dependency is down. Settings have been read."""
    assert value(registry, "dependency_up", dependency="database") is None
    assert value(registry, "config_valid") == 1
    for phase, seconds in zip(StartupPhase, (0.1, 0.2, 0.3, 0.4, 1.5), strict=True):
        metrics.update_startup_duration(phase, seconds)
        assert value(registry, "startup_duration_seconds", phase=phase) == seconds
    for dependency in Dependency:
        metrics.update_dependency_connect_duration(dependency, 0.25)
        assert value(registry, "dependency_connect_duration_seconds", dependency=dependency) == 0.25
        for up in (True, False):
            metrics.update_dependency(dependency, up=up)
            assert value(registry, "dependency_up", dependency=dependency) == up
    metrics.update_config_valid(valid=False)
    assert value(registry, "config_valid") == 0


@pytest.mark.parametrize(
    ("metric", "record"),
    [
        ("event_loop_lag", lambda metrics: metrics.track_event_loop_lag(0.1)),
        ("gc_pause", lambda metrics: metrics.track_gc_pause(0, 0.1)),
        ("thread_pool_tasks", lambda metrics: metrics.update_thread_pool(ThreadPool.PASSWORDS, 0, 0)),
        ("startup_duration", lambda metrics: metrics.update_startup_duration(StartupPhase.TOTAL, 0.1)),
        ("dependency_up", lambda metrics: metrics.update_dependency(Dependency.DATABASE, up=True)),
        (
            "dependency_connect_duration",
            lambda metrics: metrics.update_dependency_connect_duration(Dependency.CACHE, 0.1),
        ),
        ("config_valid", lambda metrics: metrics.update_config_valid(valid=True)),
    ],
)
def test_nothing_is_raised_and_it_is_said_once(
    metric: str,
    record: Callable[[AuthlyMetrics], None],
    metrics: AuthlyMetrics,
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
