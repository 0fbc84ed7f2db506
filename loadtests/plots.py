"""Plots as inline SVG: lines, cumulative distributions, and differences with their intervals."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from loadtests.judgement import Measure, Verdict

COLOURS = ("#2f6690", "#b0413e", "#5a8f3c", "#8a6bb1", "#c98a1b")
_WIDTH, _HEIGHT = 720, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 44


class Line(NamedTuple):
    """A line of a plot.

    Args:
        name: for the legend.
        points: x and y.
        dots: draw points, and no line between them.
    """

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def plot(title: str, x_name: str, y_name: str, lines: Sequence[Line], *, logarithmic: bool = False) -> str:
    """Return a plot.

    Args:
        title: above it.
        x_name: below it, with the unit.
        y_name: beside it, with the unit.
        lines: what it shows.
        logarithmic: the x axis; nothing at or below zero is shown then.
    """
    shown = [line._replace(points=[(x, y) for x, y in line.points if x > 0 or not logarithmic]) for line in lines]
    points = [point for line in shown for point in line.points]
    if not points:
        return _frame(title, x_name, y_name, '<text x="360" y="125" text-anchor="middle">nothing was measured</text>')

    def scaled(x: float) -> float:
        return math.log10(x) if logarithmic else x

    xs = [scaled(x) for x, _ in points]
    low, high = min(xs), max(xs)
    top = max(y for _, y in points) * 1.05 or 1.0
    span = high - low or 1.0

    def place(x: float, y: float) -> str:
        across = _LEFT + (scaled(x) - low) / span * (_WIDTH - _LEFT - _RIGHT)
        return f"{across:.1f},{_HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    parts = []
    for tick in _ticks(top):
        _, y = place(10**low if logarithmic else low, tick).split(",")
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{float(y) + 4}" text-anchor="end">{tick:g}</text>')
    for number in range(5):
        value = low + span * number / 4
        x = _LEFT + number / 4 * (_WIDTH - _LEFT - _RIGHT)
        text = f"{10**value if logarithmic else value:.3g}"
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{text}</text>')
    for number, line in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(x, y) for x, y in line.points]
        if line.dots:
            parts += [
                f'<circle cx="{at.split(",")[0]}" cy="{at.split(",")[1]}" r="2" fill="{colour}"/>' for at in places
            ]
        elif places:
            parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        x = _LEFT + number * 170
        parts.append(f'<rect x="{x}" y="9" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="18">{html.escape(line.name)}</text>')
    return _frame(title, x_name, y_name, "".join(parts))


def _frame(title: str, x_name: str, y_name: str, content: str) -> str:
    label = html.escape(f"{title}: {y_name} over {x_name}")
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{label}">{content}<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f'{html.escape(x_name)}</text><text transform="rotate(-90)" x="{-_HEIGHT / 2}" y="14" text-anchor="middle">'
        f"{html.escape(y_name)}</text></svg></figure>"
    )


def _ticks(top: float) -> list[float]:
    step = 10 ** math.floor(math.log10(top))
    for finer in (1.0, 0.5, 0.2):
        if top / (step * finer) >= 3:
            step *= finer
            break
    return [step * number for number in range(int(top / step) + 1)]


def cumulative(name: str, values: Sequence[float], points: int = 200) -> Line:
    """Return the share of values, in percent, that are not above each value."""
    ordered = sorted(values)
    if not ordered:
        return Line(name, [])
    last = len(ordered) - 1
    chosen = sorted({round(last * number / points) for number in range(points + 1)})
    return Line(name, [(ordered[at], 100 * (at + 1) / len(ordered)) for at in chosen])


def differences(measures: Sequence[Measure]) -> str:
    """Return each measure's pairs, its interval, its goal and its budget, each on an axis of its own."""
    shown = [measure for measure in measures if measure.differences]
    height = 30 + 48 * len(shown)
    parts = []
    for row, measure in enumerate(shown):
        y = 34 + 48 * row
        interval = measure.interval
        marks = [value for value in (measure.budget, measure.goal) if value is not None]
        finite = [value for value in (interval.low, interval.high) if math.isfinite(value)]
        values = [0.0, *measure.differences, *marks, *finite]
        low, high = min(values), max(values)
        pad = (high - low) * 0.05 or 1.0
        low, high = low - pad, high + pad

        def place(value: float, low: float = low, high: float = high) -> float:
            return 190 + (min(max(value, low), high) - low) / (high - low) * 510

        parts.append(f'<text x="180" y="{y + 4}" text-anchor="end">{html.escape(measure.name)}, {measure.unit}</text>')
        parts.append(f'<line x1="190" x2="700" y1="{y}" y2="{y}" class="grid"/>')
        for name, value in (("0", 0.0), ("goal", measure.goal), ("budget", measure.budget)):
            if value is not None:
                x = place(value)
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 12}" y2="{y + 12}" class="{name if value else "zero"}"/>'
                )
                if name != "goal":
                    text = name if name == "0" else f"budget {value:g}"
                    parts.append(f'<text x="{x:.1f}" y="{y + 24}" text-anchor="middle">{text}</text>')
        parts += [
            f'<circle cx="{place(value):.1f}" cy="{y - 5}" r="2.5" fill="#777"/>' for value in measure.differences
        ]
        colour = {Verdict.EXCEEDED: "#b0413e", Verdict.INCONCLUSIVE: "#c98a1b"}.get(measure.verdict, "#2f6690")
        parts.append(
            f'<line x1="{place(interval.low):.1f}" x2="{place(interval.high):.1f}" y1="{y + 4}" y2="{y + 4}" '
            f'stroke="{colour}" stroke-width="4"/>'
            f'<circle cx="{place(interval.mean):.1f}" cy="{y + 4}" r="5" fill="{colour}"/>'
        )
    return (
        "<figure><figcaption>Paired differences: metrics on minus metrics off</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Paired differences with their intervals">'
        f"{''.join(parts)}</svg></figure>"
    )
