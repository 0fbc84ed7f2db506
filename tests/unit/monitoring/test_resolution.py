"""How finely histograms tell durations apart."""

import pytest

from authly.monitoring.request_metrics import REQUEST_BUCKETS
from authly.monitoring.resolution import Resolution, edges_at


@pytest.mark.parametrize(
    ("resolution", "edges"),
    [
        ("low", (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)),
        ("normal", REQUEST_BUCKETS),
        ((0.1, 0.3), (0.1, 0.25, 0.3, 1.0)),
        ((7.0,), (0.25, 1.0, 7.0)),
    ],
)
def test_edges(resolution: Resolution, edges: tuple[float, ...]) -> None:
    """Those that objectives count on are always among them, and the highest of a definition is too."""
    assert edges_at(resolution)(REQUEST_BUCKETS) == edges


def test_high_resolution_has_an_edge_between_any_two() -> None:
    """Nothing is taken away, so that panels of normal resolution still find their edges."""
    edges = edges_at("high")(REQUEST_BUCKETS)
    assert len(edges) == 2 * len(REQUEST_BUCKETS) - 1
    assert edges[::2] == REQUEST_BUCKETS
    assert list(edges) == sorted(edges)
