"""Aggregation: what each type and each gauge mode means, as prometheus-client defines it."""

import itertools
import json
import math
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.multiprocess import file_format
from authly.monitoring.multiprocess.aggregation import Aggregate
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.families import Sample
from tests.unit.monitoring.multiprocess.support import Entry, File, aggregate, key, metric_file

NUMBERS = st.integers(-1000, 1000).map(float)


def file(prefix: str, writer: str, *entries: Entry) -> File:
    """Return a file as the reader hands it over."""
    name = file_format.parse_name(f"{prefix}_{writer}.db")
    assert name
    return File(name, [(text.encode(), value, timestamp) for text, value, timestamp in entries], 0)


def gauge(value: float, timestamp: float = 0.0, **labels: str) -> Entry:
    """Return an entry of the gauge ``g``."""
    return key("g", labels=labels), value, timestamp


def samples(result: Aggregate) -> list[tuple[str, dict[str, str], float]]:
    """Return all samples in their order."""
    return [(sample.name, dict(sample.labels), sample.value) for family in result.families for sample in family.samples]


def test_nothing_gives_nothing() -> None:
    """No files, or files without entries, give no families."""
    assert aggregate([]) == ([], 0)
    assert aggregate([file("counter", "s0")]) == ([], 0)


def test_counters_of_all_files_are_added_up() -> None:
    """A counter is the sum of what every process ever counted, for each set of labels on its own."""
    result = aggregate(
        [
            file("counter", "4711", (key("c", "c_total", {"b": "2", "a": "1"}), 100.0, 0.0)),
            file("counter", "s0", (key("c", "c_total", {"a": "1", "b": "2"}), 1.5, 0.0)),
            file("counter", "s1", (key("c", "c_total", {"a": "1", "b": "3"}), 2.0, 0.0)),
        ]
    )
    (family,) = result.families
    assert (family.name, family.type, family.help) == ("c", "counter", "Help.")
    assert family.samples == [
        Sample("c_total", (("a", "1"), ("b", "2")), 101.5),
        Sample("c_total", (("a", "1"), ("b", "3")), 2.0),
    ]


def test_summaries_are_added_up() -> None:
    """Count and sum of a summary are sums over the files; those of one set of labels stand together."""
    parts = [("sum", 2.5), ("count", 2.0)]
    entries = [(key("s", f"s_{part}", {"x": x}), value, 0.0) for part, value in parts for x in "ab"]
    files = [file("summary", f"s{slot}", *entries) for slot in range(3)]
    assert samples(aggregate(files)) == [
        ("s_count", {"x": "a"}, 6.0),
        ("s_sum", {"x": "a"}, 7.5),
        ("s_count", {"x": "b"}, 6.0),
        ("s_sum", {"x": "b"}, 7.5),
    ]


def test_histograms_are_added_up_and_become_cumulative() -> None:
    """Buckets are added, stand in the order of their bounds, are cumulative, and are followed by count and sum."""
    bounds = ["10.0", "+Inf", "2.0", "0.5"]
    files = [
        file(
            "histogram",
            f"s{slot}",
            (key("h", "h_sum", {"p": "/"}), 1.5, 0.0),
            *((key("h", "h_bucket", {"p": "/", "le": bound}), 10.0**power, 0.0) for power, bound in enumerate(bounds)),
        )
        for slot in range(2)
    ]
    assert samples(aggregate(files)) == [
        ("h_bucket", {"le": "0.5", "p": "/"}, 2000.0),
        ("h_bucket", {"le": "2.0", "p": "/"}, 2200.0),
        ("h_bucket", {"le": "10.0", "p": "/"}, 2202.0),
        ("h_bucket", {"le": "+Inf", "p": "/"}, 2222.0),
        ("h_count", {"p": "/"}, 2222.0),
        ("h_sum", {"p": "/"}, 3.0),
    ]


def test_histograms_whose_buckets_differ_are_cumulative_over_all_bounds() -> None:
    """After a change of buckets old and new files are together what the bounds they know say."""
    files = [
        file("histogram", "s0", *((key("h", "h_bucket", {"le": le}), 1.0, 0.0) for le in ("1.0", "+Inf"))),
        file("histogram", "s1", *((key("h", "h_bucket", {"le": le}), 1.0, 0.0) for le in ("0.5", "2.0", "+Inf"))),
    ]
    assert samples(aggregate(files)) == [
        ("h_bucket", {"le": "0.5"}, 1.0),
        ("h_bucket", {"le": "1.0"}, 2.0),
        ("h_bucket", {"le": "2.0"}, 3.0),
        ("h_bucket", {"le": "+Inf"}, 5.0),
        ("h_count", {}, 5.0),
    ]


@pytest.mark.parametrize("live", ["", "live"])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("sum", [({}, 8.0)]),
        ("min", [({}, -1.0)]),
        ("max", [({}, 7.0)]),
        ("mostrecent", [({}, 2.0)]),
        ("all", [({"pid": "4711"}, 7.0), ({"pid": "s0"}, 2.0), ({"pid": "s1"}, -1.0)]),
    ],
)
def test_each_mode_of_a_gauge(live: str, mode: str, expected: list[tuple[dict[str, str], float]]) -> None:
    """Each mode merges the processes' values in its way, and the live modes merge those that count likewise."""
    files = [
        file(f"gauge_{live}{mode}", "4711", gauge(7.0, 1000.0)),
        file(f"gauge_{live}{mode}", "s0", gauge(2.0, 3000.0)),
        file(f"gauge_{live}{mode}", "s1", gauge(-1.0, 2000.0)),
    ]
    for order in itertools.permutations(files):
        result = aggregate(order)
        assert samples(result) == [("g", labels, value) for labels, value in expected]
        assert result.families[0].type == "gauge"


@given(values=st.lists(NUMBERS, min_size=1, max_size=6), seed=st.randoms(use_true_random=False))
def test_the_modes_over_any_values(values: list[float], seed: random.Random) -> None:
    """Sum, minimum, maximum and most recent are those of the values, in whatever order the files come."""
    times = list(range(1, len(values) + 1))
    seed.shuffle(times)
    expected = {
        "sum": sum(values),
        "min": min(values),
        "max": max(values),
        "mostrecent": values[times.index(len(values))],
    }
    for mode, value in expected.items():
        files = [file(f"gauge_{mode}", f"s{n}", gauge(v, float(times[n]))) for n, v in enumerate(values)]
        assert samples(aggregate(files)) == [("g", {}, value)]


@pytest.mark.parametrize(("mode", "values", "expected"), [
    ("sum", [math.inf, 1.0], math.inf),
    ("sum", [math.inf, -math.inf], math.nan),
    ("sum", [math.nan, 1.0], math.nan),
    ("min", [math.inf], math.inf),
    ("min", [-math.inf, 1.0], -math.inf),
    ("max", [-math.inf], -math.inf),
    ("max", [math.inf, 1.0], math.inf),
    ("mostrecent", [math.nan], math.nan),
])  # fmt: skip
def test_infinities_are_numbers(mode: str, values: list[float], expected: float) -> None:
    """Infinite and undefined values are merged as arithmetic has it, and never left out."""
    files = [file(f"gauge_{mode}", f"s{n}", gauge(value, n + 1.0)) for n, value in enumerate(values)]
    assert [repr(value) for _, _, value in samples(aggregate(files))] == [repr(expected)]


def test_a_most_recent_gauge_that_was_never_set_says_nothing() -> None:
    """A gauge that was only constructed has no time, and hides no other process's value."""
    unset = file("gauge_mostrecent", "s0", gauge(0.0, 0.0))
    assert samples(aggregate([unset])) == []
    assert samples(aggregate([unset, file("gauge_mostrecent", "s1", gauge(5.0, 1.0)), unset])) == [("g", {}, 5.0)]


def test_live_and_other_files_of_one_gauge_are_one_family() -> None:
    """A gauge whose mode became a live one, or the reverse, is no conflict."""
    result = aggregate([file("gauge_livesum", "s0", gauge(1.0)), file("gauge_sum", "s1", gauge(2.0))])
    assert (samples(result), result.conflicts) == ([("g", {}, 3.0)], 0)


def test_families_and_their_samples_stand_in_order() -> None:
    """The order of an exposition does not depend on that in which series appeared."""
    entries = [(key(name, f"{name}_total", {"x": x}), 1.0, 0.0) for name in ("b", "a", "c") for x in ("2", "1", "10")]
    result = aggregate([file("counter", "s0", *entries)])
    assert [family.name for family in result.families] == ["a", "b", "c"]
    for family in result.families:
        assert [dict(sample.labels)["x"] for sample in family.samples] == ["1", "10", "2"]


@pytest.mark.parametrize(
    ("prefix", "entry"),
    [
        ("gauge_sum", (key("c", "c"), 5.0, 0.0)),
        ("histogram", (key("c", "c_sum"), 5.0, 0.0)),
        ("summary", (key("c", "c_sum"), 5.0, 0.0)),
    ],
)
def test_another_type_of_the_same_name_is_a_conflict(prefix: str, entry: Entry) -> None:
    """The first file decides a metric's type; entries of others are left out and counted."""
    first = file("counter", "s0", (key("c", "c_total"), 1.0, 0.0))
    result = aggregate(
        [first, file(prefix, "s1", entry, entry), file("counter", "s2", (key("c", "c_total"), 2.0, 0.0))]
    )
    assert (samples(result), result.conflicts) == ([("c_total", {}, 3.0)], 2)


def test_another_mode_of_the_same_gauge_is_a_conflict() -> None:
    """A gauge cannot be a sum and a maximum: the first file decides."""
    result = aggregate([file("gauge_max", "s0", gauge(1.0)), file("gauge_sum", "s1", gauge(2.0))])
    assert (samples(result), result.conflicts) == ([("g", {}, 1.0)], 1)


def test_the_first_help_text_is_shown_and_a_later_one_is_no_conflict() -> None:
    """While a new version with another help text is rolled out, values are added up all the same."""
    result = aggregate(
        [
            file("counter", "s0", (key("c", "c_total", help_="Old."), 1.0, 0.0)),
            file("counter", "s1", (key("c", "c_total", help_="New."), 2.0, 0.0)),
        ]
    )
    assert (samples(result), result.conflicts, result.families[0].help) == ([("c_total", {}, 3.0)], 0, "Old.")


NOT_KEYS = [
    b"",
    b"nonsense",
    b"\xff\xfe\xff",
    b"null",
    b"3",
    b"{}",
    b"[]",
    b'["c", "c_total", {}]',
    b'["c", "c_total", {}, "help", 1]',
    b'[1, "c_total", {}, "help"]',
    b'["c", 1, {}, "help"]',
    b'["c", "c_total", {}, 1]',
    b'["c", "c_total", [], "help"]',
    b'["c", "c_total", null, "help"]',
    b'["c", "c_total", {"a": 1}, "help"]',
    b'["c", "c_total", {"a": null}, "help"]',
    b"[" * 100_000,
]


@pytest.mark.parametrize("text", NOT_KEYS, ids=lambda text: repr(text[:40]))
@pytest.mark.parametrize("type_", ["counter", "histogram", "summary", "gauge_all"])
def test_a_key_that_is_none_is_counted(text: bytes, type_: str) -> None:
    """An entry whose key prometheus-client could not have written is left out, and nothing else is."""
    good = file("counter", "s0", (key("good", "good_total"), 1.0, 0.0))
    bad = File(file(type_, "s1").name, [(text, 5.0, 0.0)], 0)
    result = aggregate([good, bad])
    assert (samples(result), result.conflicts) == ([("good_total", {}, 1.0)], 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    texts=st.lists(JSON.map(json.dumps) | st.lists(JSON, min_size=4, max_size=4).map(json.dumps), max_size=5),
    type_=st.sampled_from(["counter", "summary", "gauge_all", "gauge_min", "gauge_mostrecent"]),
)
def test_any_json_is_a_key_or_a_conflict(texts: list[str], type_: str) -> None:
    """Keys of any content raise nothing, and good entries are counted beside them."""
    good = file("counter", "s0", (key("good one", "good one_total"), 1.0, 0.0))
    result = aggregate([good, file(type_, "s1", *((text, 5.0, 1.0) for text in texts))])
    assert ("good one_total", {}, 1.0) in samples(result)
    assert 0 <= result.conflicts <= len(texts)


def test_a_gauge_that_nobody_has_set_stays_hidden(tmp_path: Path) -> None:
    """One that has no most recent value has none either when other series come into being or are removed."""
    path = tmp_path / "gauge_mostrecent_s0.db"
    collector = DirectoryCollector(tmp_path, time.monotonic)
    unset = gauge(0.0, 0.0, n="unset")
    shown = [("g", {"n": "1"}, 5.0)], [("g", {"n": "1"}, 5.0), ("g", {"n": "2"}, 6.0)]
    for entries, expected in (
        ([unset, gauge(5.0, 1.0, n="1")], shown[0]),
        ([unset, gauge(5.0, 1.0, n="1"), gauge(6.0, 2.0, n="2")], shown[1]),
        ([unset, gauge(5.0, 1.0, n="1"), gauge(6.0, -2.0, n="2")], shown[0]),
    ):
        # In place: the reader knows a file by its inode.
        with path.open("r+b" if path.exists() else "wb") as target:
            target.write(metric_file(entries, removals=len(entries)))
        found = collector.collect().families
        assert [(s.name, dict(s.labels), s.value) for family in found for s in family.samples] == expected


@pytest.mark.parametrize(("mode", "expected"), [("min", -1.0), ("max", 2.0), ("mostrecent", 2.0), ("sum", 1.0)])
def test_a_changed_help_text_makes_no_second_gauge(mode: str, expected: float) -> None:
    """Processes of two versions, whose help texts differ, give one gauge, merged as its mode says."""
    files = [
        file(f"gauge_{mode}", "s0", (key("g", help_="Old."), 2.0, 20.0)),
        file(f"gauge_{mode}", "s1", (key("g", help_="New."), -1.0, 10.0)),
    ]
    assert samples(aggregate(files)) == [("g", {}, expected)]
