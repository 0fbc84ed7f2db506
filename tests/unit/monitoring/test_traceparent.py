"""The header traceparent: what is a trace id, and what is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.traceparent import trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
HEX = "0123456789abcdef"


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f" \t00-{TRACE}-{PARENT}-01 \t",
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-brings",
        f"fe-{TRACE}-{PARENT}-01-",
    ],
)
def test_a_valid_header_has_a_trace_id(header: str) -> None:
    """Version 00, and a later version as far as it is laid out like it, say which trace it is."""
    assert trace_id([(b"host", b"x"), (b"traceparent", header.encode()), (b"tracestate", b"x=y")]) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-extra",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-0x",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"0G-{TRACE}-{PARENT}-01",
        f"01-{TRACE}-{PARENT}-01what",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
    ],
)
def test_an_invalid_header_has_none(header: str) -> None:
    """Whatever the specification does not allow is as good as no header."""
    assert trace_id([(b"traceparent", header.encode())]) == ""


def test_no_header_and_several_have_none() -> None:
    """Of two headers nobody can know which is meant."""
    header = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    assert trace_id([]) == ""
    assert trace_id([(b"tracestate", header[1])]) == ""
    assert trace_id([header, header]) == ""


NEARLY = st.tuples(
    st.sampled_from(["00", "01", "ff", "cc"]) | st.text(HEX, max_size=3),
    st.text(HEX, min_size=32, max_size=32) | st.text(HEX + "AZ", min_size=31, max_size=33) | st.just("0" * 32),
    st.text(HEX, min_size=16, max_size=16) | st.text(HEX + "AZ", min_size=15, max_size=17) | st.just("0" * 16),
    st.sampled_from(["00", "01", "01-x"]) | st.text(max_size=4),
).map(lambda parts: "-".join(parts).encode())


@given(st.lists(st.tuples(st.just(b"traceparent") | st.binary(), NEARLY | st.binary()), max_size=3))
def test_only_valid_ids_are_accepted(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client sends, the answer is nothing or 32 lower-case hexadecimal digits that are not all zeros."""
    found = trace_id(headers)
    if found:
        assert re.fullmatch("[0-9a-f]{32}", found)
        assert found != "0" * 32
        (value,) = [value for name, value in headers if name == b"traceparent"]
        version, trace, parent, flags = value.decode("latin-1").strip(" \t").split("-", 3)
        assert trace == found
        assert re.fullmatch("[0-9a-f]{16}", parent)
        assert int(parent, 16)
        assert re.fullmatch("[0-9a-f]{2}", version)
        assert version != "ff"
        assert re.fullmatch("[0-9a-f]{2}", flags[:2])
        assert flags[2:3] in {"", "-"}
        assert version != "00" or len(flags) == 2
