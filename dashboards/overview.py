"""Authly overview: whether all is well, for whoever looks first."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.expressions import grown, level, quantile, rate, select, share
from dashboards.panels import Board, Look, Query, Words, bars, graph, listing, number

_ENDPOINT = 'endpoint=~"$endpoint"'
_BUDGET = Look("percentunit", 4, warning=0.5, alarm=0.1)


def build() -> Dashboard:
    """Return the dashboard."""
    return (
        Board("authly-overview", "Authly overview", "Is all well? Objectives, traffic, latency, saturation, workers.")
        .row(
            "Objectives",
            number(
                Words(
                    "Alerts",
                    "Alerts that are firing. Look them up by their names in the runbooks.",
                    "README",
                    "No answer from Prometheus",
                ),
                Look("short", 3, warning=1, alarm=3),
                Query('count(ALERTS{alertname=~"Authly.*", alertstate="firing"}) or vector(0)'),
            ),
            number(
                Words(
                    "Instances",
                    "Exporters that answer Prometheus. Fewer than there should be: Authly is down there.",
                    "targets#authlytargetdown",
                ),
                Look("short", 3, warning=1, alarm=0.5),
                Query('sum(up{job="authly", instance=~"$instance"})'),
            ),
            number(
                Words(
                    "Without failure",
                    "Share of requests that were not answered with 5xx, in 5 minutes. 99.9 % are promised.",
                    "slo#authlyerrorsburnfast",
                    "No requests yet",
                ),
                Look("percentunit", 6, warning=0.999, alarm=0.99),
                Query("1 - job:authly_http_errors:ratio5m"),
            ),
            number(
                Words(
                    "Budget: failures",
                    "What is left of the 0.1 % of requests that may fail within 30 days. Below 0: a broken promise.",
                    "slo#authlyerrorsburnslow",
                    "No requests yet",
                ),
                _BUDGET,
                Query("job:authly_http_errors:budget30d"),
            ),
            number(
                Words(
                    "Budget: latency",
                    "What is left of the 5 % of requests that may take longer than 250 ms within 30 days.",
                    "slo#authlylatencyburnslow",
                    "No requests yet",
                ),
                _BUDGET,
                Query("job:authly_http_slow:budget30d"),
            ),
            number(
                Words(
                    "Budget: logins",
                    "What is left of the 5 % of logins that may take longer than 1 s within 30 days.",
                    "slo#authlyloginlatencyburnslow",
                    "No logins yet",
                ),
                _BUDGET,
                Query("job:authly_logins_slow:budget30d"),
            ),
            graph(
                Words(
                    "How fast budgets burn",
                    "1 uses a budget up in 30 days. Alerts fire at 14.4 (over an hour), 6 (six hours), 3 and 1.",
                    "slo",
                    "No requests yet",
                ),
                Look("short", 24, warning=1, alarm=6),
                Query("job:authly_http_errors:ratio1h / 0.001", "failures"),
                Query("job:authly_http_slow:ratio1h / 0.05", "latency"),
                Query("job:authly_logins_slow:ratio1h / 0.05", "logins"),
            ),
        )
        .row(
            "Traffic",
            graph(
                Words("Requests", "Requests a second, by status.", "slo", "No requests yet"),
                Look("reqps", stacked=True),
                Query(rate("authly_http_requests_total", "status_code", _ENDPOINT), "{{status_code}}"),
            ),
            graph(
                Words("Requests by endpoint", "Requests a second, by endpoint.", "slo", "No requests yet"),
                Look("reqps", stacked=True),
                Query(rate("authly_http_requests_total", "endpoint", _ENDPOINT), "{{endpoint}}"),
            ),
            graph(
                Words(
                    "Failures by endpoint",
                    "Share of an endpoint's requests that were answered with 5xx. 0 is usual.",
                    "slo#authlyerrorsburnfast",
                    "No failure in this time",
                ),
                Look("percentunit", most=1),
                Query(
                    share(
                        rate("authly_http_requests_total", "endpoint", f'{_ENDPOINT}, status_code=~"5.."'),
                        rate("authly_http_requests_total", "endpoint", _ENDPOINT),
                    ),
                    "{{endpoint}}",
                ),
            ),
        )
        .row(
            "Latency",
            graph(
                Words(
                    "Duration by endpoint",
                    "The chosen percentile. Endpoints that hash passwords (/login) are slow on purpose.",
                    "slo#authlylatencyburnfast",
                    "No requests yet",
                ),
                Look("s", 12),
                Query(quantile("authly_http_request_duration_seconds", "endpoint", _ENDPOINT), "{{endpoint}}"),
            ),
            graph(
                Words(
                    "Slower than promised",
                    "Share of requests beyond 250 ms, and of logins beyond 1 s. 5 % may be.",
                    "slo#authlylatencyburnfast",
                    "No requests yet",
                ),
                Look("percentunit", 12, most=1, warning=0.05, alarm=0.3),
                Query("job:authly_http_slow:ratio5m", "requests"),
                Query("job:authly_logins_slow:ratio5m", "logins"),
            ),
        )
        .row(
            "Saturation",
            graph(
                Words(
                    "Requests in progress",
                    "Requests that are being answered. Rising without more traffic: something holds them up.",
                    "workers#authlyworkershang",
                ),
                Look("short", 6, stacked=True),
                Query(level("authly_http_requests_in_progress", "method"), "{{method}}"),
            ),
            graph(
                Words(
                    "Event loop",
                    "By how much tasks come late, the chosen percentile. Beyond 250 ms everything is slow.",
                    "workers#authlyeventlooplag",
                ),
                Look("s", 6, warning=0.05, alarm=0.25),
                Query(quantile("authly_event_loop_lag_seconds", "instance"), "{{instance}}"),
            ),
            graph(
                Words(
                    "Database connections in use",
                    "Share of the connections that the pools may have.",
                    "database#authlypoolsaturated",
                    "No pool is open",
                ),
                Look("percentunit", 6, most=1, warning=0.7, alarm=0.9),
                Query(
                    share(
                        level("authly_database_connections", "instance", 'state="in_use"'),
                        level("authly_database_connections_max", "instance"),
                    ),
                    "{{instance}}",
                ),
            ),
            graph(
                Words(
                    "Connections that wait",
                    "Share of the listen queue that is full. Anything but 0 for long means too few workers.",
                    "workers#authlybacklog",
                ),
                Look("percentunit", 6, warning=0.1, alarm=0.5),
                Query(
                    f"{select('gunicorn_listen_backlog')} / {select('gunicorn_listen_backlog_max')}",
                    "{{instance}} {{listener}}",
                ),
            ),
        )
        .row(
            "Instances",
            bars(
                Words("Up for", "Time since the master of an instance started.", "targets"),
                Look("s", 6),
                Query(select("authly_uptime_seconds"), "{{instance}}"),
            ),
            graph(
                Words("Workers", "Workers that are alive, and that should be.", "workers#authlyworkersmissing"),
                Look("short", 6),
                Query(level("gunicorn_workers", "state", 'state=~"alive|desired"'), "{{state}}"),
            ),
            graph(
                Words(
                    "Workers that ended",
                    "By reason. Recycled ones (max_requests), reloads and shutdowns are usual.",
                    "workers",
                ),
                Look("short", 6, stacked=True, bars=True),
                Query(grown("gunicorn_worker_exits_total", "reason"), "{{reason}}"),
            ),
            listing(
                Words("What is running", "Version, Python and environment of each instance.", "targets"),
                Look("short", 6),
                Query(level("authly_application_info", "instance, version, python_version, environment", how="max")),
            ),
        )
        .build()
    )
