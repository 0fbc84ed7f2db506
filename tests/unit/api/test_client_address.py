"""Whose word is believed about who a client is."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.api.client_address import ClientAddressMiddleware, Network, client_address, is_within
from tests.asgi import Echo, ask

pytestmark = pytest.mark.anyio

TRUSTED: list[Network] = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")]


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    """Return headers with each value of X-Forwarded-For in a line of its own."""
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], "10.0.0.1"),
        (["192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.1.1.1, 10.2.2.2"], "192.0.2.7"),
        (["192.0.2.7, 2001:db8::1"], "192.0.2.7"),
        (["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2a00::7]:4711"], "2a00::7"),
        (["2a00::7"], "2a00::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["unknown"], "10.0.0.1"),
        (["192.0.2.7, unknown"], "10.0.0.1"),
        (["192.0.2.7, unknown, 10.1.1.1"], "10.1.1.1"),
        (["<script>, 10.1.1.1"], "10.1.1.1"),
        ([" , ,192.0.2.7, ,"], "192.0.2.7"),
    ],
)
def test_walk(values: list[str], found: str) -> None:
    """From the right, past what is trusted, to the first that is not; what is no address ends the walk."""
    assert client_address("10.0.0.1", forwarded(*values), TRUSTED) == found


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=40), max_size=5))
def test_any_header(values: list[str]) -> None:
    """Whatever stands in the header, the result is an address."""
    ipaddress.ip_address(client_address("10.0.0.1", forwarded(*values), TRUSTED))


@given(st.lists(st.ip_addresses(), max_size=4), st.ip_addresses().filter(lambda a: not is_within(str(a), TRUSTED)))
def test_a_client_cannot_lie(made_up: list[ipaddress.IPv4Address], real: ipaddress.IPv4Address) -> None:
    """Whatever a client writes into the header, the address that the proxy saw counts."""
    header = ", ".join(map(str, [*made_up, real]))
    found = ipaddress.ip_address(client_address("10.0.0.1", forwarded(header), TRUSTED))
    assert found in {real, getattr(real, "ipv4_mapped", None)}


HEADERS = {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https"}


async def test_a_trusted_proxy() -> None:
    """Everything behind the middleware sees the client's address and scheme."""
    app = Echo()
    await ask(ClientAddressMiddleware(app, TRUSTED), headers=HEADERS, client="10.0.0.1")
    assert app.scopes[0]["client"] == ("192.0.2.7", 0)
    assert app.scopes[0]["scheme"] == "https"


@pytest.mark.parametrize("client", ["192.0.2.1", None])
async def test_anybody_else(client: str | None) -> None:
    """The headers of a peer that is no proxy mean nothing."""
    app = Echo()
    await ask(ClientAddressMiddleware(app, TRUSTED), headers=HEADERS, client=client)
    assert app.scopes[0]["client"] == ((client, 1234) if client else None)
    assert app.scopes[0]["scheme"] == "http"


async def test_a_proxy_on_a_unix_socket() -> None:
    """A peer without an address is a proxy where that is said."""
    app = Echo()
    await ask(ClientAddressMiddleware(app, (), trust_unix=True), headers=HEADERS, client=None)
    assert app.scopes[0]["client"] == ("192.0.2.7", 0)


@pytest.mark.parametrize("scheme", ["javascript", "https\x00", "", "http,ftp"])
async def test_schemes_that_are_none(scheme: str) -> None:
    """A scheme that is neither http nor https changes nothing."""
    app = Echo()
    headers = {"x-forwarded-proto": scheme}
    await ask(ClientAddressMiddleware(app, TRUSTED), headers=headers, client="10.0.0.1")
    assert app.scopes[0]["scheme"] == "http"
