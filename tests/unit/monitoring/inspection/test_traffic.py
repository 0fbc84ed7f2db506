"""What is computed from expositions: quantiles, rates, shares, workers."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.inspection.difference import Change, difference
from authly.monitoring.inspection.snapshot import Snapshot, SnapshotError, parse
from authly.monitoring.inspection.traffic import Worker, quantile, traffic

INFINITY = math.inf


def exposition(requests: dict[tuple[str, str], float], buckets: dict[str, float], total: float) -> bytes:
    """Return an exposition of one endpoint's requests and another's durations."""
    lines = ["# TYPE authly_http_requests_total counter"]
    for (endpoint, status), value in requests.items():
        labels = f'endpoint="{endpoint}",method="GET",status_code="{status}"'
        lines.append(f"authly_http_requests_total{{{labels}}} {value}")
    lines.append("# TYPE authly_http_request_duration_seconds histogram")
    labels = 'endpoint="/a",method="GET"'
    for edge, value in buckets.items():
        lines.append(f'authly_http_request_duration_seconds_bucket{{{labels},le="{edge}"}} {value}')
    lines.append(f"authly_http_request_duration_seconds_count{{{labels}}} {buckets['+Inf']}")
    lines.append(f"authly_http_request_duration_seconds_sum{{{labels}}} {total}")
    return ("\n".join(lines) + "\n").encode()


# Quantiles


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        pytest.param(0.5, [(1.0, 10.0), (2.0, 20.0), (INFINITY, 20.0)], 1.0, id="at an edge"),
        pytest.param(0.75, [(1.0, 10.0), (2.0, 20.0), (INFINITY, 20.0)], 1.5, id="between edges"),
        pytest.param(0.25, [(1.0, 10.0), (2.0, 20.0), (INFINITY, 20.0)], 0.5, id="in the first bucket, from 0"),
        pytest.param(0.99, [(1.0, 10.0), (INFINITY, 20.0)], 1.0, id="beyond the last edge"),
        pytest.param(0.5, [(1.0, 0.0), (2.0, 0.0), (4.0, 8.0), (INFINITY, 8.0)], 3.0, id="empty buckets"),
        pytest.param(0.5, [(1.0, 0.0), (INFINITY, 0.0)], None, id="nothing observed"),
        pytest.param(0.5, [], None, id="no buckets"),
        pytest.param(0.5, [(1.0, 5.0), (2.0, 5.0)], None, id="no infinite bucket"),
    ],
)
def test_a_quantile_is_estimated_as_promql_does(
    q: float, buckets: list[tuple[float, float]], expected: float | None
) -> None:
    """Linear between the edges of a bucket; the cases are those of histogram_quantile's documentation."""
    assert quantile(q, buckets) == expected


@given(st.lists(st.integers(0, 100), min_size=2, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_greater_quantile_is_not_less(counts: list[int], first: float, second: float) -> None:
    """Quantiles are monotonic, and lie between 0 and the last finite edge."""
    cumulative, buckets = 0.0, []
    for index, count in enumerate(counts):
        cumulative += count
        buckets.append((float(index + 1) if index < len(counts) - 1 else INFINITY, cumulative))
    low, high = (quantile(q, buckets) for q in sorted((first, second)))
    if cumulative == 0:
        assert low is high is None
    else:
        assert low is not None
        assert high is not None
        assert 0 <= low <= high <= len(counts) - 1


# Traffic


def test_traffic_between_two_moments() -> None:
    """Rates, shares and times are about what happened between them alone."""
    before = parse(exposition({("/a", "200"): 10, ("/b", "200"): 5}, {"0.1": 10, "1.0": 10, "+Inf": 10}, 1.0), 100.0)
    after = parse(
        exposition({("/a", "200"): 40, ("/a", "503"): 10, ("/b", "200"): 5}, {"0.1": 10, "1.0": 30, "+Inf": 30}, 11.0),
        110.0,
    )
    work = traffic(after, before)
    (endpoint,) = work.endpoints
    assert (endpoint.endpoint, endpoint.requests, endpoint.per_second, endpoint.failed) == ("/a", 40, 4.0, 0.25)
    assert endpoint.mean == 0.5
    assert endpoint.p50 == pytest.approx(0.55)
    assert (work.seconds, work.requests, work.per_second, work.failed) == (10.0, 40, 4.0, 0.25)


def test_traffic_since_the_beginning() -> None:
    """Without an earlier moment everything counts, and there are no rates."""
    work = traffic(parse(exposition({("/a", "404"): 4, ("/b", "200"): 5}, {"0.1": 4, "+Inf": 4}, 0.2), 0.0))
    assert [(each.endpoint, each.requests, each.refused) for each in work.endpoints] == [("/b", 5, 0.0), ("/a", 4, 1.0)]
    assert [each.mean for each in work.endpoints] == [None, 0.05]
    assert work.per_second is None


def test_traffic_of_an_instance_that_began_anew() -> None:
    """Counters that fell began again at 0; nothing is negative."""
    before = parse(exposition({("/a", "200"): 100}, {"0.1": 100, "+Inf": 100}, 5.0), 0.0)
    after = parse(exposition({("/a", "200"): 3}, {"0.1": 3, "+Inf": 3}, 0.15), 2.0)
    (endpoint,) = traffic(after, before).endpoints
    assert endpoint.requests == 3
    assert endpoint.mean == pytest.approx(0.05)


def test_workers_come_from_the_gunicorn_families() -> None:
    """Slots in numerical order; what a family does not say is not known."""
    text = """# TYPE gunicorn_workers gauge
gunicorn_workers{state="alive"} 2
gunicorn_workers{state="busy"} 1
# TYPE gunicorn_worker_exits_total counter
gunicorn_worker_exits_total{reason="timeout"} 3
# TYPE gunicorn_worker_memory_bytes gauge
gunicorn_worker_memory_bytes{worker="10"} 1000
gunicorn_worker_memory_bytes{worker="9"} 2000
# TYPE gunicorn_worker_requests_in_progress gauge
gunicorn_worker_requests_in_progress{worker="9"} 1
# TYPE gunicorn_worker_cpu_seconds_total counter
gunicorn_worker_cpu_seconds_total{worker="9"} %d
# TYPE gunicorn_listen_backlog gauge
gunicorn_listen_backlog{listener="127.0.0.1:8000"} 7
"""
    work = traffic(parse((text % 15).encode(), 10.0), parse((text % 10).encode(), 0.0))
    assert work.workers == [Worker("9", 1.0, 2000.0, 0.5, None, None), Worker("10", None, 1000.0, None, None, None)]
    assert work.states == {"alive": 2.0, "busy": 1.0}
    assert work.exits == {"timeout": 3.0}
    assert work.backlog == {"127.0.0.1:8000": 7.0}


def test_nothing_there_is_no_traffic() -> None:
    """An exposition without any of the families is an instance that does nothing."""
    work = traffic(parse(b"", 0.0))
    assert (work.requests, work.endpoints, work.workers) == (0, [], [])


# Snapshots and differences


def test_both_formats_are_read_alike() -> None:
    """Text and OpenMetrics give the same series."""
    text = parse(b'# TYPE x_total counter\nx_total{b="2",a="1"} 3\n', 0.0)
    openmetrics = parse(b'# TYPE x counter\nx_total{a="1",b="2"} 3.0\n# EOF\n', 0.0)
    assert text == openmetrics == Snapshot(0.0, {("x_total", (("a", "1"), ("b", "2"))): 3.0}, frozenset({"x_total"}))


@pytest.mark.parametrize("content", [b"<html>{</html>\n", b"\xff\xfe", b'x{a="1" 3\n', b"x\n# EOF\n"])
def test_what_is_no_exposition_is_refused(content: bytes) -> None:
    """Whatever the parsers raise, it is one error."""
    with pytest.raises(SnapshotError, match="not an exposition"):
        parse(content, 0.0)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_exposition_or_refused(content: bytes) -> None:
    """Nothing else is raised."""
    try:
        parse(content, 0.0)
    except SnapshotError:
        return


def test_a_difference_has_what_came_and_what_went() -> None:
    """Series that appear count from 0; those that are gone have no value; what is the same is left out."""

    def snapshot(moment: float, **values: float) -> Snapshot:
        series: dict[Any, float] = {(name, ()): value for name, value in values.items()}
        return Snapshot(moment, series, frozenset({"new_total", "same_total"}))

    nan = math.nan
    changes = difference(
        snapshot(0.0, old=1.0, same_total=2.0, nan=nan), snapshot(2.0, new_total=3.0, same_total=2.0, nan=nan)
    )
    assert changes == [Change("new_total", (), None, 3.0, 1.5, False), Change("old", (), 1.0, None)]
