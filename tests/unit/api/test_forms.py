"""Reading forms."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from authly.api.forms import BadFormError, read_form

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"


def request(body: bytes, content_type: str | None = FORM, chunk: int = 1000) -> Request:
    """Return a request with a body, which arrives in chunks."""

    async def receive() -> dict[str, object]:
        return await anext(messages)

    async def send_chunks() -> AsyncIterator[dict[str, object]]:
        for start in range(0, len(body), chunk):
            yield {"type": "http.request", "body": body[start : start + chunk], "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = send_chunks()
    headers = [(b"content-type", content_type.encode())] if content_type is not None else []
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=utf-8", FORM.upper(), f" {FORM} ;x"])
async def test_a_form(content_type: str) -> None:
    """Fields come back decoded, empty ones too."""
    body = b"username=ada%20l&password=%E2%98%83+%26%3D&empty=&=nameless"
    fields = await read_form(request(body, content_type, 7))
    assert fields == {"username": "ada l", "password": "☃ &=", "empty": "", "": "nameless"}


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", "multipart/form-data; boundary=x", "text/plain"]
)
async def test_another_content_type_is_refused(content_type: str | None) -> None:
    """Forms of other sites can have some of these without asking; ours have none of them."""
    with pytest.raises(BadFormError, match="x-www-form-urlencoded"):
        await read_form(request(b"a=b", content_type))


@pytest.mark.parametrize(
    "body",
    [b"a=1&a=2", b"a=1&a=1", b"a=%FF", b"a=\xff", b"&".join(b"a%d=" % n for n in range(200))],
)
async def test_what_cannot_be_understood_is_refused(body: bytes) -> None:
    """A field that is there twice, bytes that are not UTF-8, far too many fields."""
    with pytest.raises(BadFormError):
        await read_form(request(body))


async def test_a_large_form_is_refused_before_it_has_arrived() -> None:
    """Reading stops a little beyond the limit."""
    asked = 0

    async def receive() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 1024, "more_body": True}

    headers = [(b"content-type", FORM.encode())]
    with pytest.raises(BadFormError, match="larger"):
        await read_form(Request({"type": "http", "method": "POST", "headers": headers}, receive))
    assert asked == 65


@given(
    st.dictionaries(st.text(alphabet=st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=9)
)
async def test_whatever_a_browser_encodes_comes_back(fields: dict[str, str]) -> None:
    """Any text, in names and in values."""
    assert await read_form(request(urlencode(fields).encode(), chunk=11)) == fields


@given(st.binary(max_size=200))
async def test_any_bytes_are_a_form_or_an_error(body: bytes) -> None:
    """Nothing else is raised."""
    try:
        await read_form(request(body))
    except BadFormError:
        return
