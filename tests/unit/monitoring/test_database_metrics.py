"""What is recorded of queries and of the pool of connections."""

import asyncio
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from psycopg_pool import PoolTimeout

from authly.core.database import create_pool
from authly.monitoring.database_metrics import DatabaseMetrics
from authly.monitoring.database_operations import DATABASE_OPERATIONS
from authly.monitoring.instruments import Instruments
from tests.vocabulary import observe, series_of


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> DatabaseMetrics:
    """Return the metrics in that registry."""
    return DatabaseMetrics(Instruments("authly", registry))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return the value of a series; None if there is none."""
    return registry.get_sample_value(f"authly_database_{name}", labels)


def test_queries_are_counted_from_nothing(registry: CollectorRegistry, metrics: DatabaseMetrics) -> None:
    """Each operation has both its counters from the start, so that the first query is an increase."""
    counts = {
        (sample.labels["operation"], sample.labels["status"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "authly_database_queries_total"
    }
    assert counts == {(operation, status): 0 for operation in DATABASE_OPERATIONS for status in ("success", "error")}


def test_a_query_is_counted_and_timed(registry: CollectorRegistry, metrics: DatabaseMetrics) -> None:
    """One query moves the counter of its outcome, and one bucket of its operation."""
    metrics.query_ended("users.find", "success", 0.002)
    metrics.query_ended("users.find", "success", 0.3)
    metrics.query_ended("users.find", "error", 6.0)
    assert value(registry, "queries_total", operation="users.find", status="success") == 2
    assert value(registry, "queries_total", operation="users.find", status="error") == 1
    assert value(registry, "query_duration_seconds_sum", operation="users.find") == pytest.approx(6.302)
    for le, count in [("0.001", 0), ("0.0025", 1), ("0.25", 1), ("1.0", 2), ("5.0", 2), ("+Inf", 3)]:
        assert value(registry, "query_duration_seconds_bucket", operation="users.find", le=le) == count
    assert value(registry, "queries_total", operation="users.get", status="success") == 0


def test_an_unregistered_name_becomes_other(registry: CollectorRegistry, metrics: DatabaseMetrics) -> None:
    """Names outside the vocabulary share one series, however many there are, and count as an overflow."""
    for number in range(50):
        metrics.query_ended(f"made.up{number}", "success", 0.1)
    assert value(registry, "queries_total", operation="other", status="success") == 50
    assert value(registry, "query_duration_seconds_count", operation="other") == 50
    assert registry.get_sample_value(
        "authly_metrics_label_overflow_total", {"metric": "authly_database_queries_total"}
    ) == 50  # fmt: skip
    operations = {
        sample.labels["operation"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "authly_database_queries_total"
    }
    assert operations == DATABASE_OPERATIONS | {"other"}


def test_a_pool_is_shown(registry: CollectorRegistry, metrics: DatabaseMetrics) -> None:
    """Levels are what the pool says; counters grow by what it counted since it was last looked at."""
    first = {
        "pool_size": 5, "pool_available": 2, "pool_max": 10, "requests_waiting": 1,
        "requests_num": 20, "requests_queued": 6, "requests_errors": 2, "requests_wait_ms": 1500,
    }  # fmt: skip
    metrics.update_database_pool(first)
    assert value(registry, "connections", state="idle") == 2
    assert value(registry, "connections", state="in_use") == 3
    assert value(registry, "connections_max") == 10
    assert value(registry, "requests_waiting") == 1
    for looks in range(2):
        outcomes = {
            outcome: value(registry, "pool_requests_total", outcome=outcome)
            for outcome in ("immediate", "queued", "error")
        }
        assert outcomes == {"immediate": 14, "queued": 3, "error": 2}, looks
        assert value(registry, "pool_wait_seconds_total") == 1.5
        metrics.update_database_pool(first)
    metrics.update_database_pool({**first, "requests_num": 23, "requests_waiting": 0, "requests_wait_ms": 1700})
    assert value(registry, "pool_requests_total", outcome="immediate") == 17
    assert value(registry, "pool_requests_total", outcome="queued") == 4
    assert value(registry, "pool_wait_seconds_total") == pytest.approx(1.7)


@pytest.mark.anyio
@pytest.mark.produces("authly_database_pool_requests_total", outcome=("immediate", "queued", "error"))
@pytest.mark.produces("authly_database_connections", state=("idle", "in_use"))
async def test_a_real_pool_is_shown(registry: CollectorRegistry, metrics: DatabaseMetrics, database_url: str) -> None:
    """Whoever finds a connection, waits for one, or waits in vain is counted as such."""
    async with create_pool(database_url, 1) as pool:
        await pool.wait()
        async with pool.connection():
            with pytest.raises(PoolTimeout):
                await pool.getconn(timeout=0.01)
            waiting = asyncio.create_task(pool.getconn())
            while not pool.get_stats()["requests_waiting"]:
                await asyncio.sleep(0)
            metrics.update_database_pool(pool.get_stats())
            assert value(registry, "connections", state="in_use") == 1
            assert value(registry, "requests_waiting") == 1
            observe(series_of(registry.collect()))
        await pool.putconn(await waiting)
        metrics.update_database_pool(pool.get_stats())
    outcomes = {
        outcome: value(registry, "pool_requests_total", outcome=outcome) for outcome in ("immediate", "queued", "error")
    }
    assert outcomes == {"immediate": 1, "queued": 1, "error": 1}
    assert value(registry, "connections", state="idle") == 1


def test_counters_of_the_pool_never_fall(registry: CollectorRegistry, metrics: DatabaseMetrics) -> None:
    """Numbers that go back, as they do when who was served turns out to have failed, are made up for first."""
    metrics.update_database_pool({"requests_num": 5, "requests_queued": 3})
    metrics.update_database_pool({"requests_num": 5, "requests_queued": 3, "requests_errors": 1})
    assert value(registry, "pool_requests_total", outcome="queued") == 3
    metrics.update_database_pool({"requests_num": 6, "requests_queued": 4, "requests_errors": 1})
    assert value(registry, "pool_requests_total", outcome="queued") == 3
    metrics.update_database_pool({"requests_num": 7, "requests_queued": 5, "requests_errors": 1})
    assert value(registry, "pool_requests_total", outcome="queued") == 4
    assert value(registry, "pool_requests_total", outcome="immediate") == 2
    assert value(registry, "pool_requests_total", outcome="error") == 1


def test_nothing_is_raised_and_it_is_said_once(
    metrics: DatabaseMetrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics that fail fail no query; the log says so once for each call."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(metrics.database_queries, "labels", broken)
    monkeypatch.setattr(metrics.database_connections, "labels", broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            metrics.query_ended("users.find", "success", 0.1)
            metrics.update_database_pool({})
    assert [record.message for record in caplog.records] == [
        f"A metric could not be recorded ({call}); this is said once"
        for call in ("query_ended", "update_database_pool")
    ]
