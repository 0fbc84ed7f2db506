"""Values in families."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.status.lookup import Lookup, all_buckets, buckets, quantile
from authly.monitoring.multiprocess.families import Child, Family, Sample


def histogram(counts: dict[str, float], **labels: str) -> Child:
    """Return the buckets of one series."""
    fixed = tuple(labels.items())
    child = Child(fixed, [("h_bucket", (("le", edge), *fixed)) for edge in counts])
    child.values = tuple(counts.values())
    return child


def test_values_are_added_up_by_labels() -> None:
    """Samples that have the labels asked for are added up; of two families of one name the first counts."""
    samples = [Sample("a", (("x", "1"), ("y", "2")), 3.0), Sample("a", (("x", "1"), ("y", "3")), 4.0)]
    found = Lookup([Family.of("a", "gauge", "Help.", samples), Family.of("a", "gauge", "Other.", [])])
    assert found.value("a") == 7.0
    assert found.value("a", y="3") == 4.0
    assert found.value("a", y="9") is found.value("b") is None
    assert found.by("a", "x") == {"1": 7.0}
    assert found.by("a", "z") == found.by("b", "x") == {}


def test_families_are_found_behind_a_prefix() -> None:
    """``http_requests`` is found as such and as ``shop_http_requests``, not as ``nohttp_requests``."""
    family = Family("shop_http_requests", "counter", "Help.")
    assert Lookup([Family("nohttp_requests", "counter", "Help."), family]).ending("http_requests") is family
    assert Lookup([]).ending("http_requests") is None


def test_buckets_are_added_up() -> None:
    """Over all series that have the labels and are shown."""
    hidden = histogram({"0.1": 9.0, "+Inf": 9.0}, phase="a")
    hidden.expired = True
    children = [histogram({"0.1": 1.0, "+Inf": 2.0}, phase=phase) for phase in "ab"]
    family = Family("h", "histogram", "Help.", [*children, hidden])
    assert buckets(family) == {0.1: 2.0, math.inf: 4.0}
    assert buckets(family, phase="a") == {0.1: 1.0, math.inf: 2.0}
    assert buckets(None) == {}


EDGES = st.lists(st.sampled_from(["0.1", "0.5", "1.0", "2.5"]), unique=True).map(lambda edges: [*sorted(edges), "+Inf"])
SERIES = st.tuples(
    EDGES,
    st.dictionaries(st.sampled_from(["a", "m", "z"]), st.sampled_from(["x", "y"])),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(SERIES))
def test_adding_up_by_columns_gives_the_same(series: list[tuple[list[str], dict[str, str], bool, bool]]) -> None:
    """Whatever labels, edges and order of samples the series have, and whichever are hidden."""
    children = []
    for edges, labels, is_expired, sum_first in series:
        names = [("h_bucket", tuple(sorted((*labels.items(), ("le", edge))))) for edge in edges]
        total = ("h_sum", tuple(sorted(labels.items())))
        child = Child((), [total, *names] if sum_first else [*names, total])
        child.values = tuple(float(number) for number in range(1, len(edges) + 2))
        child.expired = is_expired
        children.append(child)
    family = Family("h", "histogram", "Help.", children)
    assert all_buckets(family) == buckets(family)
    assert all_buckets(None) == {}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0.0), (0.2, 0.05), (0.4, 0.1), (0.6, 0.55), (0.8, 1.0), (0.99, 1.0)]
)
def test_quantiles_are_those_of_promql(share: float, expected: float) -> None:
    """Linear inside a bucket; beyond the last finite edge, that edge."""
    assert quantile(share, {0.1: 40.0, 1.0: 80.0, math.inf: 100.0}) == pytest.approx(expected)


def test_without_observations_there_is_no_quantile() -> None:
    """Neither of no buckets nor of empty ones."""
    assert quantile(0.5, {}) is quantile(0.5, {0.1: 0.0, math.inf: 0.0}) is None
