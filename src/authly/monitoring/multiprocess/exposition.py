"""From families to bytes: the Prometheus text formats and OpenMetrics 1.0.

Sources: "Exposition formats" of the Prometheus documentation (text 0.0.4 and 1.0.0) and the OpenMetrics 1.0
specification. Everything but the numbers is made once: a family that did not change is text that is there already.
"""

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from authly.monitoring.multiprocess.families import Child, Family, Labels
from authly.monitoring.multiprocess.text import Text, plain

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Base units of the Prometheus documentation and of OpenMetrics, by which a name may end.
_UNITS = ("amperes", "bytes", "celsius", "grams", "joules", "meters", "ratio", "seconds", "volts")
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("_count", "_sum", "_created"),
}


class _Style(NamedTuple):
    """How text is made, and where it is kept."""

    key: str
    openmetrics: bool
    constant: Labels


@lru_cache(maxsize=16)
def _style(openmetrics: bool, constant: Labels) -> _Style:
    return _Style(f"{'openmetrics' if openmetrics else 'text'}{_labels(constant)}", openmetrics, constant)


_END = Text(b"# EOF\n")


def render(families: Iterable[Family], *, openmetrics: bool, constant: Labels = ()) -> bytes:
    """Return the exposition of families that have different names; see :func:`write`."""
    return plain(write(families, openmetrics=openmetrics, constant=constant))


def write(families: Iterable[Family], *, openmetrics: bool, constant: Labels = ()) -> list[Text]:
    """Return the exposition of families that have different names, in pieces.

    Args:
        families: what to show, in this order.
        openmetrics: OpenMetrics 1.0 rather than the text format.
        constant: labels of every sample that has none of that name.
    """
    style = _style(openmetrics, constant)
    key = style.key
    texts = []
    for family in families:
        text = family.texts.get(key)
        if text is None:
            text = family.texts[key] = Text(_family(family, style).encode("utf-8", "replace"))
        texts.append(text)
    if openmetrics:
        texts.append(_END)
    return texts


def distinct(families: Iterable[Family]) -> list[Family]:
    """Return those families that share no name with an earlier one, in the order of their names.

    A family takes its own name and those of its samples: the counter ``x`` has the sample ``x_total``, and leaves no
    room for a gauge of that name.

    Args:
        families: those that come first win.
    """
    taken: set[str] = set()
    kept = []
    for family in families:
        names = _names(family.name, family.type)
        if taken.isdisjoint(names):
            taken.update(names)
            kept.append(family)
    return sorted(kept, key=attrgetter("name"))


@lru_cache(maxsize=1024)
def _names(name: str, type_: str) -> tuple[str, ...]:
    """Return the names that a family takes."""
    shown = metric_name(name)
    return (shown, *(shown + suffix for suffix in _SUFFIXES.get(type_, ())))


def _family(family: Family, style: _Style) -> str:
    parts = [_head(family.name, family.type, family.help, style.openmetrics)]
    key = style.key
    for child in family.children:
        if not child.hidden:
            text = child.texts.get(key)
            if text is None:
                text = child.texts[key] = _child(family, child, style)
            parts.append(text)
    return "".join(parts)


# Collectors make their families anew at each scrape.
@lru_cache(maxsize=256)
def _head(name: str, type_: str, help_: str, openmetrics: bool) -> str:
    name = metric_name(name)
    if openmetrics:
        unit = name.rpartition("_")[2]
        unit_line = f"# UNIT {name} {unit}\n" if unit in _UNITS and unit != name else ""
        return f"# HELP {name} {_escape(help_)}\n# TYPE {name} {type_}\n{unit_line}"
    # The text format names a counter as its samples are named; OpenMetrics without the suffix.
    shown = f"{name}_total" if type_ == "counter" else name
    # Here a quotation mark needs no escape in a help text, and gets none.
    help_ = help_.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {shown} {help_}\n# TYPE {shown} {type_}\n"


def _child(family: Family, child: Child, style: _Style) -> str:
    template = child.templates.get(style.key)
    if template is None:
        template = child.templates[style.key] = _template(family, child, style)
    # Finite numbers, of which their sum tells, need no look at each of them.
    written = repr if math.isfinite(sum(child.values)) else number
    text = template % tuple(map(written, child.values))
    return _with_exemplars(child, text) if style.openmetrics and child.exemplars else text


def _template(family: Family, child: Child, style: _Style) -> str:
    """Return all of a child but its numbers."""
    constant = style.constant
    lines = [
        f"{metric_name(name)}{_labels(constant + labels)}".replace("%", "%%") + " %s\n" for name, labels in child.names
    ]
    if style.openmetrics and child.below_zero:
        # OpenMetrics: a sum that may fall is no sum. Its number goes where it takes no room.
        names = [name for name, _ in child.names]
        lines = ["%.0s" if name.endswith("_sum") else line for line, name in zip(lines, names, strict=True)]
    if style.openmetrics and child.created and family.type in _SUFFIXES:
        labels = _labels(constant + child.labels)
        created = f"{metric_name(family.name)}_created{labels} {number(child.created)}\n"
        lines.append(created.replace("%", "%%"))
    return "".join(lines)


def _with_exemplars(child: Child, text: str) -> str:
    # Not splitlines(): a label's value may hold what else ends a line for it.
    lines = text.split("\n")
    for index, (labels, value, timestamp) in child.exemplars.items():
        lines[index] += f" # {_labels(labels)} {number(value)} {number(timestamp)}"
    return "\n".join(lines)


def number(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    text = repr(value)
    if text[-1] in "fn":
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    return text


# Both for the few names that there are, each in many samples and at every scrape.
@lru_cache(maxsize=1024)
def metric_name(name: str) -> str:
    """Return a name with everything that the formats do not allow in one replaced by underscores."""
    return name if _NAME.fullmatch(name) else _underscored(name, ":")


@lru_cache(maxsize=1024)
def _label_name(name: str) -> str:
    return name if _LABEL_NAME.fullmatch(name) else _underscored(name, "")


def _underscored(name: str, also: str) -> str:
    replaced = re.sub(rf"[^a-zA-Z0-9_{also}]", "_", name)
    return "_" + replaced[1:] if replaced[:1].isdigit() else replaced or "_"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    # Two names may become one, and a constant label may have the name of another: no sample has a name twice, and the
    # last one counts.
    escaped = {_label_name(name): _escape(value) for name, value in labels}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
