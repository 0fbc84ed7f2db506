"""Run the benchmarks."""

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import exporter, latency, login, middleware, overhead, report, scrape, tokens, write
from benchmarks.agent import REPOSITORY
from benchmarks.timing import Row

BENCHMARKS = {
    "scrape": scrape.run,
    "write": write.run,
    "middleware": middleware.run,
    "latency": latency.run,
    "exporter": exporter.run,
    "login": login.run,
    "tokens": tokens.run,
    "overhead": overhead.run,
}


def main() -> int:
    """Measure what was asked for, and report it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small version, to see that everything works")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="leave out the others")
    parser.add_argument(
        "--output", type=Path, default=REPOSITORY / "benchmarks/results", help="the folder for JSON and plot"
    )
    options = parser.parse_args()
    # Each agent is told where its metrics are; nothing of whoever runs this may be taken for that.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    started = time.monotonic()

    def progress(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:5.1f} s] {line}\n")
        sys.stderr.flush()

    rows: list[Row] = []
    for name in options.only:
        rows += BENCHMARKS[name](progress, quick=options.quick)
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(rows, options.output / "results.json", quick=options.quick, seconds=time.monotonic() - started)
    if not report.plot(rows, options.output):
        progress("no plot: matplotlib is not installed, or there was nothing to draw")
    progress("done")
    sys.stdout.write(report.table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
