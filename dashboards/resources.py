"""Database, cache and rate limits: what Authly needs of others, and the upkeep."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.expressions import grown, level, quantile, rate, select, share
from dashboards.panels import Board, Look, Query, Words, bars, graph

_QUERIES = "authly_database_queries_total"
_DURATION = "authly_database_query_duration_seconds"
_POOL = "authly_database_pool_requests_total"


def build() -> Dashboard:
    """Return the dashboard."""
    return (
        Board("authly-resources", "Database, cache and rate limits", "PostgreSQL, Valkey, limits, and periodic jobs.")
        .row(
            "Dependencies",
            graph(
                Words(
                    "Reachable",
                    "1 while PostgreSQL (database) and Valkey (cache) can be used.",
                    "database#authlydatabasedown",
                    "No worker has tried yet",
                ),
                Look("short", 12, most=1),
                Query(level("authly_dependency_up", "instance, dependency", how="min"), "{{instance}} {{dependency}}"),
            ),
            graph(
                Words(
                    "Time to connect",
                    "What the last attempt to connect took.",
                    "database#authlydatabasedown",
                    "No worker has connected yet",
                ),
                Look("s", 12),
                Query(
                    level("authly_dependency_connect_duration_seconds", "instance, dependency", how="max"),
                    "{{instance}} {{dependency}}",
                ),
            ),
        )
        .row(
            "Queries",
            graph(
                Words("Queries", "The ten most frequent, by name.", "database", "No query yet"),
                Look("ops", stacked=True),
                Query(f"topk(10, {rate(_QUERIES, 'operation')})", "{{operation}}"),
            ),
            graph(
                Words(
                    "Slowest queries",
                    "The ten with the highest chosen percentile. Usually about a millisecond.",
                    "database#authlyslowqueries",
                    "No query in this time",
                ),
                Look("s", warning=0.05, alarm=0.25),
                Query(f"topk(10, {quantile(_DURATION, 'operation')})", "{{operation}}"),
            ),
            graph(
                Words(
                    "Queries that fail",
                    "By name. 0 is usual.",
                    "database#authlydatabasedown",
                    "No query failed in this time",
                ),
                Look("ops", stacked=True),
                Query(rate(_QUERIES, "operation, status", 'status="error"') + " > 0", "{{operation}}"),
            ),
        )
        .row(
            "Connections",
            graph(
                Words(
                    "Connections",
                    "Of all pools, and how many there may be.",
                    "database#authlypoolsaturated",
                    "No pool is open",
                ),
                Look("short"),
                Query(level("authly_database_connections", "state"), "{{state}}"),
                Query(level("authly_database_connections_max"), "at most"),
            ),
            graph(
                Words(
                    "Requests for a connection",
                    "queued ones had to wait, error got none.",
                    "database#authlypoolqueueing",
                    "No query yet",
                ),
                Look("ops", stacked=True),
                Query(rate(_POOL, "outcome"), "{{outcome}}"),
            ),
            graph(
                Words(
                    "Waiting",
                    "Who waits at this moment, and seconds of waiting a second.",
                    "database#authlypoolqueueing",
                    "No pool is open",
                ),
                Look("short"),
                Query(level("authly_database_requests_waiting"), "waiting"),
                Query(rate("authly_database_pool_wait_seconds_total"), "seconds a second"),
            ),
        )
        .row(
            "Cache",
            graph(
                Words("Look-ups and messages", "By cache and outcome.", "rate-limits#authlycachedown", "Nothing yet"),
                Look("ops", stacked=True),
                Query(
                    rate("authly_cache_operations_total", "cache, operation, status"),
                    "{{cache}} {{operation}} {{status}}",
                ),
            ),
            graph(
                Words(
                    "Hits",
                    "Share of look-ups that a worker's memory answered, since the start.",
                    "rate-limits#authlycachedown",
                    "Nothing was looked up yet",
                ),
                Look("percentunit", most=1),
                Query(level("authly_cache_hit_ratio", "instance, cache", how="min"), "{{instance}} {{cache}}"),
            ),
            graph(
                Words("Memory of Valkey", "What it uses.", "rate-limits#authlycachedown", "There is no Valkey"),
                Look("bytes"),
                Query(level("authly_cache_memory_usage_bytes", how="max"), "Valkey"),
            ),
        )
        .row(
            "Rate limits",
            graph(
                Words(
                    "Refused", "429 a second, by limit.", "rate-limits#authlyratelimitsurge", "No limit was reached yet"
                ),
                Look("reqps", stacked=True),
                Query(rate("authly_rate_limit_hits_total", "policy, backend"), "{{policy}} ({{backend}})"),
            ),
            graph(
                Words(
                    "Time to count",
                    "What each request waits for its limit, the chosen percentile.",
                    "rate-limits#authlyratelimiterrors",
                    "Nothing was counted in this time",
                ),
                Look("s", warning=0.02, alarm=0.1),
                Query(quantile("authly_rate_limit_check_duration_seconds", "backend"), "{{backend}}"),
            ),
            graph(
                Words(
                    "No answer",
                    "Questions that Valkey or PostgreSQL did not answer. Workers count by themselves then.",
                    "rate-limits#authlyratelimiterrors",
                    "Every question was answered",
                ),
                Look("short", stacked=True, bars=True),
                Query(grown("authly_rate_limit_errors_total", "backend"), "{{backend}}"),
            ),
        )
        .row(
            "Upkeep",
            graph(
                Words(
                    "Runs", "Runs of periodic jobs, by outcome.", "upkeep#authlycleanupfailing", "No job has run yet"
                ),
                Look("short", stacked=True, bars=True),
                Query(grown("authly_cleanup_runs_total", "task, status"), "{{task}} {{status}}"),
            ),
            graph(
                Words("Rows deleted", "By job.", "upkeep", "Nothing was deleted yet"),
                Look("short", stacked=True, bars=True),
                Query(grown("authly_cleanup_rows_deleted_total", "task"), "{{task}}"),
            ),
            bars(
                Words(
                    "Last success",
                    "How long ago each job last succeeded. Three hours is an alert.",
                    "upkeep#authlycleanupstale",
                    "No job has succeeded yet",
                ),
                Look("s", warning=3600 * 2, alarm=3600 * 3),
                Query(
                    f"time() - max by (task) ({select('authly_cleanup_last_success_timestamp_seconds')})", "{{task}}"
                ),
            ),
        )
        .row(
            "Share of time",
            graph(
                Words(
                    "Time in queries",
                    "Seconds in queries a second, by name: what keeps PostgreSQL busy.",
                    "database#authlypoolsaturated",
                    "No query in this time",
                ),
                Look("short", 12, stacked=True),
                Query(f"topk(10, {rate(f'{_DURATION}_sum', 'operation')})", "{{operation}}"),
            ),
            graph(
                Words(
                    "Had to wait for a connection",
                    "Share of the requests for one. A tenth is an alert.",
                    "database#authlypoolqueueing",
                    "No query in this time",
                ),
                Look("percentunit", 12, most=1, warning=0.05, alarm=0.1),
                Query(
                    share(rate(_POOL, "instance", 'outcome!="immediate"'), rate(_POOL, "instance")),
                    "{{instance}}",
                ),
            ),
        )
        .build()
    )
