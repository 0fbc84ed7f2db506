"""What follows from other families: shares that are computed when somebody asks."""

from collections.abc import Iterable

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.labels import CACHES
from authly.monitoring.multiprocess.families import Family, Sample

_OPERATIONS = "authly_cache_operations"

HIT_RATIO = Definition(
    "authly_cache_hit_ratio",
    "gauge",
    "Share of look-ups that a cache answered, since counting began.",
    {"cache": closed(CACHES)},
    detail="Computed at each scrape from `authly_cache_operations_total`; absent until there is a look-up. For the "
    "share of the last minutes, divide the rates of the counter.",
    example="authly_cache_hit_ratio < 0.5",
)


def with_hit_ratio(families: Iterable[Family]) -> list[Family]:
    """Return families, with the share of hits of each cache if look-ups are counted among them."""
    given = list(families)
    operations = next((family for family in given if family.name == _OPERATIONS), None)
    if operations is None:
        return given
    hits: dict[str, float] = {}
    lookups: dict[str, float] = {}
    for sample in operations.samples:
        labels = dict(sample.labels)
        if labels.get("operation") == "get" and not sample.name.endswith("_created"):
            cache = labels.get("cache", "")
            lookups[cache] = lookups.get(cache, 0.0) + sample.value
            hits[cache] = hits.get(cache, 0.0) + (sample.value if labels.get("status") == "hit" else 0.0)
    samples = [
        Sample(HIT_RATIO.name, (("cache", cache),), hits[cache] / number)
        for cache, number in sorted(lookups.items())
        if number
    ]
    return [*given, Family.of(HIT_RATIO.name, HIT_RATIO.type, HIT_RATIO.help, samples)] if samples else given
