"""Choose what to answer, and how long that may take, from the request's headers.

Of Accept and Accept-Encoding see RFC 9110, section 12.5.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple


class Format(NamedTuple):
    """An exposition format."""

    name: str
    """``text`` or ``openmetrics``."""
    version: str
    content_type: str


# The metric and label names served here are plain [a-zA-Z0-9_:], so that every escaping scheme a client may ask for
# leaves them as they are, and "underscores" is a true statement about all of them.
TEXT_0_0_4 = Format("text", "0.0.4", "text/plain; version=0.0.4; charset=utf-8")
TEXT_1_0_0 = Format("text", "1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores")
OPENMETRICS_0_0_1 = Format("openmetrics", "0.0.1", "application/openmetrics-text; version=0.0.1; charset=utf-8")
OPENMETRICS_1_0_0 = Format(
    "openmetrics", "1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
)

FORMATS = (TEXT_0_0_4, OPENMETRICS_1_0_0, TEXT_1_0_0, OPENMETRICS_0_0_1)
"""Every format, the one to prefer where the client does not care first."""

TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"
"""What Prometheus says of its patience; in lower case."""

DEFAULT_PATIENCE = 5.0
MAX_PATIENCE = 60.0

_MEDIA_TYPES = {"text": ("text", "plain"), "openmetrics": ("application", "openmetrics-text")}

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[,;]|[^",;]+', re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class _Range(NamedTuple):
    """One acceptable value of a header: ``text/plain;version=0.0.4;q=0.5``."""

    value: str
    parameters: dict[str, str]
    quality: float


class _Match(NamedTuple):
    """How well a format suits one range; comparable, the better one is greater."""

    specificity: tuple[int, int]
    order: int
    quality: float


def choose_format(accept: str | None) -> Format:
    """Choose the format the client likes best.

    Of equally liked ones that which was asked for most precisely wins, then that which was named first, then the
    order of ``FORMATS``. Where nothing fits, text 0.0.4 is answered rather than 406, as Prometheus' own libraries do.
    """
    ranges = list(_ranges(accept or ""))
    best, best_rank = TEXT_0_0_4, None
    for candidate in FORMATS:
        # The most specific range decides about a format, even if a vaguer one is kinder to it.
        match = max(_matches(candidate, ranges), default=None)
        if match is None or match.quality == 0:
            continue
        rank = (match.quality, match.specificity, match.order)
        if best_rank is None or rank > best_rank:
            best, best_rank = candidate, rank
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tell whether the client takes gzip, and likes it no less than the bare body."""
    qualities = {coding.value: coding.quality for coding in _ranges(accept_encoding or "") if not coding.parameters}
    gzip = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def patience(timeout: str | None) -> float:
    """Return for how many seconds a scrape may wait before it must be written.

    Args:
        timeout: the header :data:`TIMEOUT_HEADER`; without a usable one, :data:`DEFAULT_PATIENCE` counts.
    """
    try:
        seconds = float(timeout or "")
    except ValueError:
        return DEFAULT_PATIENCE
    if not (math.isfinite(seconds) and seconds > 0):
        return DEFAULT_PATIENCE
    # The files are read, the answer written and sent after the wait. That takes some milliseconds, and more at the
    # first scrape of a large instance.
    margin = min(max(0.5, seconds / 10), seconds / 2)
    return min(seconds - margin, MAX_PATIENCE)


def _matches(candidate: Format, ranges: list[_Range]) -> Iterator[_Match]:
    wanted_type, wanted_subtype = _MEDIA_TYPES[candidate.name]
    for position, media_range in enumerate(ranges):
        main, _, subtype = media_range.value.partition("/")
        if (main, subtype) == ("*", "*"):
            precision = 0
        elif (main, subtype) == (wanted_type, "*"):
            precision = 1
        elif (main, subtype) == (wanted_type, wanted_subtype):
            precision = 2
        else:
            continue
        if all(_has(candidate, name, value) for name, value in media_range.parameters.items()):
            yield _Match((precision, len(media_range.parameters)), -position, media_range.quality)


def _has(candidate: Format, name: str, value: str) -> bool:
    match name:
        case "version":
            return value == candidate.version
        case "charset":
            return value == "utf-8"
        case "escaping":
            return True
    return False


def _ranges(header: str) -> Iterator[_Range]:
    """Yield the well-formed elements of a header; the others are as good as absent."""
    for element in _split(header, ","):
        value, *parameters = (part.strip(" \t").lower() for part in _split(element, ";"))
        if not all(_TOKEN.fullmatch(part) for part in value.split("/")):
            continue
        parsed = _parameters(parameters)
        if parsed is not None:
            yield _Range(value, *parsed)


def _parameters(parts: list[str]) -> tuple[dict[str, str], float] | None:
    """Return the parameters before ``q`` and the quality; what follows ``q`` says nothing about the media type."""
    parameters: dict[str, str] = {}
    for part in filter(None, parts):
        name, _, value = part.partition("=")
        if quoted := _QUOTED.fullmatch(value):
            value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
        elif not _TOKEN.fullmatch(value):
            return None
        if not _TOKEN.fullmatch(name):
            return None
        if name == "q":
            return (parameters, float(value)) if _QVALUE.fullmatch(value) else None
        parameters[name] = value
    return parameters, 1.0


def _split(text: str, separator: str) -> list[str]:
    """Split at the separators outside quoted strings."""
    parts: list[list[str]] = [[]]
    for piece in _PIECE.findall(text):
        if piece == separator:
            parts.append([])
        else:
            parts[-1].append(piece)
    return ["".join(part) for part in parts]
