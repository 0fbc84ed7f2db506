"""The benchmarks run, and say what they found in a form that programs can read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.instance import REPOSITORY


def assert_is_spread(numbers: dict[str, Any]) -> None:
    """Assert that these are the quartiles of some rounds."""
    assert numbers["low"] <= numbers["median"] <= numbers["high"]
    assert numbers["rounds"] >= 1


def test_a_quick_run_writes_what_it_found(tmp_path: Path) -> None:
    """Scrapes and middleware are measured; a peer that is not installed is said to be so."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--quick",
            "--only",
            "scrape",
            "middleware",
            "exporter",
            "growth",
            "--output",
            str(tmp_path),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["quick"] is True
    assert set(found["environment"]) == {"architecture", "kernel", "packages", "processors", "python"}

    rows = found["rows"]
    assert {row["benchmark"] for row in rows} == {
        *("exporter", "growth", "latency", "memory", "middleware", "recycling", "scrape")
    }
    for row in rows:
        assert row["kind"] in {"best case", "usual", "worst case"}
        assert_is_spread(row["measured"])
        if row["reference_measured"] is None:
            assert row["missing"] == ("not installed" if row["reference"] else "")
            assert row["ratio"] is None
        else:
            assert row["missing"] == ""
            assert_is_spread(row["reference_measured"])
    peers = {row["reference"] for row in rows if row["benchmark"] == "middleware"}
    assert {"prometheus-fastapi-instrumentator", "starlette_exporter", "OpenTelemetry (metrics)"} <= peers

    by_case = {row["case"]: row for row in rows}
    assert by_case["2 x 20, nothing changed"]["ratio"]["median"] > 1
    assert by_case["2 x 20, metric files"]["ratio"]["median"] == 1

    table = [line for line in run.stdout.splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2
