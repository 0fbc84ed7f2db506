"""Draw small plots as SVG, without a style of their own: colours and widths are the style sheet's."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from authly.monitoring.exporter.status.markup import Child, Markup, element

WIDTH = 240
HEIGHT = 56
_GAP = 90.0
_INSET = 3


class Line(NamedTuple):
    """A line of a plot.

    Args:
        style: its class in the style sheet; lines differ by their dashes too, not by colour alone.
        points: moments and values, in order.
    """

    style: str
    points: Sequence[tuple[float, float]]


def plot(description: str, lines: Sequence[Line], begin: float, end: float) -> Markup:
    """Return a plot.

    Args:
        description: what it shows, in words, for those who do not see it.
        lines: drawn in this order.
        begin: the moment at the left.
        end: the moment at the right.
    """
    shown = [line._replace(points=[point for point in line.points if point[0] >= begin]) for line in lines]
    top = max((value for line in shown for _, value in line.points), default=0.0) or 1.0

    def place(at: float, value: float) -> str:
        x = WIDTH * (at - begin) / (end - begin)
        y = HEIGHT - _INSET - (HEIGHT - 2 * _INSET) * value / top
        return f"{x:.1f} {y:.1f}"

    paths: list[Child] = [
        element("path", class_=f"line {line.style}", d=_path(line.points, place), vector_effect="non-scaling-stroke")
        for line in shown
        if line.points
    ]
    return element(
        "svg",
        element("path", class_="ground", d=f"M0 {HEIGHT - _INSET}H{WIDTH}", vector_effect="non-scaling-stroke"),
        paths,
        role="img",
        aria_label=description,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
    )


def _path(points: Sequence[tuple[float, float]], place: Callable[[float, float], str]) -> str:
    """Return the path of a line, which is interrupted where nobody looked for long."""
    parts = []
    last = float("-inf")
    for at, value in points:
        if at - last > _GAP:
            # With no line to it, one point is a dot, for which the style sheet has round ends.
            parts.append(f"M{place(at, value)}h0")
        else:
            parts.append(f"L{place(at, value)}")
        last = at
    return "".join(parts)
