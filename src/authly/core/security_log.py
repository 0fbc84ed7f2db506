"""The one way from something that an operator may want to look into to a counter and to a line of the log.

The line is called what the counter's ``event_type`` says and carries the correlation id of the request, as the entries
of the audit log do: from a counter that rises one gets to the case.
"""

import structlog

from authly.monitoring.labels import SEVERITIES, SecurityEvent, Severity
from authly.monitoring.recorders import SecurityRecorder

_log = structlog.stdlib.get_logger("authly.security")


class SecurityLog:
    """Notes security events.

    Args:
        metrics: counts them.
    """

    def __init__(self, metrics: SecurityRecorder) -> None:
        self._metrics = metrics

    def note(self, event: SecurityEvent, severity: Severity | None = None, /, **facts: str) -> None:
        """Note an event.

        Args:
            event: what happened.
            severity: how much it means, where that is not always the same.
            facts: by which an operator finds out more; never a password, a token, or a hash of one.
        """
        severity = severity or SEVERITIES[event][0]
        self._metrics.track_security_event(event, severity)
        _log.warning(event.value, severity=severity.value, **facts)
