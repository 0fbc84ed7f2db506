"""Numbers as people read them: Grafana's units, in short."""

import math

_SECONDS = ((1e-6, " µs"), (1e-3, " ms"), (1, " s"), (60, " min"), (3600, " h"), (86400, " d"))
_BYTES = ((1, " B"), (2**10, " KiB"), (2**20, " MiB"), (2**30, " GiB"), (2**40, " TiB"))
_MANY: tuple[tuple[float, str], ...] = ((1, ""), (1e3, "K"), (1e6, "M"), (1e9, "G"))
_SCALES: dict[str, tuple[tuple[float, str], ...]] = {"s": _SECONDS, "bytes": _BYTES}
_NAMES = {"reqps": " req/s", "ops": " ops/s"}


def scale(size: float, unit: str) -> tuple[float, str]:
    """Return by what numbers of a size are divided, and what follows them.

    Args:
        size: of the number, or of the largest of an axis.
        unit: as Grafana calls it.

    Raises:
        KeyError: nobody has said how to write this unit.
    """
    if unit == "percentunit":
        return 0.01, "%"
    steps = _SCALES.get(unit, _MANY)
    fitting = [step for step in steps if step[0] <= abs(size)]
    # Nothing is no millionth of anything.
    factor, name = fitting[-1] if fitting else steps[0] if size else next(step for step in steps if step[0] == 1)
    return factor, name if unit in {*_SCALES, "short"} else name + _NAMES[unit]


def written(value: float, unit: str, now: float = 0.0) -> str:
    """Return a number with its unit.

    Args:
        value: the number.
        unit: as Grafana calls it.
        now: the time, for what is a time (seconds since 1970).

    Raises:
        KeyError: nobody has said how to write this unit.
    """
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "dateTimeFromNow":
        return f"{written(now - value / 1000, 's')} ago"
    factor, name = scale(value, unit)
    return f"{_digits(value / factor)}{name}"


def ticks(top: float, unit: str) -> list[tuple[float, str]]:
    """Return where an axis from 0 has lines, and what stands beside each.

    Args:
        top: the end of the axis.
        unit: as Grafana calls it.

    Raises:
        KeyError: nobody has said how to write this unit.
    """
    factor, name = scale(top, unit)
    step = 10.0 ** math.floor(math.log10(top / factor))
    # Between two and five steps.
    step *= next(times for times in (5, 2, 1, 0.5, 0.2) if top / factor / (step * times) >= 2)
    lines = [step * line for line in range(int(top / factor / step + 1e-9) + 1)]
    return [(line * factor, f"{line:.6g}{name}" if line else "0") for line in lines]


def _digits(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.4g}" if abs(number) >= 10 else f"{number:.3g}"
