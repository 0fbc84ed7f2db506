"""How what metrics cost grows with the number of workers: the gate's measurements, size by size."""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import environment
from benchmarks.timing import Progress
from loadtests import gate
from loadtests.judgement import Measure
from loadtests.report import number

# Thirty times as often as is usual: to know how long they take, and to see what they cost.
_SCRAPE_INTERVAL = 0.5


def plan_of(pairs: int, seconds: float, arrivals: float, seed: int) -> gate.Plan:
    """Return what is measured of each size: what the gate measures, in a single block, with more scrapes."""
    return gate.Plan(1, pairs, seconds, arrivals, 0, _SCRAPE_INTERVAL, 0.0, 0, seed)


def run(plan: gate.Plan, sizes: Sequence[int], output: Path, progress: Progress) -> int:
    """Measure one size after the other, write ``scale.json``, and print a table.

    Args:
        plan: what is done for each; its number of workers says nothing.
        sizes: numbers of workers.
        output: the folder.
        progress: is told of each step.
    """
    rows = []
    for workers in sizes:
        measured = gate.measure(plan._replace(workers=workers), progress)
        rows.append(_row(workers, measured))
        if measured.problems:
            progress(f"{workers} workers: {measured.problems[0]}")
    facts = {"plan": plan._asdict(), "environment": environment(), "rows": rows}
    (output / "scale.json").write_text(json.dumps(facts, indent=1) + "\n")
    sys.stdout.write(table(rows))
    return gate.EXCEEDED if any(row["problems"] for row in rows) else gate.KEPT


def _row(workers: int, measured: gate.Measured) -> dict[str, Any]:
    scrapes = [(took, size) for _, status, took, size in measured.scrapes if status == 200]
    return {
        "workers": workers,
        "scrape_ms": statistics.median(took for took, _ in scrapes),
        "longest_scrape_ms": max(took for took, _ in scrapes),
        "scrape_bytes": statistics.median(size for _, size in scrapes),
        "measures": {one.name: _figures(one) for one in gate.judge(measured)},
        "problems": measured.problems,
    }


def _figures(one: Measure) -> dict[str, Any]:
    return {"unit": one.unit, "mean": one.interval.mean, "low": one.interval.low, "high": one.interval.high}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return all sizes as a table in Markdown."""
    names = list(rows[0]["measures"])
    lines = [
        f"| workers | scrape, median | longest | compressed | {' | '.join(names)} |",
        f"|{'---:|' * (4 + len(names))}",
    ]
    for row in rows:
        cells = [
            str(row["workers"]),
            f"{row['scrape_ms']:.1f} ms",
            f"{row['longest_scrape_ms']:.1f} ms",
            f"{row['scrape_bytes'] / 1e3:.1f} kB",
            *(
                f"{number(one['mean'])} {one['unit']} ({number(one['low'])} to {number(one['high'])})"
                for one in row["measures"].values()
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
