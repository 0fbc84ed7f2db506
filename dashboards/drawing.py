"""Dashboards as pages of HTML, from what Prometheus answers: for where there is no Grafana to show them.

A page has what Grafana would show of the same JSON: the same panels at the same places, with titles, units, legends,
colours, marks of starts and reloads, and the words for where there is nothing.
"""

import html
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from dashboards.units import ticks, written

_COLOURS = (
    "#2f6fb0", "#d9772b", "#3d8b4f", "#b8383d", "#7d5ba6", "#2a9aa6", "#c45b94", "#8a6d3b", "#9a9a2e", "#66717c",
)  # fmt: skip
_MEANINGS = {"green": "#2f7d32", "yellow": "#a97900", "red": "#c22d3a", "blue": "#2f6fb0", "purple": "#7d5ba6"}
# Pixels: of the page, of one of Grafana's columns and rows, and around and between panels.
WIDTH = 1080
_GAP = 8
_COLUMN = (WIDTH - 32 + _GAP) / 24
_ROW = 31
_LETTER = 5.7
_STYLE = f"""
*{{box-sizing:border-box}}
body{{margin:0;width:{WIDTH}px;padding:14px 16px 16px;background:#f2f4f6;color:#1f2933;
font:12px/1.35 "DejaVu Sans",system-ui,sans-serif}}
h1{{font-size:19px;margin:0}}header p{{margin:2px 0 10px;color:#4d5965}}
main{{position:relative}}main>*{{position:absolute;overflow:hidden}}
h2{{font-size:13.5px;margin:0;padding-top:7px}}
section{{background:#fff;border:1px solid #dde2e7;border-radius:3px;padding:5px 8px}}
h3{{font-size:11.5px;margin:0;height:18px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}}
svg{{display:block;font:10px "DejaVu Sans",system-ui,sans-serif;fill:#55616c}}
ul{{list-style:none;margin:3px 0 0;padding:0;display:flex;flex-wrap:wrap;gap:0 9px;font-size:10px;line-height:14px}}
polygon,rect{{shape-rendering:crispEdges}}
li{{white-space:nowrap}}i{{display:inline-block;width:10px;height:3px;margin-right:4px;vertical-align:3px}}
.nothing{{display:flex;align-items:center;justify-content:center;height:calc(100% - 18px);color:#66717c;
text-align:center}}
.number{{position:absolute;inset:26px 4px 0;text-align:center;font-weight:600}}
.course{{position:absolute;left:0;bottom:0}}
.bar{{display:grid;grid-template-columns:38% 1fr 72px;gap:8px;align-items:center;font-size:10.5px}}
.bar b{{text-align:right;font-weight:600}}.bar u{{display:block;background:#e9edf0;height:60%}}
.bar u span{{display:block;height:100%}}
.bar em{{font-style:normal;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}}
table{{border-collapse:collapse;width:100%;font-size:10.5px}}
td{{padding:3px 6px 3px 0;border-bottom:1px solid #e3e8ec}}
"""


class Source(Protocol):
    """A Prometheus: its answers, as its HTTP API has them (`metric`, and `values` or `value`).

    Attributes:
        begin: of what is shown, in seconds since 1970.
        end: of what is shown.
        step: between two points, in seconds.
    """

    begin: float
    end: float
    step: float

    def over_time(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression over the whole time."""

    def at_the_end(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression as they are at the end."""


class Series(NamedTuple):
    """A line, or a bar: what it is called, and its numbers by time."""

    name: str
    points: dict[float, float]

    @property
    def last(self) -> float:
        """The number at the end."""
        return self.points[max(self.points)]


def draw(board: dict[str, Any], source: Source) -> str:
    """Return a dashboard as a page.

    Args:
        board: as JSON has it.
        source: is asked what its panels ask.
    """
    marks = [mark for annotation in board["annotations"]["list"] for mark in _marks(annotation, source)]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    chosen = ", ".join(
        f"{variable['label']} {variable['current']['text']}"
        for variable in board["templating"]["list"]
        if "current" in variable
    )
    time = f"{_clock(source.begin, seconds=True)} to {_clock(source.end, seconds=True)} UTC"
    panels = "".join(_place(panel, _panel(panel, source, marks)) for panel in board["panels"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(board["title"])}</title>'
        f"<style>{_STYLE}</style><header><h1>{html.escape(board['title'])}</h1>"
        f"<p>{html.escape(board['description'])} {html.escape(chosen)}; {time}.</p></header>"
        f'<main style="height:{bottom * _ROW}px">{panels}</main></html>'
    )


def _clock(time: float, *, seconds: bool = False) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S" if seconds else "%H:%M")


def _size(panel: dict[str, Any]) -> tuple[int, int]:
    """Return width and height of a panel in pixels."""
    return int(panel["gridPos"]["w"] * _COLUMN - _GAP), panel["gridPos"]["h"] * _ROW - _GAP


def _place(panel: dict[str, Any], content: str) -> str:
    at = panel["gridPos"]
    width, height = _size(panel)
    box = f'style="left:{at["x"] * _COLUMN:.0f}px;top:{at["y"] * _ROW}px;width:{width}px;height:{height}px"'
    if panel["type"] == "row":
        return f"<h2 {box}>{html.escape(panel['title'])}</h2>"
    return f"<section {box}><h3>{html.escape(panel['title'])}</h3>{content}</section>"


def _panel(panel: dict[str, Any], source: Source, marks: Sequence[tuple[float, str]]) -> str:
    """Return what is in a panel, below its title."""
    if panel["type"] == "row":
        return ""
    draws = {"timeseries": _graph, "stat": _number, "bargauge": _bars, "table": _table}[panel["type"]]
    found = [
        one
        for target in panel["targets"]
        for answer in (source.at_the_end if target.get("instant") else source.over_time)(target["expr"])
        if (one := _series(answer, target)).points
    ]
    if not found:
        return f'<div class="nothing">{html.escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'
    return draws(panel, found, source, marks)


def _series(answer: dict[str, Any], target: dict[str, Any]) -> Series:
    labels = {name: value for name, value in answer["metric"].items() if name != "__name__"}
    if legend := target.get("legendFormat"):
        name = re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend).strip()
    else:
        name = "\n".join(f"{label}={value}" for label, value in sorted(labels.items()))
    points = answer["values"] if "values" in answer else [answer["value"]]
    return Series(name, {time: number for time, text in points if not math.isnan(number := float(text))})


def _marks(annotation: dict[str, Any], source: Source) -> Iterator[tuple[float, str]]:
    """Yield when something began that an annotation marks, and its colour."""
    for answer in source.over_time(annotation["expr"]):
        before = -math.inf
        for time, _ in answer["values"]:
            if time - before > 1.5 * source.step:
                yield time, _MEANINGS[annotation["iconColor"]]
            before = time


def _meaning(panel: dict[str, Any], value: float) -> str:
    """Return the colour that a number has by the thresholds."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or step["value"] <= value]
    return _MEANINGS[reached[-1]]


def _graph(panel: dict[str, Any], found: Sequence[Series], source: Source, marks: Sequence[tuple[float, str]]) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    # What is 0 all the time has a name in Grafana's legend; on paper nobody can scroll to what is not.
    found = [one for one in found if any(one.points.values())] or found
    legend, lines = _legend(found, _size(panel)[0] - 18)
    width, height = _size(panel)[0] - 18, _size(panel)[1] - 34 - 14 * lines
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    layers = list(_stack(found)) if stacked else [(one.points, dict.fromkeys(one.points, 0.0)) for one in found]
    top = defaults.get("max") or max(max(upper.values()) for upper, _ in layers) * 1.08 or 1.0
    beside = ticks(top, defaults["unit"])
    left = 8 + _LETTER * 1.1 * max(len(text) for _, text in beside)
    span = source.end - source.begin

    def x(time: float) -> float:
        return left + (time - source.begin) / span * (width - left - 4)

    def y(value: float) -> float:
        return height - 17 - min(value / top, 1.0) * (height - 25)

    parts = [
        f'<line x1="{left:.1f}" x2="{width}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="#e6eaee"/>'
        f'<text x="{left - 5:.1f}" y="{y(at) + 3.5:.1f}" text-anchor="end">{html.escape(text)}</text>'
        for at, text in beside
    ]
    parts += [
        f'<text x="{x(minute):.1f}" y="{height - 3}" text-anchor="middle">{_clock(minute)}</text>'
        for minute in range(math.ceil(source.begin / 60) * 60, int(source.end), 60)
        if left + 8 < x(minute) < width - 16
    ]
    for number, (upper, lower) in enumerate(layers):
        colour = _COLOURS[number % len(_COLOURS)]
        if custom["drawStyle"] == "bars":
            broad = max((width - left) / span * source.step * 0.7, 1)
            parts += [
                f'<rect x="{x(time) - broad / 2:.1f}" y="{y(value):.1f}" width="{broad:.1f}" '
                f'height="{y(lower[time]) - y(value):.1f}" fill="{colour}" fill-opacity=".8"/>'
                for time, value in upper.items()
                if value > lower[time]
            ]
            continue
        for run in _runs(list(upper), custom["spanNulls"] / 1000):
            over = " ".join(f"{x(time):.1f},{y(upper[time]):.1f}" for time in run)
            under = " ".join(f"{x(time):.1f},{y(lower[time]):.1f}" for time in reversed(run))
            opacity = custom["fillOpacity"] / 100
            parts.append(f'<polygon points="{over} {under}" fill="{colour}" fill-opacity="{opacity}"/>')
            if len(run) == 1:
                parts.append(f'<circle cx="{x(run[0]):.1f}" cy="{y(upper[run[0]]):.1f}" r="1.7" fill="{colour}"/>')
            else:
                parts.append(f'<polyline points="{over}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        parts += [
            f'<line x1="{left:.1f}" x2="{width}" y1="{y(step["value"]):.1f}" y2="{y(step["value"]):.1f}" '
            f'stroke="{_MEANINGS[step["color"]]}" stroke-dasharray="6 4"/>'
            for step in defaults["thresholds"]["steps"]
            if step["value"] is not None and step["value"] <= top
        ]
    parts += [
        f'<line x1="{x(time):.1f}" x2="{x(time):.1f}" y1="4" y2="{height - 17}" stroke="{colour}" '
        'stroke-dasharray="3 3" stroke-opacity=".8"/>'
        for time, colour in marks
    ]
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>{legend}'


def _stack(found: Sequence[Series]) -> Iterator[tuple[dict[float, float], dict[float, float]]]:
    """Yield the upper and the lower edge of each series, when they are put on top of each other."""
    lower = dict.fromkeys(sorted({time for one in found for time in one.points}), 0.0)
    for one in found:
        upper = {time: below + one.points.get(time, 0.0) for time, below in lower.items()}
        yield upper, lower
        lower = upper


def _runs(times: Sequence[float], gap: float) -> Iterator[list[float]]:
    """Yield the times between which a line is drawn: those that are not further apart than a gap, in seconds."""
    run: list[float] = []
    for time in times:
        if run and time - run[-1] > gap:
            yield run
            run = []
        run.append(time)
    yield run


def _legend(found: Sequence[Series], width: int) -> tuple[str, int]:
    """Return the legend, and how many lines it has; if three are too few, the largest are named and others counted."""
    coloured = [(one, _COLOURS[number % len(_COLOURS)]) for number, one in enumerate(found)]
    for order in (coloured, sorted(coloured, key=lambda pair: -sum(pair[0].points.values()))):
        lines, used = 1, 0.0
        shown: list[str] = []
        for one, colour in order:
            wide = len(one.name) * _LETTER * 1.06 + 24
            if used and used + wide > width - (65 if lines == 3 and len(shown) < len(found) - 1 else 0):
                if lines == 3:
                    break
                lines, used = lines + 1, 0.0
            used += wide
            shown.append(f'<li><i style="background:{colour}"></i>{html.escape(one.name)}</li>')
        if len(shown) == len(found):
            break
    else:
        shown.append(f"<li>and {len(found) - len(shown)} more</li>")
    return f"<ul>{''.join(shown)}</ul>", lines


def _number(panel: dict[str, Any], found: Sequence[Series], source: Source, _: object) -> str:
    one = found[0]
    defaults = panel["fieldConfig"]["defaults"]
    text = written(one.last, defaults["unit"], source.end)
    width, height = _size(panel)
    colour = _meaning(panel, one.last)
    size = min(32, (width - 16) / (0.75 * len(text)))
    least, most = min(one.points.values()), max(one.points.values())
    edge = " ".join(
        f"{(time - source.begin) / (source.end - source.begin) * width:.1f},"
        f"{28 - (value - least) / (most - least or 1.0) * 24:.1f}"
        for time, value in one.points.items()
    )
    right = (max(one.points) - source.begin) / (source.end - source.begin) * width
    left = (min(one.points) - source.begin) / (source.end - source.begin) * width
    return (
        f'<svg class="course" width="{width}" height="30"><polygon points="{left:.1f},30 {edge} {right:.1f},30" '
        f'fill="{colour}" fill-opacity=".13"/><polyline points="{edge}" fill="none" stroke="{colour}" '
        f'stroke-opacity=".5"/></svg>'
        f'<div class="number" style="color:{colour};font-size:{size:.0f}px;line-height:{height - 50}px">'
        f"{html.escape(text)}</div>"
    )


def _bars(panel: dict[str, Any], found: Sequence[Series], source: Source, _: object) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    most = defaults.get("max") or max(one.last for one in found) or 1.0
    room = _size(panel)[1] - 30
    shown = found[: room // 14]
    height = min(34, room // len(shown))
    rows = "".join(
        f'<div class="bar" style="height:{height}px"><em>{html.escape(one.name)}</em>'
        f'<u style="height:{height * 0.6:.0f}px"><span style="width:{max(one.last, 0.0) / most:.1%};'
        f'background:{_meaning(panel, one.last)}"></span></u>'
        f"<b>{html.escape(written(one.last, defaults['unit'], source.end))}</b></div>"
        for one in shown
    )
    return rows + (f"<p>and {len(found) - len(shown)} more</p>" if len(shown) < len(found) else "")


def _table(panel: dict[str, Any], found: Sequence[Series], __: Source, ___: object) -> str:
    rows = [dict(part.split("=", 1) for part in one.name.splitlines()) for one in found]
    heads = sorted({label for row in rows for label in row})
    lines = [heads, *([row.get(head, "") for head in heads] for row in rows)]
    if len(heads) * 80 > _size(panel)[0]:
        # Too narrow: each label is a row.
        lines = [list(column) for column in zip(*lines, strict=True)]
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f"<table>{cells}</table>"
