"""Which format is answered, and whether it is compressed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.negotiation import (
    FORMATS,
    OPENMETRICS_0_0_1,
    OPENMETRICS_1_0_0,
    TEXT_0_0_4,
    TEXT_1_0_0,
    Format,
    accepts_gzip,
    choose_format,
)

PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS_0_0_1,
            id="2.30",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS_1_0_0,
            id="2.42",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS_1_0_0,
            id="3.x",
        ),
        pytest.param(
            f"{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
            "text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OPENMETRICS_1_0_0,
            id="3.x with native histograms",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS_1_0_0,
            id="3.x with legacy names",
        ),
        pytest.param(
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4",
            TEXT_1_0_0,
            id="3.x with scrape_protocols of text",
        ),
        pytest.param("text/plain;version=0.0.4;q=0.6,*/*;q=0.5", TEXT_0_0_4, id="3.x with scrape_protocols of 0.0.4"),
    ],
)
def test_prometheus_gets_what_it_prefers(accept: str, expected: Format) -> None:
    """The headers that releases of Prometheus send select the format each lists first among those known here."""
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "text/*",
        "text/plain",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
        "application/json",
        f"{PROTOBUF}",
        "text/plain;q=0, application/openmetrics-text;q=0",
        "application/openmetrics-text;version=2.0.0",
        "text/plain;charset=iso-8859-1",
        "text",
        "*",
        "*/plain;q=1",
        ";;;,,,",
    ],
)
def test_text_0_0_4_where_nothing_else_is_asked_for(accept: str | None) -> None:
    """No header, an indifferent one, an impossible one and nonsense all get the format that everything reads."""
    assert choose_format(accept) is TEXT_0_0_4


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text", OPENMETRICS_1_0_0),
        ("application/*", OPENMETRICS_1_0_0),
        ("APPLICATION/OpenMetrics-Text; VERSION=1.0.0; Q=0.3, Text/Plain; q=0.2", OPENMETRICS_1_0_0),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.50", TEXT_0_0_4),
        ("application/openmetrics-text, text/plain", OPENMETRICS_1_0_0),
        ("*/*, application/openmetrics-text", OPENMETRICS_1_0_0),
        ("*/*, application/openmetrics-text;q=0.9", TEXT_0_0_4),
        ("text/plain;q=0, */*", OPENMETRICS_1_0_0),
        ("text/plain;version=0.0.4;q=0, text/plain", TEXT_1_0_0),
        ("text/*;q=0.9, text/plain;q=0.1, application/openmetrics-text;q=0.5", OPENMETRICS_1_0_0),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS_1_0_0),
        ('application/openmetrics-text; version="1.\\0.0"', OPENMETRICS_1_0_0),
        ('application/json; note="a, text/plain;q=1", application/openmetrics-text;q=0.1', OPENMETRICS_1_0_0),
        ("application/openmetrics-text ; version=0.0.1\t; q=1.000", OPENMETRICS_0_0_1),
        ("application/openmetrics-text; q=0.5; extension=1, text/plain;q=0.4", OPENMETRICS_1_0_0),
        ("application/openmetrics-text;escaping=dots", OPENMETRICS_1_0_0),
    ],
)
def test_quality_specificity_and_order_decide(accept: str, expected: Format) -> None:
    """A quality outranks everything, the most specific range decides about a format, then the order counts."""
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    "broken", ["q=2", "q=0.1234", "q=-1", "q=", "q=nan", "version", "=1", 'version="1.0.0', "v=a b"]
)
def test_malformed_pieces_are_as_good_as_absent(broken: str) -> None:
    """A piece that breaks the grammar neither selects a format nor spoils the ones before it."""
    assert choose_format(f"application/openmetrics-text;{broken}") is TEXT_0_0_4
    assert choose_format(f"text/plain;version=1.0.0, application/openmetrics-text;{broken}") is TEXT_1_0_0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip;Q=0.5", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("identity;q=1, gzip;q=0.5", False),
        ("identity;q=0, *;q=0.1", True),
        ("br, zstd", False),
        ("gzip;q=nonsense", False),
        ("gzip;level=9", False),
    ],
)
def test_gzip_only_for_those_who_take_it(header: str | None, expected: bool) -> None:
    """Gzip needs to be named or covered by a wildcard, with a quality above zero and not below that of identity."""
    assert accepts_gzip(header) is expected


_FRAGMENTS = st.sampled_from(
    [*'*/;,="\\ \tq', "text", "plain", "application", "openmetrics-text", "version=", "1.0.0", "q=0.5", "q=", "gzip"]
)


@given(st.text() | st.lists(_FRAGMENTS).map("".join))
def test_any_header_gets_an_answer(header: str) -> None:
    """No string raises, and every answer is one of the known ones."""
    assert choose_format(header) in FORMATS
    assert accepts_gzip(header) in {True, False}


@pytest.mark.parametrize("unit", ['"', '"\\', "\\", ",", ";", "a;q=1,", '"a",', "text/plain;"])
@pytest.mark.timeout(5)
def test_a_long_header_costs_little(unit: str) -> None:
    """No header of the largest size that the server lets through takes more than linear time."""
    for _ in range(10):
        choose_format(unit * (16384 // len(unit)))
