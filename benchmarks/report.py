"""What becomes of the rows: a table, a file for programs, and a plot."""

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import scrape
from benchmarks.timing import NOT_INSTALLED, Row, Spread

_PACKAGES = (
    "authly",
    "fastapi",
    "gunicorn",
    "opentelemetry-instrumentation-fastapi",
    "prometheus-client",
    "prometheus-fastapi-instrumentator",
    "starlette",
    "starlette-exporter",
    "uvicorn",
)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def environment() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that tells whose machine it was."""
    return {
        "processors": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown: medians, and ratios with the range of the middle half of the rounds."""
    lines = [
        "| what | case | kind | subject | median | reference | median | ratio (middle half) |",
        "|---|---|---|---|---:|---|---:|---:|",
    ]
    for row in rows:
        if row.missing:
            measured, ratio = row.missing, ""
        else:
            measured = _amount(row.reference_measured, row.unit)
            ratio = _ratio(row.ratio)
        cells = (
            row.benchmark,
            row.case,
            row.kind,
            row.subject,
            _amount(row.measured, row.unit),
            row.reference,
            measured,
            ratio,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _amount(spread: Spread | None, unit: str) -> str:
    return f"{_number(spread.median)} {unit}" if spread else ""


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if spread.rounds == 1:
        return f"{_number(spread.median)}"
    return f"{_number(spread.median)} ({_number(spread.low)} to {_number(spread.high)})"


def write_json(rows: Iterable[Row], path: Path, *, quick: bool, seconds: float) -> None:
    """Write everything, spreads included, for programs."""
    record = {
        "environment": environment(),
        "quick": quick,
        "seconds": round(seconds, 1),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def plot(rows: Iterable[Row], folder: Path) -> bool:
    """Draw the scrape times; tell whether that was possible."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return False
    groups: dict[str, dict[str, Spread]] = {}
    for row in rows:
        if row.benchmark != "scrape" or row.reference_measured is None:
            continue
        size, _, circumstances = row.case.partition(", ")
        if circumstances.startswith(scrape.DEAD):
            size, circumstances = f"{size}\n{scrape.DEAD}", circumstances.partition(", ")[2]
        groups.setdefault(size, {})[f"Authly, {circumstances}"] = row.measured
        groups[size][row.reference] = row.reference_measured
    if not groups:
        return False
    bars = {
        "prometheus_client": "#b0413e",
        f"Authly, {scrape.COLD}": "#16425b",
        f"Authly, {scrape.ALL}": "#2f6690",
        f"Authly, {scrape.ONE_PERCENT}": "#5fa8d3",
        f"Authly, {scrape.NOTHING}": "#bee3f5",
    }
    mpl.rcParams.update({"svg.hashsalt": "authly", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(figsize=(10, 5.5), layout="constrained")
    width = 0.17
    for place, (name, color) in enumerate(bars.items()):
        present = [(at, spreads[name]) for at, spreads in enumerate(groups.values()) if name in spreads]
        positions = [at + (place - (len(bars) - 1) / 2) * width for at, _ in present]
        medians = [spread.median for _, spread in present]
        errors = [
            [spread.median - spread.low for _, spread in present],
            [spread.high - spread.median for _, spread in present],
        ]
        drawn = axes.bar(
            positions,
            medians,
            width,
            yerr=errors,
            label=name,
            color=color,
            edgecolor="#333333",
            linewidth=0.5,
            capsize=2,
        )
        axes.bar_label(drawn, [_number(median) for median in medians], padding=3, fontsize=8)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 2)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlabel("workers x endpoints (50 entries for each endpoint in each worker)")
    axes.set_ylabel("milliseconds a scrape (logarithmic)")
    axes.set_title("Time of a scrape: median, and the middle half of the rounds. Less is better.")
    axes.set_axisbelow(True)
    axes.grid(axis="y", which="major", color="#dddddd")
    axes.legend(loc="upper left", fontsize=8.5)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    figure.savefig(folder / "scrape.svg", metadata={"Date": None})
    figure.savefig(folder / "scrape.png", dpi=130)
    plt.close(figure)
    return True
