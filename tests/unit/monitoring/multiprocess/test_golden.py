"""Whole expositions, byte by byte.

The files in ``golden`` are what a fixed directory gives. After a change that is meant, write them anew and read the
difference before it is committed::

    AUTHLY_TEST_GOLDEN=write pytest tests/unit/monitoring/multiprocess/test_golden.py
"""

import contextlib
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess import exposition
from authly.monitoring.multiprocess.collector import DirectoryCollector
from tests.requirements import require
from tests.unit.monitoring.multiprocess.support import Entry, key, metric_file

GOLDEN = Path(__file__).with_name("golden")
FILES = {False: GOLDEN / "exposition.txt", True: GOLDEN / "exposition.openmetrics.txt"}
SINCE = 1764000000.25
AWKWARD = 'A "quoted" help,\nin two lines with a \\ and \\n, größe ☃ 🎉 {a="b"} # HELP'
VALUES = {
    "quotation": 'say "hi"',
    "backslash": "C:\\new\\",
    "newline": "two\nlines",
    "unicode": "größe ☃ 🎉",
    "empty": "",
    "blank": " ",
    "syntax": 'a="b",c} 1.0',
    "hash": "# EOF",
    "tab": "a\tb",
}
NUMBERS = {
    "zero": 0.0,
    "negative zero": -0.0,
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "inexact": 0.1 + 0.2,
    "odd": float(2**53 - 1),
    "sixteen digits": 1e16,
    "negative": -12.5,
    "infinity": math.inf,
    "negative infinity": -math.inf,
    "none": math.nan,
}


def histogram(name: str, labels: dict[str, str], counts: dict[str, float], total: float, since: float) -> list[Entry]:
    """Return the entries of a histogram; each bucket has what it got for itself."""
    buckets = [
        (key(name, f"{name}_bucket", {**labels, "le": le}, AWKWARD), count, since) for le, count in counts.items()
    ]
    return [(key(name, f"{name}_sum", labels, AWKWARD), total, since), *buckets]


DIRECTORY: dict[str, list[Entry]] = {
    "counter_s0.db": [
        *((key("golden", "golden_total", {"kind": k, "value": v}, AWKWARD), 1.5, SINCE) for k, v in VALUES.items()),
        (key("golden_plain", "golden_plain_total", {}, "Without labels."), float(2**53), SINCE + 60),
        (key("golden_read_bytes", "golden_read_bytes_total", {}, "With a unit."), 1e100, 0.0),
        (key("golden_never", "golden_never_total", {"z": "1", "a": "2", "M": "3"}, "Of sorted labels."), 0.0, SINCE),
        (key("golden_removed", "golden_removed_total", {}, "Not there any more."), 0.0, -1.0),
    ],
    "counter_s1.db": [
        (key("golden_plain", "golden_plain_total", {}, "A later help text."), 2.0, SINCE - 60),
        (key("golden", "golden_total", {"kind": "quotation", "value": VALUES["quotation"]}, AWKWARD), 2.25, 0.0),
    ],
    "counter_4711.db": [(key("golden_plain", "golden_plain_total", {}, "Of a foreign writer."), 4.0, 0.0)],
    "gauge_all_s0.db": [(key("golden_every", labels={"a": "x"}, help_="Of each process."), -1.0, 0.0)],
    "gauge_all_s10.db": [(key("golden_every", labels={"a": "x"}, help_="Of each process."), 1.0, 1.0)],
    "gauge_livesum_4711.db": [(key("golden_alive", help_="x"), 3.0, 0.0)],
    "gauge_max_s0.db": [(key("golden_most", help_="Unset by one."), 0.0, 0.0)],
    "gauge_max_s1.db": [(key("golden_most", help_="Unset by one."), -7.0, 1.0)],
    "gauge_min_s0.db": [(key("golden_least", help_="Set by both."), -3.0, 1.0)],
    "gauge_min_s1.db": [(key("golden_least", help_="Set by both."), 5.0, 1.0)],
    "gauge_mostrecent_s0.db": [
        *((key("golden_number", labels={"kind": k}, help_="Any number."), v, SINCE) for k, v in NUMBERS.items()),
        (key("golden_number", labels={"kind": "older"}, help_="Any number."), 1.0, SINCE),
        (key("golden_unset", help_="Never set."), 1.0, 0.0),
    ],
    "gauge_mostrecent_s1.db": [(key("golden_number", labels={"kind": "older"}), 2.0, SINCE + 1)],
    "gauge_sum_s0.db": [(key("golden_level_celsius", help_="With a unit."), -2.5, 1.0)],
    "histogram_s0.db": [
        *histogram("golden_took_seconds", {}, {"0.005": 1.0, "0.5": 0.0, "1.0": 2.0, "+Inf": 3.0}, 77.125, SINCE),
        *histogram("golden_weighed", {"of": "a\nb"}, {"0.0": 1.0, "1e+06": 2.0, "1e-05": 0.0, "+Inf": 0.0}, 9.0, SINCE),
    ],
    "histogram_s1.db": histogram("golden_took_seconds", {}, {"0.005": 4.0, "+Inf": 1.0}, 100.0, SINCE - 0.125),
    "summary_s0.db": [
        (key("golden_waited", "golden_waited_count", {"les": "x", "quantity": "y"}, "With odd labels."), 4.0, SINCE),
        (key("golden_waited", "golden_waited_sum", {"les": "x", "quantity": "y"}, "With odd labels."), 0.25, SINCE),
    ],
}
WITH_AWKWARD_HELP = {"golden", "golden_took_seconds", "golden_weighed"}


@pytest.fixture
def rendered(tmp_path: Path) -> dict[bool, bytes]:
    """Return the expositions of the fixed directory, OpenMetrics under True."""
    for name, entries in DIRECTORY.items():
        (tmp_path / name).write_bytes(metric_file(entries, unused=64))
    collector = DirectoryCollector(tmp_path, time.monotonic)
    with contextlib.closing(collector):
        collection = collector.collect()
        assert collection.conflicts == 0
        assert not any(collection.reading.skipped.values())
        found = {style: exposition.render(collection.families, openmetrics=style) for style in (False, True)}
    if os.environ.get("AUTHLY_TEST_GOLDEN") == "write":
        for style, path in FILES.items():
            path.write_bytes(found[style])
    return found


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_exposition_is_the_golden_file(rendered: dict[bool, bytes], openmetrics: bool) -> None:
    """Not one byte changes by accident: order, escapes, numbers, suffixes, units, times of creation."""
    assert rendered[openmetrics].decode() == FILES[openmetrics].read_bytes().decode()


def test_promtool_accepts_the_golden_file() -> None:
    """`promtool check metrics` has nothing to say of the text format's file."""
    promtool = shutil.which("promtool")
    require("promtool", promtool is not None, "promtool is not installed: get Debian's package prometheus")
    assert promtool is not None
    check = subprocess.run([promtool, "check", "metrics"], input=FILES[False].read_bytes(), capture_output=True)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_both_golden_files_are_read_back_alike() -> None:
    """prometheus-client's parsers, for OpenMetrics the strict one, find the same samples in both, none twice."""
    strict: Any = openmetrics_parser.text_string_to_metric_families
    found = []
    for parse, openmetrics in ((text_string_to_metric_families, False), (strict, True)):
        samples = {}
        # The bytes as they are: line feeds alone end lines.
        for family in parse(FILES[openmetrics].read_bytes().decode()):
            if family.name in WITH_AWKWARD_HELP:
                assert family.documentation == AWKWARD
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    series = sample.name, tuple(sorted(sample.labels.items()))
                    assert series not in samples
                    samples[series] = repr(float(sample.value))
        found.append(samples)
    assert found[0] == found[1]
    assert set(VALUES.values()) == {dict(labels)["value"] for name, labels in found[0] if name == "golden_total"}
    assert {dict(labels)["kind"]: value for (name, labels), value in found[0].items() if name == "golden_number"} == {
        **{kind: repr(value) for kind, value in NUMBERS.items()},
        "older": "2.0",
    }
