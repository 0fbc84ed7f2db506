"""From families to bytes: the Prometheus text format and OpenMetrics 1.0.

Sources: "Exposition formats" of the Prometheus documentation (text format 0.0.4) and the OpenMetrics 1.0
specification.
"""

import math
import re
from collections.abc import Iterable

from authly.monitoring.multiprocess.aggregation import Family, Labels

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def render(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """Return the exposition of families that have different names.

    Args:
        families: what to show, in this order.
        openmetrics: OpenMetrics 1.0 rather than the text format 0.0.4.
    """
    lines: list[str] = []
    for family in families:
        name = metric_name(family.name)
        # The text format names a counter as its samples are named; OpenMetrics without the suffix.
        shown = f"{name}_total" if family.type == "counter" and not openmetrics else name
        escape = _escape if openmetrics else _escape_help
        lines.append(f"# HELP {shown} {escape(family.help)}\n# TYPE {shown} {family.type}\n")
        lines.extend(
            f"{metric_name(sample.name)}{_labels(sample.labels)} {number(sample.value)}\n" for sample in family.samples
        )
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode("utf-8", "replace")


def number(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    if math.isfinite(value):
        return repr(value)
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def metric_name(name: str) -> str:
    """Return a name with everything that the formats do not allow in one replaced by underscores."""
    return name if _NAME.fullmatch(name) else _underscored(name, ":")


def _label_name(name: str) -> str:
    return name if _LABEL_NAME.fullmatch(name) else _underscored(name, "")


def _underscored(name: str, also: str) -> str:
    replaced = re.sub(rf"[^a-zA-Z0-9_{also}]", "_", name)
    return "_" + replaced[1:] if replaced[:1].isdigit() else replaced


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{_label_name(name)}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    # In the text format a quotation mark needs no escape in a help text, and gets none.
    return text.replace("\\", r"\\").replace("\n", r"\n")
