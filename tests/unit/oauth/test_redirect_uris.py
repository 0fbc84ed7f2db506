"""Which redirect URIs can be registered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.oauth.redirect_uris import RedirectUriError, check, find


@pytest.mark.parametrize(
    ("uri", "native"),
    [
        ("https://client.example/callback", False),
        ("https://client.example:8443/callback?tenant=1", False),
        ("https://client.example", False),
        ("https://[2001:db8::1]/callback", False),
        ("http://localhost:3000/callback", False),
        ("http://127.0.0.1/callback", True),
        ("http://[::1]:8080/callback", True),
        ("com.example.app:/callback", True),
        ("com.example.app:/", True),
    ],
)
def test_good_ones(uri: str, native: bool) -> None:
    """Https anywhere, http on the loopback interface, private-use schemes for native applications."""
    check(uri, native=native)


@pytest.mark.parametrize(
    ("uri", "native", "why"),
    [
        ("http://client.example/callback", False, "neither https"),
        ("http://127.0.0.1.evil.example/", True, "neither https"),
        ("https://client.example/#fragment", False, "fragment"),
        ("https://client.example/#", False, "fragment"),
        ("https://user@client.example/", False, "user name"),
        ("https://*.client.example/", False, "any"),
        ("https:///callback", False, "no host"),
        ("https:client.example", False, "no host"),
        ("//client.example/", False, "scheme"),
        ("/callback", False, "scheme"),
        ("HTTPS://client.example/", False, "scheme"),
        ("https://client.example/../callback", False, "dots"),
        ("https://client.example:port/", False, "no URI"),
        ("https://client.example:99999/", False, "no URI"),
        ("https://[::1/", False, "no URI"),
        ("https://client.example/a b", False, "characters"),
        ("https://client.example/\n", False, "characters"),
        ("https://client.example/\\", False, "characters"),
        ("https://clïent.example/", False, "characters"),
        ("", False, "characters"),
        ("https://client.example/" + "a" * 2000, False, "characters"),
        ("com.example.app:/callback", False, "native"),
        ("javascript:alert(1)", True, "reversed domain"),
        ("data:text/html,x", True, "reversed domain"),
        ("myapp:/callback", True, "reversed domain"),
        ("com.example.app://host/callback", True, "no host"),
    ],
)
def test_bad_ones(uri: str, native: bool, why: str) -> None:
    """Each is refused, and the message says why."""
    if why == "any":
        # No wildcard: it is a host name like another, which matches nothing but itself.
        check(uri, native=native)
        assert not find("https://www.client.example/", [uri], native=native)
        return
    with pytest.raises(RedirectUriError, match=why):
        check(uri, native=native)


@given(st.text(max_size=80), st.booleans())
def test_anything(text: str, native: bool) -> None:
    """Whatever it is, it is accepted or refused; and what is not registered is not found."""
    for uri in (text, f"https://client.example/{text}", f"https://{text}", f"http://127.0.0.1{text}"):
        try:
            check(uri, native=native)
        except RedirectUriError:
            continue
        assert uri.isascii()
        assert find(uri, [uri], native=native)
        assert not find(uri + "x", [uri], native=native)


@given(st.text(max_size=80))
def test_loopback_is_the_only_exception(text: str) -> None:
    """What differs from what is registered is found only on the same address with the same path."""
    registered = "http://127.0.0.1/callback"
    requested = f"http://127.0.0.1{text}"
    if requested != registered and find(requested, [registered], native=True):
        port = text.removeprefix(":").removesuffix("/callback")
        assert text == f":{port}/callback"
        assert 0 < int(port) < 65536
