"""Write the page: first what is wrong, then the figures, then the details."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from authly import __version__
from authly.monitoring.exporter.collectors.gunicorn import Worker
from authly.monitoring.exporter.status import figures
from authly.monitoring.exporter.status.findings import CURRENT, RECENT, Finding, Severity, findings
from authly.monitoring.exporter.status.journal import INTERVAL, SPAN, Note, exits, increases, latencies
from authly.monitoring.exporter.status.lookup import buckets, quantile
from authly.monitoring.exporter.status.markup import Child, Markup, element
from authly.monitoring.exporter.status.plots import Line, plot
from authly.monitoring.exporter.status.state import SILENT, State
from authly.monitoring.master_facts import EXIT_REASONS
from authly.monitoring.multiprocess.families import Family

ASSETS: Final = {"status.css": "text/css", "status.js": "text/javascript", "status.svg": "image/svg+xml"}
"""What the page needs besides itself, below ``/-/``, with the type of each."""

MOST_FAMILIES: Final = 20
_SEVERITIES: Final = {
    Severity.CRITICAL: ("critical", "✖", "Critical"),
    Severity.WARNING: ("warning", "▲", "Warning"),
    Severity.NOTE: ("note", "●", "Note"),
}
_QUANTILES: Final = ((0.5, "half", "50 %"), (0.95, "most", "95 %"), (0.99, "nearly", "99 %"))
_REASONS: Final = {
    "boot_error": "could not start",
    "crash": "crashed",
    "max_requests": "recycled after max_requests",
    "out_of_memory": "killed because memory ran out",
    "reload": "replaced by a reload",
    "scale_down": "no longer wanted",
    "shutdown": "the instance stopped",
    "signal": "a signal from outside",
    "timeout": "heartbeat too late",
}
_SKIPPED: Final = {
    "corrupt": "its bytes make no sense",
    "not_a_file": "it is no regular file",
    "unreadable": "it could not be opened or read",
}


def asset(name: str) -> bytes:
    """Return one of :data:`ASSETS`."""
    return (Path(__file__).parent / name).read_bytes()


def page(state: State) -> bytes:
    """Return the whole page."""
    found = findings(state)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", _title(found)),
        # Relative, so that the page works below any prefix that a proxy puts before it.
        element("link", rel="icon", href="-/status.svg", type="image/svg+xml"),
        element("link", rel="stylesheet", href="-/status.css"),
        element("script", src="-/status.js", defer=""),
    )
    body = element(
        "body",
        element("a", "Skip to what is wrong", class_="skip", href="#findings-title"),
        element(
            "header",
            element("h1", "Authly exporter"),
            element(
                "p",
                element("span", "This page shows one moment; reload it for the next.", id="live"),
                element("button", "Pause", id="pause", type="button", hidden=""),
                class_="live",
            ),
        ),
        element("p", id="lost", class_="lost", hidden="", role="status"),
        element("p", _summary(found), id="said", class_="unseen", role="status"),
        element("main", _content(state, found), id="content"),
        _footer(state),
    )
    return b"<!doctype html>\n" + element("html", head, body, lang="en").encode()


def fragment(state: State) -> bytes:
    """Return what of the page changes: title, summary and main part, as the script takes them over."""
    found = findings(state)
    return element(
        "html",
        element("head", element("title", _title(found))),
        element(
            "body", element("p", _summary(found), id="said"), element("main", _content(state, found), id="content")
        ),
        lang="en",
    ).encode()


def _title(found: Sequence[Finding]) -> str:
    wrong = sum(finding.severity < Severity.NOTE for finding in found)
    return f"({wrong}) Authly exporter" if wrong else "Authly exporter"


def _summary(found: Sequence[Finding]) -> str:
    """Return what screen readers are told when it changes."""
    if not found:
        return "Nothing is wrong."
    return " ".join(f"{_SEVERITIES[finding.severity][2]}: {finding.what}" for finding in found)


def _content(state: State, found: Sequence[Finding]) -> list[Child]:
    return [
        _findings(state, found),
        _plots(state),
        _workers(state),
        element("div", _exits(state), element("div", _listeners(state), _scrapes(state)), class_="pair"),
        element("div", _files(state), element("div", _skipped(state), _problems(state)), class_="pair"),
        element("div", _families(state), _settings(state), class_="pair"),
    ]


def _section(name: str, title: str, *children: Child) -> Markup:
    return element("section", element("h2", title, id=f"{name}-title"), *children, aria_labelledby=f"{name}-title")


def _table(
    caption: str, headers: Sequence[str], rows: Sequence[Sequence[Child]], *, numbers: Sequence[int] = (), empty: str
) -> Markup:
    """Return a table whose first column names its rows.

    Args:
        caption: what it shows; not seen, since the heading above says the same to those who see.
        headers: of the columns.
        rows: their cells.
        numbers: which columns are numbers.
        empty: what to say where there is no row.
    """
    if not rows:
        return element("p", empty, class_="empty")

    def class_of(column: int) -> str | None:
        return "number" if column in numbers else None

    head = element("tr", [element("th", text, scope="col", class_=class_of(at)) for at, text in enumerate(headers)])
    body: list[Child] = [
        element(
            "tr",
            element("th", row[0], scope="row", class_=class_of(0)),
            [element("td", cell, class_=class_of(at)) for at, cell in enumerate(row[1:], 1)],
        )
        for row in rows
    ]
    # What scrolls has to be reachable by keyboard, and so needs a name.
    return element(
        "div",
        element("table", element("caption", caption, class_="unseen"), element("thead", head), element("tbody", body)),
        class_="scroll",
        role="group",
        aria_label=caption,
        tabindex="0",
    )


def _code(text: str) -> Markup:
    """Return a name or path, which may be broken where it has a joint."""
    pieces: list[Child] = []
    for piece in re.split(r"(?<=[_/,])", text):
        pieces += [piece, element("wbr")]
    return element("code", pieces[:-1])


def _time(at: float) -> Markup:
    return element("time", figures.moment(at), datetime=figures.machine_moment(at))


def _findings(state: State, found: Sequence[Finding]) -> Markup:
    title = "What is wrong" if any(finding.severity < Severity.NOTE for finding in found) else "Nothing is wrong"
    items: list[Child] = []
    for finding in found:
        style, sign, word = _SEVERITIES[finding.severity]
        items.append(
            element(
                "li",
                element(
                    "p",
                    element("span", element("span", sign, aria_hidden="true"), f" {word}", class_="severity"),
                    " ",
                    element("strong", finding.what),
                ),
                element("p", finding.advice),
                class_=style,
            )
        )
    return element(
        "section",
        element(
            "h2",
            element("span", "✔ ", aria_hidden="true") if title == "Nothing is wrong" else None,
            title,
            id="findings-title",
            tabindex="-1",
        ),
        element("ul", items, class_="findings") if items else None,
        element("p", _in_short(state), " As of ", _time(state.time), ".", class_="short"),
        aria_labelledby="findings-title",
        class_="verdict good" if title == "Nothing is wrong" else "verdict bad",
    )


def _in_short(state: State) -> str:
    parts = []
    snapshot = state.snapshot
    if snapshot is not None and snapshot.masters:
        desired = sum(master.desired for master in snapshot.masters)
        busy = sum(worker.is_busy for worker in snapshot.workers)
        parts.append(f"{len(snapshot.workers)} of {desired} workers run, {busy} busy.")
        up = state.time - snapshot.masters[-1].started
        parts.append(f"Master {snapshot.masters[-1].pid} has been running for {figures.duration(max(0.0, up))}.")
    if state.journal.scraped:
        parts.append(f"Last scrape {figures.duration(state.now - state.journal.scraped[0])} ago.")
    else:
        parts.append("No scrape yet.")
    return " ".join(parts)


# Plots


def _plots(state: State) -> Markup:
    notes = list(state.journal.notes)
    current = state.journal.recent(CURRENT)
    # As far back as there is something to see.
    span = min(SPAN, max(60.0, state.now - notes[0].at if notes else 0.0))
    begin = state.now - span

    def ends(of: Callable[[Note], float]) -> float | None:
        rates = increases([current[0], current[-1]], of) if len(current) > 1 else []
        return rates[-1][1] if rates else None

    requests = increases(notes, lambda note: note.requests)
    failures = increases(notes, lambda note: note.failures)
    rate, failed = ends(lambda note: note.requests), ends(lambda note: note.failures)
    now = latencies(current[0], current[-1]) if len(current) > 1 else {}
    quantiles = {share: quantile(share, now) for share, _, _ in _QUANTILES}
    curves: dict[float, list[tuple[float, float]]] = {share: [] for share, _, _ in _QUANTILES}
    for earlier, later in pairwise(notes):
        edges = latencies(earlier, later)
        for share, curve in curves.items():
            value = quantile(share, edges)
            if value is not None:
                curve.append((later.at, value))
    memory = [(note.at, note.memory) for note in notes if not math.isnan(note.memory)]
    waiting = [(note.at, note.waiting) for note in notes if not math.isnan(note.waiting)]
    queue = max(state.snapshot.listeners, key=lambda each: each.waiting, default=None) if state.snapshot else None
    processes = state.snapshot.workers if state.snapshot else []
    resident = [worker.process.resident_bytes for worker in processes if worker.process]
    shared_once = state.families.value("authly_memory_usage_bytes", role="worker", type="pss")
    return _section(
        "plots",
        "The last minutes",
        element(
            "div",
            _card(
                "Requests a second",
                figures.rate(rate),
                [("all", "all", figures.rate(rate)), ("failed", "failed (5xx)", figures.rate(failed))],
                [Line("all", requests), Line("failed", failures)],
                begin,
                state.now,
                figures.rate,
            ),
            _card(
                "Latency, 95 % within",
                figures.latency(quantiles[0.95]),
                [(style, f"{words} within", figures.latency(quantiles[share])) for share, style, words in _QUANTILES],
                [Line(style, curves[share]) for share, style, _ in _QUANTILES],
                begin,
                state.now,
                figures.latency,
            ),
            _card(
                "Memory of the workers",
                figures.size(float(sum(resident)) if resident else None),
                [
                    ("all", "resident (RSS)", figures.size(float(sum(resident)) if resident else None)),
                    ("none", "shared pages counted once (PSS)", figures.size(shared_once)),
                ],
                [Line("all", memory)],
                begin,
                state.now,
                figures.size,
            ),
            _card(
                "Connections that wait",
                figures.count(queue.waiting if queue else None),
                [("all", "room for", figures.count(queue.limit if queue else None))],
                [Line("all", waiting)],
                begin,
                state.now,
                figures.count,
            ),
            class_="cards",
        ),
    )


def _card(
    title: str,
    figure: str,
    legend: Sequence[tuple[str, str, str]],
    lines: Sequence[Line],
    begin: float,
    end: float,
    write: Callable[[float], str],
) -> Markup:
    """Return a figure with its plot.

    Args:
        title: what it is of.
        figure: as it is now.
        legend: style, words and current value of each line.
        lines: of the plot.
        begin: the moment at its left.
        end: the moment at its right.
        write: turns a value into text.
    """
    values = [value for line in lines for at, value in line.points if at >= begin]
    description = f"{title}, over the last {figures.duration(end - begin)}: now {figure}"
    if values:
        description += f", at most {write(max(values))}"
    return element(
        "figure",
        element("figcaption", title),
        element("p", figure, class_="figure"),
        element("p", f"at most {write(max(values))}" if values else "no point yet", class_="top"),
        plot(description, lines, begin, end),
        element("p", element("span", f"{figures.duration(end - begin)} ago"), element("span", "now"), class_="axis"),
        element(
            "ul",
            [
                element("li", element("span", class_=f"key {style}", aria_hidden="true"), f"{words} {value}")
                for style, words, value in legend
            ],
            class_="legend",
        ),
    )


# Tables


def _workers(state: State) -> Markup:
    workers = state.snapshot.workers if state.snapshot else []
    rows: list[Sequence[Child]] = []
    for worker in workers:
        style, sign, word = _worker_state(worker)
        rows.append(
            (
                "none yet" if worker.slot is None else str(worker.slot),
                str(worker.pid),
                element("span", element("span", sign, aria_hidden="true"), f" {word}", class_=f"state {style}"),
                figures.duration(worker.age),
                "none yet" if worker.is_booting else _ago(worker.heartbeat_age),
                figures.count(worker.in_progress),
                figures.size(float(worker.process.resident_bytes) if worker.process else None),
                figures.share(state.journal.cpu_share(worker)),
            )
        )
    return _section(
        "workers",
        "Workers by slot",
        _table(
            "Workers by slot",
            ("Slot", "Process", "State", "Age", "Heartbeat", "In progress", "Memory", "Processor"),
            rows,
            numbers=(0, 1, 3, 4, 5, 6, 7),
            empty="No worker is known.",
        ),
    )


def _worker_state(worker: Worker) -> tuple[str, str, str]:
    if worker.process is not None and worker.process.is_stopped:
        return "critical", "✖", "stopped"
    if worker.is_booting:
        return "warning", "▲", "starting"
    if worker.heartbeat_age is not None and worker.heartbeat_age > SILENT:
        return "critical", "✖", "silent"
    return ("busy", "◆", "busy") if worker.is_busy else ("idle", "◇", "idle")


def _ago(seconds: float | None) -> str:
    return figures.UNKNOWN if seconds is None else f"{figures.duration(seconds)} ago"


def _exits(state: State) -> Markup:
    total = state.families.by("gunicorn_worker_exits", "reason")
    recent = exits(state.journal.recent(RECENT))
    rows: list[Sequence[Child]] = [
        (_code(reason), _REASONS[reason], _marked(recent.get(reason, 0.0)), figures.count(total[reason]))
        for reason in EXIT_REASONS
        if reason in total
    ]
    return _section(
        "exits",
        "Why workers ended",
        _table(
            "Workers that ended, by reason",
            ("Reason", "In words", f"Last {figures.duration(RECENT)}", "Ever"),
            rows,
            numbers=(2, 3),
            empty="No Gunicorn master has counted here.",
        ),
    )


def _marked(number: float) -> Child:
    return element("strong", figures.count(number)) if number else figures.count(number)


def _listeners(state: State) -> Markup:
    rows: list[Sequence[Child]] = [
        (listener.name, figures.count(listener.waiting), figures.count(listener.limit))
        for listener in sorted(state.snapshot.listeners if state.snapshot else ())
    ]
    return _section(
        "listeners",
        "Connections that wait",
        _table(
            "Connections that wait to be accepted, by listener",
            ("Listener", "Waiting", "Room for"),
            rows,
            numbers=(1, 2),
            empty="No listener is known here.",
        ),
    )


def _scrapes(state: State) -> Markup:
    family = state.families.families.get("authly_exporter_scrape_duration_seconds")
    rows: list[Sequence[Child]] = []
    for phase in ("read", "aggregate", "render"):
        edges = buckets(family, phase=phase)
        number = edges.get(math.inf, 0.0)
        rows.append(
            (
                phase,
                *(figures.latency(quantile(share, edges)) if number else "none yet" for share in (0.5, 0.95)),
                figures.count(number),
            )
        )
    outcomes = state.families.by("authly_exporter_scrapes", "outcome")
    words = ", ".join(f"{outcome} {figures.count(number)}" for outcome, number in sorted(outcomes.items()) if number)
    last = state.journal.scraped
    return _section(
        "scrapes",
        "Scrapes",
        element(
            "p",
            f"The last one, {figures.duration(state.now - last[0])} ago, took {figures.latency(last[1])}. "
            if last
            else None,
            f"So far: {words or 'none'}.",
        ),
        _table(
            "Duration of scrapes, by phase",
            ("Phase", "Half within", "95 % within", "Times"),
            rows,
            numbers=(1, 2, 3),
            empty="",
        ),
    )


def _files(state: State) -> Markup:
    found = state.families
    types = found.by("authly_exporter_files", "type")
    rows: list[Sequence[Child]] = [
        ("Directory", _code(str(state.configuration.directory or "none"))),
        ("Files", f"{figures.count(sum(types.values()))} ({', '.join(f'{n:.0f} {t}' for t, n in types.items() if n)})"),
        ("Their size", figures.size(found.value("authly_exporter_directory_bytes"))),
        ("Free there", figures.size(found.value("authly_exporter_directory_free_bytes"))),
        ("Series of the workers", figures.count(found.value("authly_exporter_series"))),
        ("Series in all", figures.count(float(sum(family.size for family in found.families.values())))),
    ]
    return _section(
        "files",
        "Files and series",
        _table("Files and series", ("What", "How much"), rows, empty="")
        if types
        else element("p", "The directory cannot be read.", class_="empty"),
    )


def _families(state: State) -> Markup:
    sizes = [(family, family.size) for family in state.families.families.values()]
    sizes.sort(key=lambda pair: (-pair[1], pair[0].name))
    total = sum(size for _, size in sizes) or 1
    rows: list[Sequence[Child]] = [
        (_code(_shown_name(family)), family.type, figures.count(size), figures.share(size / total))
        for family, size in sizes[:MOST_FAMILIES]
        if size
    ]
    return _section(
        "families",
        "Families with most series",
        _table(
            f"The {MOST_FAMILIES} families with most series",
            ("Family", "Type", "Series", "Share"),
            rows,
            numbers=(2, 3),
            empty="There are no series.",
        ),
    )


def _shown_name(family: Family) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _skipped(state: State) -> Markup:
    rows: list[Sequence[Child]] = [
        (_code(name), f"{reason}: {_SKIPPED.get(reason, 'left out')}", _time(at))
        for name, reason, at in state.journal.skipped
    ]
    return _section(
        "skipped",
        "Files left out lately",
        _table(
            "Files left out lately", ("File", "Reason", "Last seen"), rows, empty="None since the exporter started."
        ),
    )


def _problems(state: State) -> Markup:
    items: list[Child] = [
        element("li", _time(mention.at), " ", mention.words) for mention in reversed(state.journal.problems)
    ]
    return _section(
        "problems",
        "Last problems",
        element("ul", items, class_="log") if items else None,
        None if items else element("p", "None since the exporter started.", class_="empty"),
    )


def _settings(state: State) -> Markup:
    rows: list[Sequence[Child]] = [
        (_code(name), _code(value), origin) for name, value, origin in state.configuration.settings
    ]
    return _section(
        "settings",
        "Settings in force",
        _table(
            "Settings in force; secrets are not shown",
            ("Setting", "Value", "From"),
            rows,
            empty="This exporter was started without a list of settings.",
        ),
    )


def _footer(state: State) -> Markup:
    path = state.configuration.path
    links: list[Child] = [
        element("li", element("a", href_text, href=href_text.removeprefix("/")), f": {words}")
        for href_text, words in (
            (path, "the metrics, as text or OpenMetrics"),
            ("/-/healthy", "whether this process answers"),
            ("/-/ready", "whether it can read the workers' files"),
        )
    ]
    return element(
        "footer",
        element("nav", element("ul", links), aria_label="Other addresses of this exporter"),
        element(
            "p",
            f"Authly {__version__}. Plots have a point each {INTERVAL:.0f} s at most, when somebody scrapes or looks; "
            "they begin anew with the exporter. Times are UTC.",
        ),
    )
