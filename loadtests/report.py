"""What becomes of a run: a page for people, JSON for programs, JUnit for CI, and one line."""

import html
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from benchmarks.report import environment
from loadtests import books, plots
from loadtests.handicap import BEYOND_BUDGETS, chosen, in_words
from loadtests.judgement import Measure, Verdict

if TYPE_CHECKING:
    from loadtests.gate import Measured
    from loadtests.soak import Soaked

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.verdict{padding:.7rem 1rem;border-left:6px solid #2f6690;background:#eef4f9;margin:1rem 0}
.verdict.exceeded{border-color:#b0413e;background:#faeeed}.verdict.inconclusive{border-color:#c98a1b;background:#fcf6ea}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{padding:.3rem .5rem;border-bottom:1px solid #d9dfe5;
text-align:right;font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}.exceeded strong{color:#9b2c29}.inconclusive strong{color:#8a5a00}.kept strong{color:#1f5c2e}
figure{margin:1rem 0}figcaption{font-weight:600}svg{width:100%;height:auto;font:11px system-ui,sans-serif;fill:#44515e}
.grid{stroke:#e2e7ec}.zero{stroke:#444}.goal{stroke:#5a8f3c;stroke-dasharray:3 2}.budget{stroke:#b0413e;stroke-width:2}
li{margin:.2rem 0}pre{white-space:pre-wrap}
"""
_WORDS = {
    0: ("kept", "All budgets are kept."),
    1: ("exceeded", "A budget is exceeded, or the books are wrong."),
    3: ("inconclusive", "Inconclusive: the noise is too large for these few measurements. Run longer."),
}


def number(value: float) -> str:
    """Return a number as people read it."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def table(measures: Sequence[Measure]) -> str:
    """Return the measures as a table in Markdown."""
    lines = [
        "| what metrics add | budget | goal | measured | 95 % interval | verdict |",
        "|---|---:|---:|---:|---:|---|",
    ]
    lines += [f"| {' | '.join(_cells(measure))} |" for measure in measures]
    return "\n".join(lines) + "\n"


def _cells(measure: Measure) -> tuple[str, ...]:
    sign = "<" if measure.lower_is_better else "≥"
    budget = "" if measure.budget is None else f"{sign} {measure.budget:g} {measure.unit}"
    goal = "" if measure.goal is None else f"{measure.goal:g} {measure.unit}"
    if measure.reaches_goal:
        goal += " ✓"
    interval = measure.interval
    return (
        measure.name,
        budget,
        goal,
        f"{number(interval.mean)} {measure.unit}",
        f"{number(interval.low)} to {number(interval.high)}",
        measure.verdict.value,
    )


def write_gate(
    measured: "Measured", measures: Sequence[Measure], control: Sequence[Measure], status: int, output: Path
) -> None:
    """Write the reports of the gate, and tell what it found."""
    from loadtests.gate import OFF, ON

    verdict, sentence = _WORDS[status]
    plan = measured.plan._asdict()
    facts = {
        "verdict": verdict,
        "plan": plan,
        "handicap": in_words(chosen()),
        "environment": environment(),
        "measures": [_facts(measure) for measure in measures],
        "control": [_facts(measure) for measure in control],
        "problems": measured.problems,
        "books": _books(measured.entries),
    }
    _write_json(output / "gate.json", facts)
    cases = [
        (measure.name, measure.verdict in {Verdict.EXCEEDED, Verdict.INCONCLUSIVE}, " ".join(_cells(measure)))
        for measure in measures
    ]
    cases += [
        (f"control: {measure.name}", measure.verdict != Verdict.EXCEEDED, " ".join(_cells(measure)))
        for measure in control
    ]
    cases.append(("bookkeeping", bool(measured.problems), "\n".join(measured.problems)))
    _write_junit(output / "gate.xml", "loadtests.gate", cases)

    windows = [pair[name] for pair in measured.pairs for name in (ON, OFF)]

    def latencies(name: str) -> list[float]:
        return [took for window in windows if window.side == name for took in window.latencies]

    def over_time(column: int) -> list[plots.Line]:
        return [
            plots.Line(
                name,
                [(sample[0], sample[column]) for window in windows if window.side == name for sample in window.samples],
                dots=True,
            )
            for name in (ON, OFF)
        ]

    drawn = [
        plots.differences(measures),
        plots.plot(
            "Distribution of request times",
            "milliseconds (logarithmic)",
            "% not above",
            [plots.cumulative(name, latencies(name)) for name in (ON, OFF)],
            logarithmic=True,
        ),
        plots.plot("Memory of master, workers and exporter", "seconds of the run", "MB", over_time(1)),
        plots.plot("Processor time of the same", "seconds of the run", "processors", over_time(2)),
        plots.plot(
            "Requests that were answered",
            "seconds of the run",
            "a second",
            [
                plots.Line(
                    name, [point for window in windows if window.side == name for point in window.per_second], dots=True
                )
                for name in (ON, OFF)
            ],
        ),
        plots.plot(
            "Scrapes",
            "seconds of the run",
            "milliseconds",
            [plots.Line("scrape", [(at, took) for at, _, took, _ in measured.scrapes], dots=True)],
        ),
    ]
    rows = "".join(
        f'<tr class="{measure.verdict.value}">'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(measure)[:-1])
        + f"<td><strong>{measure.verdict.value}</strong></td></tr>"
        for measure in measures
    )
    remarks = f"<p>The measured side had a handicap: {html.escape(in_words(chosen()))}.</p>" if chosen() else ""
    if control:
        found = ", ".join(f"{one.name} {number(one.interval.mean)} {one.unit} ({one.verdict})" for one in control)
        remarks += (
            f"<p>A third side with a handicap of {html.escape(in_words(BEYOND_BUDGETS))} has to exceed its budgets, or "
            f"nothing is known: {html.escape(found)}.</p>"
        )
    body = f"""<h1>What Authly's metrics cost</h1>
<p class="verdict {verdict}">{html.escape(sentence)}</p>{remarks}
<p>The same load was sent to an instance with metrics and to one without, to both at once, in {len(measured.pairs)}
measurements. Every figure is the mean of the paired differences; it lies in the interval with 95 % confidence. A budget
is kept when the whole interval is within it, and exceeded when the whole interval is beyond it.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Measures"><table>
<tr><th>what metrics add<th>budget<th>goal<th>measured<th>95 % interval<th>verdict</tr>{rows}
</table></div>
<h2>Pictures</h2>{"".join(drawn)}
<h2>Books</h2><p>{books.summary(measured.entries)}.</p>{_problems(measured.problems)}
{_books_table(measured.entries)}
<h2>How it was measured</h2>
<p>{_plan(plan)}</p><p>{_machine()}</p>"""
    (output / "gate.html").write_text(_page("Overhead of metrics", body), encoding="utf-8")
    told = ", ".join(
        f"{measure.name} {number(measure.interval.mean)} {measure.unit} ({measure.verdict.value})"
        for measure in measures
    )
    sys.stdout.write(table(measures))
    for problem in measured.problems:
        sys.stdout.write(f"! {problem}\n")
    sys.stdout.write(f"{sentence} {told}; books: {books.summary(measured.entries)}; report: {output / 'gate.html'}\n")


def _facts(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "unit": measure.unit,
        "budget": measure.budget,
        "goal": measure.goal,
        "mean": measure.interval.mean,
        "low": _finite(measure.interval.low),
        "high": _finite(measure.interval.high),
        "differences": measure.differences,
        "verdict": measure.verdict.value,
        "reaches_goal": measure.reaches_goal,
    }


def write_soak(soaked: "Soaked", output: Path) -> None:
    """Write the reports of the soak, and tell what it found."""
    plan = soaked.plan._asdict()
    facts = {
        "verdict": "broken" if soaked.problems else "held",
        "plan": plan,
        "environment": environment(),
        "mishaps": dict(soaked.mishaps),
        "problems": soaked.problems,
        "facts": soaked.facts,
        "books": _books(soaked.entries),
    }
    _write_json(output / "soak.json", facts)
    cases = [(name, bool(found), "\n".join(found)) for name, found in soaked.invariants.items()]
    _write_junit(output / "soak.xml", "loadtests.soak", cases)
    sentence = "An invariant did not hold." if soaked.problems else "All invariants held."
    rows = "".join(
        f'<tr class="{"exceeded" if found else "kept"}"><td>{html.escape(name)}</td>'
        f"<td><strong>{'broken' if found else 'held'}</strong></td></tr>"
        for name, found in soaked.invariants.items()
    )
    counts = "".join(f"<tr><td>{html.escape(name)}</td><td>{count}</td></tr>" for name, count in soaked.mishaps.items())
    samples = soaked.samples
    drawn = [
        plots.plot(
            "Requests",
            "seconds",
            "a second",
            [
                plots.Line("answered as expected", soaked.per_second(lambda status: status in {200, 303})),
                plots.Line(
                    "answered otherwise, or not at all", soaked.per_second(lambda status: status not in {200, 303})
                ),
            ],
        ),
        plots.plot(
            "Memory",
            "seconds",
            "MB",
            [
                plots.Line("master, workers, exporter", [(one.at, one.memory) for one in samples]),
            ],
        ),
        plots.plot(
            "Files of metrics", "seconds", "files", [plots.Line("files", [(one.at, one.files) for one in samples])]
        ),
        plots.plot(
            "Scrapes",
            "seconds",
            "milliseconds",
            [
                plots.Line("scrape", [(one.at, one.scrape) for one in samples], dots=True),
            ],
        ),
    ]
    log = "".join(f"<li>{at:.1f} s: {html.escape(what)}</li>" for at, what in soaked.log)
    body = f"""<h1>Authly under load and mishaps</h1>
<p class="verdict {"exceeded" if soaked.problems else ""}">{sentence}</p>
<p>{html.escape(soaked.line())}</p>
<h2>Invariants</h2><table><tr><th>invariant<th>verdict</tr>{rows}</table>{_problems(soaked.problems)}
<h2>Mishaps</h2><table><tr><th>mishap<th>times</tr>{counts}</table>
<h2>Pictures</h2>{"".join(drawn)}
<h2>Books</h2><p>{books.summary(soaked.entries)}.</p>{_books_table(soaked.entries)}
<h2>What was done when</h2><details><summary>{len(soaked.log)} mishaps</summary><ol>{log}</ol></details>
<p>{_plan(plan)}</p><p>{_machine()}</p>"""
    (output / "soak.html").write_text(_page("Soak", body), encoding="utf-8")
    for problem in soaked.problems:
        sys.stdout.write(f"! {problem}\n")
    sys.stdout.write(f"{sentence} {soaked.line()}; report: {output / 'soak.html'}\n")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _books(entries: Sequence[books.Entry]) -> dict[str, Any]:
    answered = sum(sum(entry.answered.values()) for entry in entries)
    counted = sum(sum(entry.counted.values()) for entry in entries)
    return {"answered": answered, "counted": counted, "sent": sum(entry.sent for entry in entries)}


def _books_table(entries: Sequence[books.Entry]) -> str:
    """Return the books by endpoint and status, all windows added up."""
    totals: dict[tuple[str, str, int], list[int]] = {}
    unanswered: dict[tuple[str, str], int] = {}
    for entry in entries:
        what = (entry.method, entry.endpoint)
        unanswered[what] = unanswered.get(what, 0) + entry.unanswered
        for status in {*entry.answered, *entry.counted}:
            total = totals.setdefault((*what, status), [0, 0])
            total[0] += entry.answered.get(status, 0)
            total[1] += entry.counted.get(status, 0)
    rows = "".join(
        f"<tr><td>{method} {html.escape(endpoint)}</td><td>{status}</td><td>{answered:,}</td><td>{counted:,}</td></tr>"
        for (method, endpoint, status), (answered, counted) in sorted(totals.items())
    )
    rows += "".join(
        f"<tr><td>{method} {html.escape(endpoint)}</td><td>not answered</td><td>{count:,}</td><td></td></tr>"
        for (method, endpoint), count in sorted(unanswered.items())
        if count
    )
    return (
        "<details><summary>By endpoint and status</summary>"
        "<div class=scroll tabindex=0 role=region aria-label=Books><table><tr><th>endpoint<th>status"
        f"<th>answered<th>counted</tr>{rows}</table></div></details>"
    )


def _problems(problems: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(problem)}</li>' for problem in problems)}</ul>" if problems else ""


def _plan(plan: dict[str, Any]) -> str:
    return html.escape("; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in plan.items() if value != ""))


def _machine() -> str:
    found = environment()
    return html.escape(
        f"{found['processors']} {found['architecture']} processors, Linux {found['kernel']}, Python {found['python']}."
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><main>{body}</main></html>\n"
    )


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_junit(path: Path, suite: str, cases: Sequence[tuple[str, bool, str]]) -> None:
    failures = sum(failed for _, failed, _ in cases)
    lines = [f'<testsuite name={quoteattr(suite)} tests="{len(cases)}" failures="{failures}">']
    for name, failed, text in cases:
        inner = f"<failure>{escape(text)}</failure>" if failed else f"<system-out>{escape(text)}</system-out>"
        lines.append(f"  <testcase classname={quoteattr(suite)} name={quoteattr(name)}>{inner}</testcase>")
    path.write_text('<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join([*lines, "</testsuite>"]) + "\n")
