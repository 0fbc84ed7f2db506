"""What is recorded of a worker's start and of what it depends on."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import Dependency, StartupPhase
from authly.monitoring.lifecycle_metrics import LifecycleMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> LifecycleMetrics:
    """Return the metrics in that registry."""
    return LifecycleMetrics(Instruments("authly", registry))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return the value of a series; None if there is none."""
    return registry.get_sample_value(f"authly_{name}", labels)


def test_a_start_is_shown(registry: CollectorRegistry, metrics: LifecycleMetrics) -> None:
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


def test_the_application_is_described(registry: CollectorRegistry, metrics: LifecycleMetrics) -> None:
    """The info metric is 1 and says version, Python and environment."""
    metrics.update_application_info("staging")
    (sample,) = [
        sample for family in registry.collect() for sample in family.samples if sample.name == "authly_application_info"
    ]
    assert sample.value == 1
    assert sample.labels["environment"] == "staging"


@pytest.mark.parametrize(
    ("metric", "record"),
    [
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
    record: Callable[[LifecycleMetrics], None],
    metrics: LifecycleMetrics,
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
