"""Parameters, as RFC 6749 reads them."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.errors import InvalidRequestError
from authly.oauth.parameters import Parameters, parse


def test_values() -> None:
    """Each parameter has one value; an empty one is as one that is not there (section 3.1)."""
    parameters = parse(b"a=1&b=&c=x%20y+z&d")
    assert dict(parameters) == {"a": "1", "c": "x y z"}
    assert parameters.need("a") == "1"
    for missing in ("b", "d", "e"):
        with pytest.raises(InvalidRequestError, match=missing):
            parameters.need(missing)


def test_repeated_parameters() -> None:
    """They are remembered, even where one is empty (section 3.1)."""
    assert parse(b"a=1&b=2&a=").repeated == {"a"}
    with pytest.raises(InvalidRequestError, match="more than once"):
        parse(b"a=1&a=1").refuse_repeated()
    parse(b"a=1&b=1").refuse_repeated()


def test_resources_may_be_repeated() -> None:
    """As RFC 8707, section 2 has it; each counts once."""
    parameters = parse(b"resource=a&resource=b&resource=a&resource=")
    parameters.refuse_repeated()
    assert parameters.resources == ("a", "b")
    assert parameters.pairs() == [("resource", "a"), ("resource", "b")]


@pytest.mark.parametrize("encoded", [b"a=%ff", "a=ü".encode(), b"a=%00", b"%0a=1", b"a=1&" * 200])
def test_what_cannot_be_read(encoded: bytes) -> None:
    """Not UTF-8, control characters, or too many (appendices A and B)."""
    with pytest.raises(InvalidRequestError):
        parse(encoded)


@given(st.binary(max_size=200))
def test_anything(encoded: bytes) -> None:
    """Bytes are parameters or an error, and nothing else."""
    try:
        parameters = parse(encoded)
    except InvalidRequestError:
        return
    assert all(value.isprintable() or not value.isascii() for value in parameters.values())


@given(st.dictionaries(st.text("abc", min_size=1), st.text("xyzäöü &=%+", min_size=1)))
def test_round_trip(values: dict[str, str]) -> None:
    """What is encoded as a form is read as it was."""
    parameters = parse(urlencode(values).encode())
    assert dict(parameters) == values
    assert dict(Parameters(parameters.pairs())) == values
