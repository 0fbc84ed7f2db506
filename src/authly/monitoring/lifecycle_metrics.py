"""The metrics of a worker's start and of what it depends on."""

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from authly.monitoring.labels import Dependency, StartupPhase


class LifecycleRecorder(Protocol):
    """What can be recorded of a worker's start and of what it depends on."""

    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Say how long a phase of the start took."""

    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Say whether a dependency can be used."""

    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Say how long it took to connect."""

    def update_config_valid(self, *, valid: bool) -> None:
        """Say whether the configuration can be used."""


class NullLifecycleMetrics:
    """Records nothing of a worker's start."""

    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Do nothing."""

    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Do nothing."""

    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Do nothing."""

    def update_config_valid(self, *, valid: bool) -> None:
        """Do nothing."""


class LifecycleMetrics:
    """Shows how workers started, and whether what they depend on can be used.

    Their series appear when there is something to say: 0 would claim that a dependency is down.

    Args:
        registry: where the metrics are registered.
        failed: is told the name of a call that failed, while the exception is handled.
    """

    def __init__(self, registry: CollectorRegistry, failed: Callable[[str], None]) -> None:
        self.startup_duration = Gauge(
            "authly_startup_duration_seconds",
            "Time that a phase of a worker's start took, in the slowest worker.",
            ["phase"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.dependency_up = Gauge(
            "authly_dependency_up",
            "Whether a dependency could be used when a worker last tried.",
            ["dependency"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self.dependency_connect_duration = Gauge(
            "authly_dependency_connect_duration_seconds",
            "Time that a worker last took to connect to a dependency.",
            ["dependency"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self.config_valid = Gauge(
            "authly_config_valid",
            "Whether all workers can use their configuration.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        # Whoever makes this has read the settings; without labels the series exists at once, and as 0 it would alarm.
        self.config_valid.set(1)
        self._lifecycle_failed = failed

    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Say how long a phase of the start took.

        Args:
            phase: which.
            seconds: how long.
        """
        try:
            self.startup_duration.labels(phase).set(seconds)
        except Exception:  # noqa: BLE001
            self._lifecycle_failed("update_startup_duration")

    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Say whether a dependency can be used.

        Args:
            dependency: which.
            up: whether it can.
        """
        try:
            self.dependency_up.labels(dependency).set(up)
        except Exception:  # noqa: BLE001
            self._lifecycle_failed("update_dependency")

    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Say how long it took to connect.

        Args:
            dependency: to which.
            seconds: from the attempt that succeeded to its success.
        """
        try:
            self.dependency_connect_duration.labels(dependency).set(seconds)
        except Exception:  # noqa: BLE001
            self._lifecycle_failed("update_dependency_connect_duration")

    def update_config_valid(self, *, valid: bool) -> None:
        """Say whether the configuration can be used.

        Args:
            valid: whether it can.
        """
        try:
            self.config_valid.set(valid)
        except Exception:  # noqa: BLE001
            self._lifecycle_failed("update_config_valid")
