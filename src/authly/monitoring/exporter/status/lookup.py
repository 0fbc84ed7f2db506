"""Find values in families by the names of their metrics."""

from collections.abc import Iterable

from authly.monitoring.multiprocess.families import Child, Family, Sample


class Lookup:
    """The families of one moment.

    Args:
        families: of two with the same name, the first counts.
    """

    def __init__(self, families: Iterable[Family]) -> None:
        self.families: dict[str, Family] = {}
        for family in families:
            self.families.setdefault(family.name, family)

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of a family's samples that have these labels; None if there are none.

        Args:
            name: of the family; it is not a histogram.
            **labels: that a sample must have.
        """
        found = [sample.value for sample in self._samples(name) if labels.items() <= dict(sample.labels).items()]
        return sum(found) if found else None

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the sums of a family's samples by the values of a label."""
        sums: dict[str, float] = {}
        for sample in self._samples(name):
            value = dict(sample.labels).get(label)
            if value is not None:
                sums[value] = sums.get(value, 0.0) + sample.value
        return sums

    def ending(self, name: str) -> Family | None:
        """Return the family of that name, or the first with a prefix before it (``authly_http_requests``)."""
        for found, family in self.families.items():
            if found == name or found.endswith(f"_{name}"):
                return family
        return None

    def _samples(self, name: str) -> list[Sample]:
        family = self.families.get(name)
        return family.samples if family is not None else []


def buckets(family: Family | None, **labels: str) -> dict[float, float]:
    """Return a histogram's cumulative counts by the upper edges of its buckets, over all series with these labels."""
    edges: dict[float, float] = {}
    wanted = labels.items()
    for child in family.children if family is not None else ():
        if child.hidden:
            continue
        for (name, has), value in zip(child.names, child.values, strict=True):
            if name.endswith("_bucket"):
                found = dict(has)
                if wanted <= found.items():
                    edge = float(found["le"])
                    edges[edge] = edges.get(edge, 0.0) + value
    return edges


def all_buckets(family: Family | None) -> dict[float, float]:
    """Return the same over all series, for families with many: their values are added up by columns."""
    children = [child for child in family.children if not child.hidden] if family is not None else []
    if not children:
        return {}
    first, labels = children[0].names[0]
    # Labels are in order, so in series of the same labels the edge stands at the same place.
    place = next((at for at, (name, _) in enumerate(labels) if name == "le"), 0)
    rows: dict[tuple[tuple[str, str], ...], list[Child]] = {}
    try:
        for child in children:
            names = [name for name, _ in child.names]
            size = names.count(first)
            # Those with other samples among the buckets have their values at other places.
            if names[:size].count(first) < size:
                return buckets(family)
            edges = tuple([labels[place] for _, labels in child.names[:size]])
            rows.setdefault(edges, []).append(child)
    except IndexError:
        return buckets(family)
    found: dict[float, float] = {}
    for bounds, alike in rows.items():
        if any(name != "le" for name, _ in bounds):
            return buckets(family)
        columns = zip(*(child.values for child in alike), strict=True)
        for (_, bound), column in zip(bounds, columns, strict=False):
            found[float(bound)] = found.get(float(bound), 0.0) + sum(column)
    return found


def quantile(share: float, edges: dict[float, float]) -> float | None:
    """Estimate a quantile from cumulative buckets, as PromQL's ``histogram_quantile`` does.

    Args:
        share: 0 to 1.
        edges: cumulative counts by upper edge, the infinite one included.

    Returns:
        The quantile; the highest finite edge where it lies beyond; None without observations.
    """
    ordered = sorted(edges.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    rank = share * ordered[-1][1]
    below_edge = below_count = 0.0
    for edge, count in ordered:
        if count >= rank:
            if edge == float("inf"):
                return below_edge
            return below_edge + (edge - below_edge) * (rank - below_count) / ((count - below_count) or 1.0)
        below_edge, below_count = edge, count
    return below_edge
