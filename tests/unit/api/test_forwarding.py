"""Whose word is believed about who a client is."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from authly.api.forwarding import Address, Network, UnknownClientError, client_address, within
from tests.asgi import seen_from

pytestmark = pytest.mark.anyio

PROXIES: list[Network] = [ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/64")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        # What the client itself wrote stands in front, and is not believed.
        ("10.0.0.1", ["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["127.0.0.1", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["nonsense, 192.0.2.7"], "192.0.2.7"),
        # Several proxies, one behind the other.
        ("10.0.0.1", ["127.0.0.1, 192.0.2.7, 10.0.0.2, 10.0.0.3"], "192.0.2.7"),
        ("10.0.0.1", ["127.0.0.1, 10.0.1.2, 10.0.0.3"], "10.0.1.2"),
    ],
)
async def test_the_client_is_found(peer: str, forwarded: list[str], found: str) -> None:
    """It is the peer, or what the first trusted proxy was asked by."""
    scope = await seen_from(peer, [("x-forwarded-for", value) for value in forwarded], PROXIES)
    assert str(client_address(scope)) == found
    if forwarded:
        assert scope["client"] == (found, 0)


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        # Forwarded by somebody who is not trusted: even loopback may be a proxy that nobody configured.
        ("127.0.0.1", [("x-forwarded-for", "127.0.0.1")]),
        ("127.0.0.1", [("x-forwarded-for", "")]),
        ("192.0.2.1", [("x-forwarded-for", "127.0.0.1")]),
        ("127.0.0.1", [("forwarded", "for=127.0.0.1")]),
        ("127.0.0.1", [("x-real-ip", "127.0.0.1")]),
        (None, [("x-forwarded-for", "127.0.0.1")]),
        # A trusted proxy that does not say for whom.
        ("10.0.0.1", []),
        ("10.0.0.1", [("forwarded", "for=127.0.0.1")]),
        ("10.0.0.1", [("x-forwarded-for", "")]),
        ("10.0.0.1", [("x-forwarded-for", "unknown")]),
        ("10.0.0.1", [("x-forwarded-for", "127.0.0.1, unknown")]),
        ("10.0.0.1", [("x-forwarded-for", "127.0.0.1, ")]),
        ("10.0.0.1", [("x-forwarded-for", "10.0.0.2")]),
        ("10.0.0.1", [("x-forwarded-for", "127.1")]),
        ("10.0.0.1", [("x-forwarded-for", "2130706433")]),
        ("10.0.0.1", [("x-forwarded-for", "unix")]),
        ("testclient", []),
    ],
)
async def test_the_client_is_not_guessed(peer: str | None, headers: list[tuple[str, str]]) -> None:
    """Where it cannot be said for certain who asks, nobody is taken for it; the peer is whom to hold to limits."""
    scope = await seen_from(peer, headers, PROXIES)
    with pytest.raises(UnknownClientError):
        client_address(scope)
    assert scope["client"] == ((peer, 1234) if peer else None)


async def test_a_unix_socket_is_a_place_too() -> None:
    """Whoever comes over a Unix socket is unix; it may be a trusted proxy."""
    scope = await seen_from(None, [], PROXIES)
    assert (client_address(scope), scope["client"]) == ("unix", None)
    scope = await seen_from(None, [("x-forwarded-for", "192.0.2.7")], ["unix"])
    assert str(client_address(scope)) == "192.0.2.7"
    assert scope["client"] == ("192.0.2.7", 0)


@given(text=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0")))
async def test_any_header_is_an_address_or_nobody(text: str) -> None:
    """No text fails in another way, and none becomes a place that no address has."""
    try:
        found = client_address(await seen_from("10.0.0.1", [("x-forwarded-for", text)], PROXIES))
    except UnknownClientError:
        return
    assert found != "unix"


@given(st.lists(st.ip_addresses(), max_size=4), st.ip_addresses())
async def test_a_client_cannot_lie(made_up: list[Address], real: Address) -> None:
    """Whatever a client writes into the header, the address that the proxy saw counts."""
    real = getattr(real, "ipv4_mapped", None) or real
    assume(not within(real, PROXIES))
    header = ", ".join(map(str, [*made_up, real]))
    assert client_address(await seen_from("10.0.0.1", [("x-forwarded-for", header)], PROXIES)) == real


@pytest.mark.parametrize(
    ("peer", "proto", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "HTTPS", "https"),
        # The last proxy spoke last.
        ("10.0.0.1", "http, https", "https"),
        ("10.0.0.1", "https, http", "http"),
        ("192.0.2.1", "https", "http"),
        (None, "https", "http"),
        ("10.0.0.1", "javascript", "http"),
        ("10.0.0.1", "https\x00", "http"),
        ("10.0.0.1", "", "http"),
        ("10.0.0.1", "https,ftp", "http"),
    ],
)
async def test_the_scheme(peer: str | None, proto: str, scheme: str) -> None:
    """It is what a trusted proxy says that the client used, if that is one at all."""
    scope = await seen_from(peer, [("x-forwarded-proto", proto)], PROXIES)
    assert scope["scheme"] == scheme
