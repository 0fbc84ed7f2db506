"""The table of ``authly metrics top``: lines of text from numbers, for a terminal of a given size."""

from collections.abc import Callable, Sequence
from typing import Final

from authly.monitoring.inspection.traffic import Endpoint, Traffic, Worker

SORTS: Final[dict[str, Callable[[Endpoint], float]]] = {
    "requests": lambda endpoint: endpoint.requests,
    "mean": lambda endpoint: endpoint.mean or 0.0,
    "p95": lambda endpoint: endpoint.p95 or 0.0,
    "errors": lambda endpoint: endpoint.failed,
}
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"
_NARROWEST = 40


def ranked(endpoints: Sequence[Endpoint], sort: str) -> list[Endpoint]:
    """Return endpoints in an order of :data:`SORTS`, the greatest first."""
    # Sorting is stable: of equals the busier comes first.
    return sorted(endpoints, key=SORTS[sort], reverse=True)


def table(
    traffic: Traffic,
    title: str,
    sort: str = "requests",
    width: int = 100,
    height: int | None = None,
    *,
    colour: bool = False,
) -> list[str]:
    """Return the lines of the table.

    Args:
        traffic: what it is about.
        title: of the first line.
        sort: the order of the endpoints, one of :data:`SORTS`.
        width: columns; what does not fit is cut off.
        height: lines; endpoints that do not fit are counted in one. None for all of them.
        colour: whether to mark headings and errors for a terminal.
    """
    width = max(width, _NARROWEST)
    lines = [_marked(title, _BOLD, colour=colour, width=width), _totals(traffic)[:width]]
    if traffic.states or traffic.exits:
        lines.append(_printable(_states(traffic))[:width])
    if traffic.backlog:
        waiting = ", ".join(f"{listener} {value:.0f}" for listener, value in sorted(traffic.backlog.items()))
        lines.append(_printable(f"backlog: {waiting}")[:width])
    below = ["", *_workers(traffic.workers, width, colour=colour)] if traffic.workers else []
    lines += ["", _marked(_heading(width), _BOLD, colour=colour, width=width)]
    shown = ranked(traffic.endpoints, sort)
    if height is not None:
        room = max(1, height - len(lines) - len(below))
        if len(shown) > room:
            more = len(shown) - room + 1
            shown, below = shown[: room - 1], [f"... {more} more", *below]
    for endpoint in shown:
        line = _endpoint(endpoint, width)
        lines.append(_marked(line, _RED, colour=colour and endpoint.failed > 0, width=width))
    if not traffic.endpoints:
        lines.append("no requests" if traffic.seconds is None else "no requests in this time")
    lines += below
    return lines if height is None else lines[:height]


def _totals(traffic: Traffic) -> str:
    rate = "" if traffic.per_second is None else f" ({traffic.per_second:.1f}/s)"
    period = "since the instance began to count" if traffic.seconds is None else f"in {traffic.seconds:.1f} s"
    return (
        f"{traffic.requests:.0f} requests{rate} {period}, {_percent(traffic.failed)} failed, "
        f"{traffic.in_progress:.0f} in progress"
    )


def _states(traffic: Traffic) -> str:
    states = ", ".join(f"{value:.0f} {state}" for state, value in traffic.states.items())
    ended = {reason: count for reason, count in sorted(traffic.exits.items()) if count}
    exits = ", ".join(f"{count:.0f} {reason}" for reason, count in ended.items())
    return f"workers: {states or 'unknown'}{'; ended: ' if exits else ''}{exits}"


def _heading(width: int) -> str:
    name = "ENDPOINT".ljust(_name_width(width))
    return f"{name} {'REQUESTS':>9} {'PER S':>7} {'5XX':>6} {'4XX':>6} {'MEAN':>8} {'P50':>8} {'P95':>8} {'P99':>8}"


def _endpoint(endpoint: Endpoint, width: int) -> str:
    room = _name_width(width)
    name = _printable(f"{endpoint.method} {endpoint.endpoint}")
    name = name if len(name) <= room else f"{name[: room - 1]}…"
    rate = "-" if endpoint.per_second is None else f"{endpoint.per_second:.1f}"
    times = " ".join(f"{_duration(value):>8}" for value in (endpoint.mean, endpoint.p50, endpoint.p95, endpoint.p99))
    return (
        f"{name:{room}} {endpoint.requests:>9.0f} {rate:>7} {_percent(endpoint.failed):>6} "
        f"{_percent(endpoint.refused):>6} {times}"
    )


def _name_width(width: int) -> int:
    # What the other columns take, with a space before each.
    return max(12, min(60, width - 68))


def _workers(workers: Sequence[Worker], width: int, *, colour: bool) -> list[str]:
    heading = f"{'WORKER':>6} {'IN PROGRESS':>11} {'MEMORY':>9} {'CPU':>6} {'AGE':>8} {'HEARTBEAT':>9}"
    lines = [_marked(heading, _BOLD, colour=colour, width=width)]
    for worker in workers:
        busy = "-" if worker.in_progress is None else f"{worker.in_progress:.0f}"
        memory = "-" if worker.memory_bytes is None else f"{worker.memory_bytes / (1 << 20):.1f} MiB"
        cpu = "-" if worker.cpu is None else _percent(worker.cpu)
        line = (
            f"{_printable(worker.worker):>6} {busy:>11} {memory:>9} {cpu:>6} {_duration(worker.age):>8} "
            f"{_duration(worker.heartbeat_age):>9}"
        )
        lines.append(line[:width])
    return lines


def _printable(text: str) -> str:
    """Return a text that cannot tell the terminal anything: who answers at a URL chooses label values."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _percent(share: float) -> str:
    return "0 %" if share == 0 else f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _marked(line: str, mark: str, *, colour: bool, width: int) -> str:
    return f"{mark}{line[:width]}{_PLAIN}" if colour else line[:width]
