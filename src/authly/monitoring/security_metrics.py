"""The metrics of what may be part of an attack."""

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.instruments import Instruments, Layer, recording
from authly.monitoring.labels import SECURITY_EVENTS, SECURITY_EVENTS_HELP, SEVERITIES, SecurityEvent, Severity

EVENTS = Definition(
    f"{SECURITY_EVENTS}_total",
    "counter",
    SECURITY_EVENTS_HELP,
    {"event_type": closed(SecurityEvent), "severity": closed(Severity)},
    detail="Each has a line in the log, called as the event is, with the correlation id of the request. `high`: "
    "somebody had what is not theirs: `code_reuse` and `refresh_reuse`, a code or a refresh token presented again, "
    "and what came of it revoked. `medium`: somebody tries something: `pkce_mismatch`, a code without its verifier; "
    "`redirect_uri_mismatch`, an answer that was to go elsewhere; `bad_token_algorithm`, a token or an assertion that "
    "names an algorithm which is not that of its key; `account_locked`, a failed login after which the next one has "
    "to wait; `admin_denied`, somebody kept from the administration interface; `metrics_denied`, from the metrics, at "
    "the exporter or at the application port. `low`: happens to people and to clients that are set up wrongly, too: "
    "`csrf_rejected`, a form that was shown elsewhere or long ago; `cors_rejected`, a page of an origin that is no "
    "client's called what clients call; `host_rejected`, a request for a host that is not among "
    "`AUTHLY_ALLOWED_HOSTS`; and `metrics_denied` without credentials.",
    example="sum by (event_type) (increase(authly_security_events_total[15m])) > 0",
)


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
