"""The metrics of what may be part of an attack."""

from typing import Protocol

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import SECURITY_EVENTS, SECURITY_EVENTS_HELP, SEVERITIES, SecurityEvent, Severity

EVENTS = Definition(
    f"{SECURITY_EVENTS}_total",
    "counter",
    SECURITY_EVENTS_HELP,
    {"event_type": closed(SecurityEvent), "severity": closed(Severity)},
    detail="Each has a line in the log. `metrics_denied`: somebody was kept from the metrics, at the exporter or at "
    "the application port; `low` without credentials, `medium` with wrong ones or from the wrong place. `admin_denied` "
    "(`medium`): from the administration interface. `cors_rejected` (`low`): a page of an origin that is no client's "
    "called what clients call. `host_rejected` (`low`): a request for a host that is not among "
    "`AUTHLY_ALLOWED_HOSTS`.",
    example="sum by (event_type) (increase(authly_security_events_total[15m])) > 0",
)


class SecurityRecorder(Protocol):
    """What can be recorded of what may be part of an attack."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack."""


class NullSecurityMetrics:
    """Records nothing of what may be part of an attack."""

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Do nothing."""


class SecurityMetrics(Layer):
    """Counts security events.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.security_events = instruments.counter(
            EVENTS, ((event, severity) for event, severities in SEVERITIES.items() for severity in severities)
        )

    @recording
    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count an event that may be part of an attack.

        Args:
            event: what happened.
            severity: how much it means.
        """
        self.security_events.labels(event, severity).inc()
