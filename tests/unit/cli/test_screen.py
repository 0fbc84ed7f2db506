"""The table of `authly metrics top` fits its window, whatever there is to show."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.cli.metrics.screen import SORTS, ranked, table
from authly.monitoring.inspection.traffic import Endpoint, Traffic, Worker


def endpoint(
    name: str, requests: float, failed: float = 0.0, mean: float | None = 0.1, p95: float | None = 0.2
) -> Endpoint:
    """Return what one route was asked for."""
    return Endpoint("GET", name, requests, requests / 2, failed, 0.0, mean, mean, p95, p95)


def work(endpoints: list[Endpoint], workers: int = 0) -> Traffic:
    """Return the work of an instance."""
    return Traffic(
        2.0,
        sum(each.requests for each in endpoints),
        1.0,
        0.0,
        0.0,
        endpoints,
        [Worker(str(slot), 1.0, 50 * 2.0**20, 0.5, 7200.0, 0.5) for slot in range(workers)],
        {"alive": 2.0, "desired": 2.0},
        {"timeout": 1.0, "signal": 0.0},
        {"127.0.0.1:8000": 3.0},
    )


FAST, SLOW, FAILING = (
    endpoint("/fast", 100),
    endpoint("/slow", 5, mean=3.0, p95=9.0),
    endpoint("/failing", 7, 0.5, 0.3, 0.3),
)


@pytest.mark.parametrize(("sort", "first"), [("requests", FAST), ("mean", SLOW), ("p95", SLOW), ("errors", FAILING)])
def test_endpoints_are_ordered_as_asked(sort: str, first: Endpoint) -> None:
    """The greatest comes first."""
    assert ranked([FAST, SLOW, FAILING], sort)[0] is first


def test_everything_is_shown_in_units_for_people() -> None:
    """Rates, shares, times, memory; of the reasons why workers ended those that occurred."""
    lines = table(work([FAST, FAILING], workers=1), "title", width=120)
    assert lines[0] == "title"
    assert "workers: 2 alive, 2 desired; ended: 1 timeout" in lines
    assert "backlog: 127.0.0.1:8000 3" in lines
    assert re.search(r"^GET /fast +100 +50\.0 +0 % +0 % +100\.0 ms", "\n".join(lines), re.MULTILINE)
    assert re.search(r"^GET /failing +7 +3\.5 +50 %", "\n".join(lines), re.MULTILINE)
    assert lines[-1].split() == ["0", "1", "50.0", "MiB", "50", "%", "2.0", "h", "500.0", "ms"]


def test_what_does_not_fit_is_counted() -> None:
    """The busiest stay, the workers stay, and a line tells how many are missing."""
    lines = table(work([endpoint(f"/{number}", 100 - number) for number in range(50)], workers=2), "title", height=16)
    assert len(lines) == 16
    assert "GET /0 " in lines[6]
    (more,) = [line for line in lines if line.startswith("... ")]
    shown = sum(line.startswith("GET ") for line in lines)
    assert more == f"... {50 - shown} more"
    assert lines[-1].startswith("     1 ")


def test_a_label_value_cannot_steer_the_terminal() -> None:
    """Whoever answers at a URL chooses label values; control characters among them are not passed on."""
    (line,) = [line for line in table(work([endpoint("/\x1b]0;owned\x07\n", 1.0)]), "title") if line.startswith("GET ")]
    assert line.startswith("GET /?]0;owned?? ")


@given(
    names=st.lists(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=80), max_size=30),
    width=st.integers(1, 200),
    height=st.integers(1, 40),
    workers=st.integers(0, 10),
    sort=st.sampled_from(sorted(SORTS)),
)
def test_the_table_fits_any_window(names: list[str], width: int, height: int, workers: int, sort: str) -> None:
    """Never more lines than the window has, never wider than it, but for windows in which nothing could be read."""
    endpoints = [endpoint(name, 1.0, failed=0.5) for name in names]
    lines = table(work(endpoints, workers), "title", sort, width, height, colour=True)
    assert len(lines) <= height
    assert all(len(re.sub(r"\x1b\[[0-9]*m", "", line)) <= max(width, 40) for line in lines)
