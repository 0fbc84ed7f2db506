"""The metrics of the administration interface."""

from typing import Protocol

from authly.monitoring.definitions import Definition, closed, described
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import ADMIN_ACTIONS, ADMIN_RESOURCES

ADMIN_REQUESTS = Definition(
    "authly_admin_requests_total",
    "counter",
    "Requests to the administration interface.",
    {
        "resource": closed(ADMIN_RESOURCES),
        "action": closed(ADMIN_ACTIONS),
        "status": described("a status of HTTP that the interface answers with"),
    },
    example='sum by (resource) (increase(authly_admin_requests_total{action!="read",status=~"2.."}[1h]))',
)


class AdminRecorder(Protocol):
    """What can be recorded of the administration interface."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Count a request to the administration interface."""


class NullAdminMetrics:
    """Records nothing of the administration interface."""

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Do nothing."""


class AdminMetrics(Layer):
    """Counts requests to the administration interface.

    Args:
        instruments: make the metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self.admin_requests = instruments.counter(ADMIN_REQUESTS)

    @recording
    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Count a request to the administration interface.

        Args:
            resource: what it is about, of a closed set.
            action: create, read, update, delete or other.
            status: the HTTP status.
        """
        self.admin_requests.labels(resource, action, str(status)).inc()
