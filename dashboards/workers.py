"""Workers and exporter: Gunicorn's processes, what they use, and whether the numbers can be believed."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.expressions import grown, level, quantile, rate, select, share
from dashboards.panels import Board, Look, Query, Words, bars, graph, listing, number

_WORKER = "{{instance}} {{worker}}"


def build() -> Dashboard:
    """Return the dashboard."""
    return (
        Board("authly-workers", "Workers and exporter", "Processes, memory, processor time; scrapes, files and series.")
        .row(
            "Workers",
            graph(
                Words("Workers", "By state; desired is what there should be.", "workers#authlyworkersmissing"),
                Look("short"),
                Query(level("gunicorn_workers", "state"), "{{state}}"),
            ),
            graph(
                Words("Started", "Workers that were started.", "workers#authlyworkersflapping"),
                Look("short", bars=True),
                Query(grown("gunicorn_worker_starts_total", "instance"), "{{instance}}"),
            ),
            graph(
                Words("Ended", "By reason.", "workers#authlyworkercrashes"),
                Look("short", stacked=True, bars=True),
                Query(grown("gunicorn_worker_exits_total", "reason"), "{{reason}}"),
            ),
            graph(
                Words(
                    "Memory",
                    "Resident memory of each worker. A line that only rises is a leak.",
                    "workers#authlyworkeroutofmemory",
                ),
                Look("bytes"),
                Query(select("gunicorn_worker_memory_bytes"), _WORKER),
            ),
            graph(
                Words("Processor time", "Cores that each worker uses.", "workers#authlyeventlooplag"),
                Look("short"),
                Query(rate("gunicorn_worker_cpu_seconds_total", "instance, worker"), _WORKER),
            ),
            graph(
                Words("Requests in progress", "That each worker is answering.", "workers#authlyworkerhangs"),
                Look("short"),
                Query(select("gunicorn_worker_requests_in_progress"), _WORKER),
            ),
            graph(
                Words("Heartbeat", "Time since the last sign of life. 20 s is an alert.", "workers#authlyworkerhangs"),
                Look("s", warning=16, alarm=20),
                Query(select("gunicorn_worker_heartbeat_age_seconds"), _WORKER),
            ),
            graph(
                Words("Age", "Time since each worker was started.", "workers#authlyworkersflapping"),
                Look("s"),
                Query(select("gunicorn_worker_age_seconds"), _WORKER),
            ),
            graph(
                Words("Connections that wait", "In each listen queue, and how many fit.", "workers#authlybacklog"),
                Look("short"),
                Query(select("gunicorn_listen_backlog"), "{{instance}} {{listener}}"),
                Query(select("gunicorn_listen_backlog_max"), "{{instance}} {{listener}} at most"),
            ),
        )
        .row(
            "From within",
            graph(
                Words(
                    "Event loop", "By how much tasks come late, the chosen percentile.", "workers#authlyeventlooplag"
                ),
                Look("s", warning=0.05, alarm=0.25),
                Query(quantile("authly_event_loop_lag_seconds", "instance"), "{{instance}}"),
            ),
            graph(
                Words(
                    "Garbage collection",
                    "Share of time that collections take, by generation. Nothing else runs meanwhile.",
                    "workers#authlyeventlooplag",
                ),
                Look("percentunit"),
                Query(
                    rate("authly_gc_pause_seconds_sum", "instance, generation"),
                    "{{instance}} generation {{generation}}",
                ),
            ),
            bars(
                Words(
                    "Start", "What each phase of a worker's start took, in the slowest one.", "workers#authlynoworkers"
                ),
                Look("s"),
                Query(level("authly_startup_duration_seconds", "phase", how="max"), "{{phase}}"),
            ),
        )
        .row(
            "Master",
            number(
                Words("Started", "When Gunicorn's master started.", "targets"),
                Look("dateTimeFromNow", 6),
                Query(f"1000 * max({select('gunicorn_master_start_time_seconds')})"),
            ),
            number(
                Words("Reloads", "Reloads of the configuration (SIGHUP) since then.", "targets"),
                Look("short", 6),
                Query(level("gunicorn_reloads_total")),
            ),
            number(
                Words("Upgrade", "1 while two masters live (SIGUSR2).", "targets"),
                Look("short", 6),
                Query(level("gunicorn_upgrade_in_progress", how="max")),
            ),
            number(
                Words("Settings", "1 while workers can do what their settings ask for.", "targets#authlyconfiginvalid"),
                Look("short", 6, warning=1, alarm=0.5),
                Query(level("authly_config_valid", how="min")),
            ),
        )
        .row(
            "Processes and container",
            graph(
                Words("Memory", "By role: what they share is divided among them.", "workers#authlyworkeroutofmemory"),
                Look("bytes", stacked=True),
                Query(level("authly_memory_usage_bytes", "role", 'type="pss"'), "{{role}}"),
            ),
            graph(
                Words(
                    "Processor time",
                    "Cores in use, by role. The exporter's is what metrics cost.",
                    "metrics#authlymetricsoverhead",
                ),
                Look("short", stacked=True),
                Query(rate("authly_cpu_seconds_total", "role, mode"), "{{role}} {{mode}}"),
            ),
            graph(
                Words(
                    "Container",
                    "Share of its memory that the container uses, and its processors.",
                    "workers#authlyworkeroutofmemory",
                    "There is no limit",
                ),
                Look("percentunit", most=1, warning=0.8, alarm=0.9),
                Query(
                    select("authly_container_memory_usage_bytes")
                    + " / "
                    + select("authly_container_memory_limit_bytes"),
                    "{{instance}} memory",
                ),
                Query(
                    share(
                        rate("authly_cpu_seconds_total", "instance"),
                        level("authly_container_cpu_limit_cores", "instance"),
                    ),
                    "{{instance}} processors",
                ),
            ),
            graph(
                Words(
                    "Files",
                    "Share of the files that one process may have open, in the process that has most.",
                    "workers#authlyworkershang",
                ),
                Look("percentunit", most=1, warning=0.7, alarm=0.9),
                Query(
                    f"{select('authly_open_file_descriptors_max')} / {select('authly_file_descriptors_limit')}",
                    "{{instance}} {{role}}",
                ),
            ),
            graph(
                Words("Open files and threads", "Of all processes of a role.", "workers#authlyworkershang"),
                Look("short"),
                Query(level("authly_open_file_descriptors", "role"), "files {{role}}"),
                Query(level("authly_threads", "role"), "threads {{role}}"),
            ),
            graph(
                Words(
                    "Context switches",
                    "voluntary: they waited. involuntary: processors are too few.",
                    "workers#authlyeventlooplag",
                ),
                Look("ops"),
                Query(rate("authly_context_switches_total", "role, kind"), "{{role}} {{kind}}"),
            ),
        )
        .row(
            "Exporter",
            graph(
                Words("Scrapes", "By outcome; all but success lack something.", "metrics#authlyscrapepartial"),
                Look("ops", stacked=True),
                Query(rate("authly_exporter_scrapes_total", "outcome"), "{{outcome}}"),
            ),
            graph(
                Words("Duration of scrapes", "Mean time of each phase.", "metrics#authlyscrapeslow"),
                Look("s", stacked=True),
                Query(
                    share(
                        rate("authly_exporter_scrape_duration_seconds_sum", "phase"),
                        rate("authly_exporter_scrape_duration_seconds_count", "phase"),
                    ),
                    "{{phase}}",
                ),
            ),
            graph(
                Words(
                    "Collectors",
                    "How long each takes. One that fails (0 beside it) is missing from scrapes.",
                    "metrics#authlyscrapepartial",
                ),
                Look("s"),
                Query(select("authly_exporter_collector_duration_seconds"), "{{instance}} {{collector}}"),
                Query(select("authly_exporter_collector_success"), "{{instance}} {{collector}} success"),
            ),
            graph(
                Words("Series", "Samples that were collected from the files.", "metrics#authlyscrapeslow"),
                Look("short"),
                Query(select("authly_exporter_series"), "{{instance}}"),
            ),
            graph(
                Words("Files", "Metric files, by type; skipped ones by reason.", "metrics#authlyskippedfiles"),
                Look("short"),
                Query(level("authly_exporter_files", "type"), "{{type}}"),
                Query(level("authly_exporter_skipped_files", "reason"), "skipped: {{reason}}"),
                Query(level("authly_exporter_skipped_entries"), "entries skipped"),
            ),
            graph(
                Words("Room", "Size of the metric files, and what is free beside them.", "metrics#authlydroppedseries"),
                Look("bytes"),
                Query(select("authly_exporter_directory_bytes"), "{{instance}} used"),
                Query(select("authly_exporter_directory_free_bytes"), "{{instance}} free"),
            ),
            graph(
                Words(
                    "Lost",
                    "Series that could not be stored, and label values that became other.",
                    "metrics#authlydroppedseries",
                    "Nothing was lost",
                ),
                Look("short", stacked=True, bars=True),
                Query(grown("authly_metrics_dropped_series_total", "reason"), "dropped: {{reason}}"),
                Query(grown("authly_metrics_label_overflow_total", "metric") + " > 0", "other in {{metric}}"),
            ),
            graph(
                Words(
                    "Health",
                    "1 each: the directory can be read, the web configuration is in force. 0: the scrape was complete.",
                    "metrics#authlymetricsdirectorydown",
                ),
                Look("short", most=1),
                Query(level("authly_exporter_directory_up", "instance", how="min"), "{{instance}} directory"),
                Query(
                    level("authly_exporter_web_config_valid", "instance", how="min"), "{{instance}} web configuration"
                ),
                Query(level("authly_exporter_scrape_partial", "instance", how="max"), "{{instance}} incomplete"),
            ),
            listing(
                Words("Exporters", "Version and Python of each.", "metrics"),
                Look("short"),
                Query(level("authly_exporter_build_info", "instance, version, python_version", how="max")),
            ),
        )
        .build()
    )
