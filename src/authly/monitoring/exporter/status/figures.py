"""Write numbers so that people read them at a glance."""

import math
import time

UNKNOWN = "not known"
_UNITS = ("B", "KB", "MB", "GB", "TB")


def count(value: float | None) -> str:
    """Return a whole number, its thousands set apart."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Return a number of things a second, without the unit."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def size(value: float | None) -> str:
    """Return a number of bytes, in units of a thousand."""
    if value is None or math.isnan(value):
        return UNKNOWN
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.0f} {_UNITS[unit]}" if value >= 100 or unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def share(value: float | None) -> str:
    """Return a ratio in per cent."""
    if value is None or math.isnan(value):
        return UNKNOWN
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def latency(value: float | None) -> str:
    """Return how long something took that takes no longer than seconds."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if value < 0.9995:
        milliseconds = 1000 * value
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"
    return f"{value:.1f} s"


def duration(seconds: float | None) -> str:
    """Return a time in its two greatest units."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    whole = int(seconds)
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit} {rest} {smaller}" if rest else f"{whole // length} {unit}"
    return f"{whole} s"


def moment(at: float) -> str:
    """Return a moment in seconds since the epoch as day and time, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def machine_moment(at: float) -> str:
    """Return a moment in seconds since the epoch as programs read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
