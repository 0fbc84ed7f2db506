"""The metrics of what runs: a worker's start and what it depends on."""

import platform
from typing import Protocol

from authly import __version__
from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import Dependency, StartupPhase

APPLICATION_INFO = Definition(
    "authly_application_info",
    "gauge",
    "What is running; always 1.",
    {
        "version": described("Authly's version"),
        "python_version": described("Python's version"),
        "environment": described("`AUTHLY_ENVIRONMENT`"),
    },
    mode="max",
    example="count by (version) (authly_application_info)",
)
STARTUP_DURATION = Definition(
    "authly_startup_duration_seconds",
    "gauge",
    "Time that a phase of a worker's start took, in the slowest worker.",
    {"phase": closed(StartupPhase)},
    mode="livemax",
    detail="`settings`: reading them. `database`: the connection. `migrations`: applying them, or waiting for the "
    "worker that does. `cache`: until Valkey can be heard. `total`: until it was ready for the first time, with the "
    "wait for a database that was away.",
    example='authly_startup_duration_seconds{phase="total"} > 10',
)
DEPENDENCY_UP = Definition(
    "authly_dependency_up",
    "gauge",
    "Whether a dependency could be used when a worker last tried.",
    {"dependency": closed(Dependency)},
    mode="mostrecent",
    detail="`cache` where there is a Valkey. Workers find out that a database is away by their queries and by "
    "`/health/ready`, and try again until it is back.",
    example="authly_dependency_up == 0",
)
DEPENDENCY_CONNECT_DURATION = Definition(
    "authly_dependency_connect_duration_seconds",
    "gauge",
    "Time that a worker last took to connect to a dependency.",
    {"dependency": closed(Dependency)},
    mode="mostrecent",
    example="authly_dependency_connect_duration_seconds > 1",
)
CONFIG_VALID = Definition(
    "authly_config_valid",
    "gauge",
    "Whether all workers can use their configuration.",
    mode="livemin",
    detail="0 while a worker cannot do what its settings ask for, such as to create the first administrator with the "
    "password that was chosen.",
    example="authly_config_valid == 0",
)


class LifecycleRecorder(Protocol):
    """What can be recorded of a worker's start and of what it depends on."""

    def update_application_info(self, environment: str) -> None:
        """Say what is running."""

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

    def update_application_info(self, environment: str) -> None:
        """Do nothing."""

    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Do nothing."""

    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Do nothing."""

    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Do nothing."""

    def update_config_valid(self, *, valid: bool) -> None:
        """Do nothing."""


class LifecycleMetrics(Layer):
    """Shows what runs, how workers started, and whether what they depend on can be used.

    Their series appear when there is something to say: 0 would claim that a dependency is down.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.application_info = instruments.gauge(APPLICATION_INFO)
        self.startup_duration = instruments.gauge(STARTUP_DURATION)
        self.dependency_up = instruments.gauge(DEPENDENCY_UP)
        self.dependency_connect_duration = instruments.gauge(DEPENDENCY_CONNECT_DURATION)
        self.config_valid = instruments.gauge(CONFIG_VALID)
        # Whoever makes this has read the settings; without labels the series exists at once, and as 0 it would alarm.
        self.config_valid.set(1)

    @recording
    def update_application_info(self, environment: str) -> None:
        """Say what is running.

        Args:
            environment: the name of the deployment.
        """
        self.application_info.labels(__version__, platform.python_version(), environment).set(1)

    @recording
    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Say how long a phase of the start took.

        Args:
            phase: which.
            seconds: how long.
        """
        self.startup_duration.labels(phase).set(seconds)

    @recording
    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Say whether a dependency can be used.

        Args:
            dependency: which.
            up: whether it can.
        """
        self.dependency_up.labels(dependency).set(up)

    @recording
    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Say how long it took to connect.

        Args:
            dependency: to which.
            seconds: from the attempt that succeeded to its success.
        """
        self.dependency_connect_duration.labels(dependency).set(seconds)

    @recording
    def update_config_valid(self, *, valid: bool) -> None:
        """Say whether the configuration can be used.

        Args:
            valid: whether it can.
        """
        self.config_valid.set(valid)
