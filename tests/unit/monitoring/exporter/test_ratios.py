"""The share of look-ups that a cache answered."""

from authly.monitoring.exporter.ratios import HIT_RATIO, with_hit_ratio
from authly.monitoring.multiprocess.families import Family, Sample


def operations(*counts: tuple[str, str, str, float]) -> Family:
    """Return the counter of look-ups and messages."""
    samples = [
        Sample(
            "authly_cache_operations_total", (("cache", cache), ("operation", operation), ("status", status)), number
        )
        for cache, operation, status, number in counts
    ]
    return Family.of("authly_cache_operations", "counter", "Help.", samples)


def test_the_share_of_each_cache() -> None:
    """Hits among look-ups; messages do not count, and a cache that nobody asked has no share."""
    given = operations(
        ("clients", "get", "hit", 3), ("clients", "get", "miss", 1), ("clients", "invalidate", "success", 7),
        ("scopes", "get", "hit", 0), ("scopes", "get", "miss", 0),
        ("keys", "get", "hit", 0), ("keys", "get", "miss", 2),
    )  # fmt: skip
    before, ratio = with_hit_ratio([given])
    assert before is given
    assert (ratio.name, ratio.type) == (HIT_RATIO.name, "gauge")
    assert {dict(sample.labels)["cache"]: sample.value for sample in ratio.samples} == {"clients": 0.75, "keys": 0.0}


def test_nothing_to_share() -> None:
    """Without look-ups there is no such metric."""
    other = Family.of("other", "gauge", "Help.", [Sample("other", (), 1.0)])
    none = operations(("clients", "get", "hit", 0), ("clients", "get", "miss", 0))
    assert with_hit_ratio([other, none]) == [other, none]
    assert with_hit_ratio([other]) == [other]
