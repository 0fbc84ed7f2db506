"""PromQL in short: what panels ask, of the instances that were chosen."""


def select(metric: str, where: str = "") -> str:
    """Return a selector of the chosen instances.

    Args:
        metric: its name.
        where: further matchers.
    """
    return f'{metric}{{instance=~"$instance"{", " if where else ""}{where}}}'


def level(metric: str, by: str = "", where: str = "", how: str = "sum") -> str:
    """Return a gauge, added up.

    Args:
        metric: its name.
        by: the labels that are kept.
        where: further matchers.
        how: what adds up, such as max.
    """
    return f"{how}{f' by ({by})' if by else ''} ({select(metric, where)})"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Return how much a counter grows in a second.

    Args:
        metric: its name, with ``_total``.
        by: the labels that are kept.
        where: further matchers.
    """
    return f"sum{f' by ({by})' if by else ''} (rate({select(metric, where)}[$__rate_interval]))"


def grown(metric: str, by: str = "", where: str = "") -> str:
    """Return by how much a counter grew since the last point of the graph, where it did.

    Args:
        metric: its name, with ``_total``.
        by: the labels that are kept.
        where: further matchers.
    """
    return f"sum{f' by ({by})' if by else ''} (increase({select(metric, where)}[$__rate_interval]))"


def quantile(histogram: str, by: str = "", where: str = "") -> str:
    """Return the percentile that was chosen.

    Args:
        histogram: its name, without ``_bucket``.
        by: the labels that are kept.
        where: further matchers.
    """
    return f"histogram_quantile($percentile, {rate(f'{histogram}_bucket', f'{by}, le' if by else 'le', where)})"


def share(part: str, whole: str) -> str:
    """Return a ratio that is absent, not an error, where there is nothing to divide by.

    Args:
        part: of it.
        whole: all of it.
    """
    return f"{part} / ({whole} > 0)"
