"""Authentication and security: who logs in, who cannot, and who tries what."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.expressions import grown, level, quantile, rate, select, share
from dashboards.panels import Board, Look, Query, Words, graph, number

_LOGINS = "authly_auth_login_attempts_total"
_FAILURES = "authly_auth_failed_login_attempts_total"


def build() -> Dashboard:
    """Return the dashboard."""
    return (
        Board(
            "authly-authentication",
            "Authentication and security",
            "Logins, sessions and passwords, and what may be part of an attack.",
        )
        .row(
            "Logins",
            graph(
                Words("Logins", "By method and outcome.", "logins#authlyloginfailures", "Nobody tried to log in yet"),
                Look("reqps", stacked=True),
                Query(rate(_LOGINS, "method, status"), "{{method}} {{status}}"),
            ),
            graph(
                Words(
                    "Why logins fail",
                    "credentials: name or password, never which. locked: after too many failures one has to wait.",
                    "logins#authlyloginfailures",
                    "No login failed yet",
                ),
                Look("reqps", stacked=True),
                Query(rate(_FAILURES, "reason"), "{{reason}}"),
            ),
            graph(
                Words(
                    "Share that fails",
                    "More than half, and more than 30 in 5 minutes, is an alert.",
                    "logins#authlyloginfailures",
                    "Nobody tried to log in in this time",
                ),
                Look("percentunit", most=1, warning=0.3, alarm=0.5),
                Query(share(rate(_FAILURES), rate(_LOGINS)), "logins"),
            ),
            graph(
                Words(
                    "Duration of logins",
                    "The chosen percentile of POST /login. 95 % within 1 s are promised.",
                    "slo#authlyloginlatencyburnfast",
                    "Nobody logged in in this time",
                ),
                Look("s", warning=0.5, alarm=1),
                Query(
                    quantile("authly_http_request_duration_seconds", "instance", 'endpoint="/login", method="POST"'),
                    "{{instance}}",
                ),
            ),
            graph(
                Words(
                    "Hashing passwords",
                    "Time of one hash, the chosen percentile. Slow on purpose; slower where processors are busy.",
                    "slo#authlyloginlatencyburnfast",
                    "No password was hashed in this time",
                ),
                Look("s"),
                Query(quantile("authly_auth_password_hash_duration_seconds", "operation"), "{{operation}}"),
            ),
            graph(
                Words(
                    "Passwords in work",
                    "Passwords that are being hashed, and that wait for it. Beyond the queue people get 503.",
                    "slo#authlyloginlatencyburnfast",
                ),
                Look("short", stacked=True),
                Query(level("authly_thread_pool_tasks", "pool, state"), "{{pool}} {{state}}"),
            ),
        )
        .row(
            "Sessions and passwords",
            number(
                Words("Sessions", "Sessions in force.", "logins", "Not looked at yet"),
                Look("short"),
                Query(f"max({select('authly_auth_active_sessions')})"),
            ),
            graph(
                Words("Sessions come and go", "created, ended by somebody, or expired.", "logins", "No session yet"),
                Look("ops"),
                Query(rate("authly_auth_sessions_total", "event"), "{{event}}"),
            ),
            graph(
                Words(
                    "Changes of passwords",
                    "refused: the new one is not good enough. denied: the current one was wrong.",
                    "logins",
                    "No password was changed yet",
                ),
                Look("short", stacked=True, bars=True),
                Query(grown("authly_auth_password_changes_total", "initiator, status"), "{{initiator}} {{status}}"),
            ),
        )
        .row(
            "Security",
            graph(
                Words(
                    "Security events",
                    "What may be part of an attack. refresh_reuse and code_reuse (high): tokens may have been stolen.",
                    "tokens#authlyrefreshtokenreuse",
                    "Nothing happened yet",
                ),
                Look("short", 12, stacked=True, bars=True),
                Query(
                    grown("authly_security_events_total", "event_type, severity") + " > 0",
                    "{{event_type}} ({{severity}})",
                ),
            ),
            graph(
                Words(
                    "Requests that limits refused",
                    "429, by limit. login: somebody may be guessing passwords.",
                    "rate-limits#authlyratelimitsurge",
                    "No limit was reached yet",
                ),
                Look("reqps", 12, stacked=True),
                Query(rate("authly_rate_limit_hits_total", "policy"), "{{policy}}"),
            ),
            graph(
                Words(
                    "Administration",
                    "Requests to /admin/v1: what, on what, and how they were answered.",
                    "logins",
                    "Nobody administers over HTTP",
                ),
                Look("short", 24, stacked=True, bars=True),
                Query(
                    grown("authly_admin_requests_total", "resource, action, status") + " > 0",
                    "{{action}} {{resource}} {{status}}",
                ),
            ),
        )
        .build()
    )
