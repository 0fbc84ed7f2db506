"""Exposition: what prometheus-client's own parsers read back is what was rendered."""

import math
import re
from collections.abc import Callable, Iterable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess.exposition import metric_name, number, render
from authly.monitoring.multiprocess.families import Family, Labels, Sample

parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families

ANY_FLOAT = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e308, 5e-324, 1e16, 0.1 + 0.2])
COUNTS = st.floats(min_value=0, allow_nan=False) | st.integers(0, 2**53).map(float)
LABEL_NAME = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not name.startswith("__") and name not in {"le", "quantile"}
)
LABELS = st.dictionaries(LABEL_NAME, st.text(max_size=12), max_size=3).map(lambda found: tuple(sorted(found.items())))
# The text format's parser strips lines, so a help text that begins or ends with white space cannot come back whole.
HELP = st.text(max_size=30).filter(lambda text: text == text.strip())


@st.composite
def a_family(draw: st.DrawFn, name: str) -> Family:
    """Return a family with a few series."""
    type_ = draw(st.sampled_from(["counter", "gauge", "histogram", "summary"]))
    found: list[Sample] = []
    for labels in draw(st.lists(LABELS, max_size=3, unique=True)):
        if type_ == "counter":
            found.append(Sample(f"{name}_total", labels, draw(COUNTS)))
        elif type_ == "gauge":
            found.append(Sample(name, labels, draw(ANY_FLOAT)))
        elif type_ == "summary":
            found.append(Sample(f"{name}_count", labels, draw(st.integers(0, 2**40).map(float))))
            found.append(Sample(f"{name}_sum", labels, draw(COUNTS)))
        else:
            bounds = draw(st.lists(st.sampled_from(["0.1", "1.0", "2.5"]), unique=True).map(sorted))
            count = 0.0
            for bound in [*bounds, "+Inf"]:
                count += draw(st.integers(0, 2**30))
                found.append(Sample(f"{name}_bucket", tuple(sorted((*labels, ("le", bound)))), count))
            found.append(Sample(f"{name}_count", labels, count))
            found.append(Sample(f"{name}_sum", labels, draw(COUNTS)))
    return Family.of(name, type_, draw(HELP), found)


@st.composite
def some_families(draw: st.DrawFn) -> list[Family]:
    """Return families with different names."""
    return [draw(a_family(f"{draw(st.sampled_from(['m', 'a:b', '_x']))}{n}")) for n in range(draw(st.integers(0, 4)))]


Shown = list[tuple[str, str, str, list[tuple[str, dict[str, str], str]]]]


def of_families(families: Iterable[Family]) -> Shown:
    """Return what must be read back; numbers as text, so that NaN and -0.0 can be compared."""
    return [
        (
            family.name,
            family.type,
            family.help,
            [(sample.name, dict(sample.labels), repr(float(sample.value))) for sample in family.samples],
        )
        for family in families
    ]


def of_parsed(metrics: Iterable[Metric]) -> Shown:
    """Return what was read back."""
    return [
        (
            metric.name,
            metric.type,
            metric.documentation,
            [(sample.name, dict(sample.labels), repr(float(sample.value))) for sample in metric.samples],
        )
        for metric in metrics
    ]


@given(some_families())
def test_the_text_format_is_read_back(families: list[Family]) -> None:
    """Names, types, help texts, labels and numbers survive the text format."""
    text = render(families, openmetrics=False).decode()
    assert of_parsed(text_string_to_metric_families(text)) == of_families(families)


@given(some_families())
def test_openmetrics_is_read_back_strictly(families: list[Family]) -> None:
    """The strict parser accepts the exposition and reads the same families."""
    text = render(families, openmetrics=True).decode()
    assert of_parsed(parse_openmetrics(text)) == of_families(families)


@given(some_families(), LABELS)
def test_constant_labels_are_on_every_sample(families: list[Family], constant: Labels) -> None:
    """Both formats are read back with them; a sample that has a label of that name keeps its own."""
    expected = [
        (name, type_, help_, [(sample, {**dict(constant), **labels}, value) for sample, labels, value in samples])
        for name, type_, help_, samples in of_families(families)
    ]
    # A family whose samples nothing but that label told apart would have one of them twice.
    series = [(sample, tuple(sorted(labels.items()))) for *_, samples in expected for sample, labels, _ in samples]
    assume(len(set(series)) == len(series))
    for _ in range(2):
        text = render(families, openmetrics=False, constant=constant).decode()
        assert of_parsed(text_string_to_metric_families(text)) == expected
        strict = render(families, openmetrics=True, constant=constant).decode()
        assert of_parsed(parse_openmetrics(strict)) == expected
    # What was made with them is not taken for what was made without.
    assert of_parsed(parse_openmetrics(render(families, openmetrics=True).decode())) == of_families(families)


def test_constant_labels_cost_nothing_where_nothing_changed() -> None:
    """The text is made once: a second exposition is made of the same string."""
    family = Family.of("g", "gauge", "Help.", [Sample("g", (("a", "1"),), 1.0)])
    constant = (("region", "eu"),)
    first = render([family], openmetrics=False, constant=constant)
    (text,) = family.texts.values()
    assert text.data == b'# HELP g Help.\n# TYPE g gauge\ng{region="eu",a="1"} 1.0\n'
    assert render([family], openmetrics=False, constant=constant) == first
    assert next(iter(family.texts.values())) is text


@given(value=ANY_FLOAT, openmetrics=st.booleans())
def test_a_number_is_read_back_to_the_last_bit(value: float, openmetrics: bool) -> None:
    """Every float comes back as it was, the odd ones included."""
    text = render([Family.of("g", "gauge", "", [Sample("g", (), value)])], openmetrics=openmetrics).decode()
    assert repr(float(text.splitlines()[2].removeprefix("g "))) == repr(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (1e308, "1e+308"),
        (0.1, "0.1"),
    ],
)
def test_numbers_are_written_as_the_formats_have_them(value: float, shown: str) -> None:
    """The odd numbers have names of their own; the others are as short as possible."""
    assert number(value) == shown


@given(st.text(max_size=12))
def test_any_name_becomes_one_that_the_formats_allow(name: str) -> None:
    """What a name may not contain becomes an underscore each, and no name one; a good name stays as it is."""
    shown = metric_name(name)
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", shown)
    if not name:
        assert shown == "_"
        return
    assert len(shown) == len(name)
    if re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name):
        assert shown == name
    assert all(was == now or now == "_" for was, now in zip(name, shown, strict=True))


@given(name=st.text(min_size=1, max_size=12), label=st.text(min_size=1, max_size=12), value=st.text(max_size=12))
def test_odd_names_break_no_exposition(name: str, label: str, value: str) -> None:
    """UTF-8 names, which newer libraries allow, are shown as names that every Prometheus understands."""
    labels: Labels = ((label, value),)
    family = Family.of(name, "gauge", "Help.", [Sample(name, labels, 1.0)])
    for text, parse in (
        (render([family], openmetrics=False).decode(), text_string_to_metric_families),
        (render([family], openmetrics=True).decode(), parse_openmetrics),
    ):
        lines = text.split("\n")
        shown = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{([a-zA-Z_][a-zA-Z0-9_]*)="(.*)"\} 1\.0', lines[2], re.DOTALL)
        assert shown
        assert lines[1] == f"# TYPE {shown[1]} gauge"
        if shown[2].startswith("__"):
            continue  # reserved by the parser
        ((_, _, _, found),) = of_parsed(parse(text))
        assert found == [(shown[1], {shown[2]: value}, "1.0")]


def test_names_and_types_as_each_format_has_them() -> None:
    """A counter is named with its suffix in the text format and without it in OpenMetrics, which has an end."""
    family = Family.of("c", "counter", 'A "help" \\ text\nin two lines', [Sample("c_total", (("a", 'x"\\\n'),), 1.0)])
    assert render([family], openmetrics=False) == (
        b'# HELP c_total A "help" \\\\ text\\nin two lines\n# TYPE c_total counter\nc_total{a="x\\"\\\\\\n"} 1.0\n'
    )
    assert render([family], openmetrics=True) == (
        b'# HELP c A \\"help\\" \\\\ text\\nin two lines\n# TYPE c counter\nc_total{a="x\\"\\\\\\n"} 1.0\n# EOF\n'
    )
    assert render([], openmetrics=False) == b""
    assert render([], openmetrics=True) == b"# EOF\n"


def test_text_that_is_not_unicode_breaks_no_exposition() -> None:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, is replaced."""
    family = Family.of("g", "gauge", "a\ud800b", [Sample("g", (("x", "\udfff"),), 1.0)])
    assert render([family], openmetrics=False) == b'# HELP g a?b\n# TYPE g gauge\ng{x="?"} 1.0\n'
