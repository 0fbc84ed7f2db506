"""What is measured, how finely, and under which labels, as an operator chose it."""

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from tests.instance import Instance
from tests.processes import wait_until

LABELS = {"region": "eu west", "tier": "prod"}

strict: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families


def test_an_instance_measures_what_it_is_told_to(make_instance: Callable[..., Instance], database_url: str) -> None:
    """Two groups, coarsely, with two labels on everything: on both ports, in both formats, whoever it is about."""
    instance = make_instance(
        AUTHLY_WORKERS="1",
        AUTHLY_DATABASE_URL=database_url,
        AUTHLY_METRICS_GROUPS="http,runtime",
        AUTHLY_METRICS_RESOLUTION="low",
        AUTHLY_METRICS_CONST_LABELS="region=eu west,tier=prod",
    ).start()
    wait_until(lambda: "database_available" in instance.log(), 30)
    assert instance.get("/health/ready")[0] == 200
    for ask in (instance.scrape, instance.get):
        for accept, parse in (
            ("text/plain", text_string_to_metric_families),
            ("application/openmetrics-text;version=1.0.0", strict),
        ):
            families = {
                family.name: family for family in parse(ask("/metrics", headers={"Accept": accept})[2].decode())
            }
            for family in families.values():
                assert all(LABELS.items() <= sample.labels.items() for sample in family.samples), family.name
            assert {"authly_http_requests", "authly_event_loop_lag_seconds"} <= set(families)
            assert not [name for name in families if name.startswith(("authly_database_", "authly_cache_"))]
            assert "authly_application_info" not in families
            edges = {
                sample.labels["le"]
                for sample in families["authly_http_request_duration_seconds"].samples
                if sample.name.endswith("_bucket")
            }
            assert edges == {"0.001", "0.005", "0.025", "0.1", "0.25", "0.5", "1.0", "2.5", "10.0", "+Inf"}
            assert {"gunicorn_workers", "authly_exporter_series", "authly_memory_usage_bytes"} <= set(families)
