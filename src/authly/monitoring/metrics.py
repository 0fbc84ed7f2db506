"""Every metric of Authly, and the typed calls that record them.

Services are given an :class:`AuthlyMetrics`, or a :class:`NullMetrics` where nothing is to be measured; they never
ask which. A recording call takes enums and numbers, does no I/O beyond a write to mapped memory, and never raises.
"""

import platform
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from authly import __version__
from authly.monitoring.labels import SECURITY_EVENTS, SECURITY_EVENTS_HELP, SecurityEvent, Severity
from authly.monitoring.middleware import Exchange, HTTPMetrics
from authly.monitoring.multiprocess.bound import Increment
from authly.monitoring.request_metrics import NULL_EXCHANGE, Lookup, RequestMetrics


class Metrics(HTTPMetrics, Protocol):
    """What can be recorded."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack."""

    def update_application_info(self, environment: str) -> None:
        """Say what is running."""


class NullMetrics:
    """Records nothing."""

    def __init__(self) -> None:
        self.arrivals = Lookup[str, Increment](lambda _: lambda: None)
        self.exchanges = Lookup[tuple[str, str, int], Exchange](lambda _: NULL_EXCHANGE)

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Do nothing."""

    def update_application_info(self, environment: str) -> None:
        """Do nothing."""


class AuthlyMetrics(RequestMetrics):
    """Records into metrics of prometheus-client.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__("authly", registry)
        self.security_events = Counter(
            f"{SECURITY_EVENTS}_total",
            SECURITY_EVENTS_HELP,
            ["event_type", "severity"],
            registry=registry,
        )
        for severity in Severity:
            self.security_events.labels(SecurityEvent.METRICS_DENIED, severity)
        self.application_info = Gauge(
            "authly_application_info",
            "What is running; always 1.",
            ["version", "python_version", "environment"],
            multiprocess_mode="max",
            registry=registry,
        )

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack.

        Args:
            event: what happened.
            severity: how much it means.
        """
        try:
            self.security_events.labels(event, severity).inc()
        except Exception:  # noqa: BLE001
            self._report_failure("track_security_event")

    def update_application_info(self, environment: str) -> None:
        """Say what is running.

        Args:
            environment: the name of the deployment.
        """
        try:
            self.application_info.labels(__version__, platform.python_version(), environment).set(1)
        except Exception:  # noqa: BLE001
            self._report_failure("update_application_info")
