"""Who is really asking: the peer of the connection, or whom a proxy that is trusted names.

A forwarded header is text that anybody can write. It is believed from configured proxies alone, and from nobody else is
its author taken for the one who asks. This is found out once for each request, by the middleware; whoever decides by
addresses asks :func:`client_address`, and everybody else finds the client where a server puts it.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address | Literal["unix"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]

_Headers = Iterable[tuple[bytes, bytes]]

_FOUND = "authly.client_address"
_FORWARDED = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})
# Of a WebSocket, what the client used is told by the name that it has in HTTP.
_SCHEMES = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}


class UnknownClientError(Exception):
    """It cannot be said who is asking; the message says why."""


class ForwardingMiddleware:
    """Finds out who asks, and puts the address and the scheme where everything behind it looks for them.

    Outermost, so that log lines, limits, policies and audit records agree on who it was. Where it cannot be said who
    asks, the peer stays in its place: it is whom to hold to a limit, and nobody whom a policy would let in.

    Args:
        app: the application.
        proxies: whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = tuple(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with what was found out."""
        if scope["type"] in _SCHEMES:
            scope = dict(scope)
            host = scope["client"][0] if scope.get("client") else ""
            peer = _parse(host) if host else "unix"
            if peer is None or not within(peer, self._proxies):
                scope[_FOUND] = _itself(peer, scope["headers"])
            else:
                scope[_FOUND] = found = _named(scope["headers"], self._proxies)
                scope["scheme"] = _scheme(scope)
                if not isinstance(found, UnknownClientError):
                    scope["client"] = str(found), 0
        await self._app(scope, receive, send)


def client_address(scope: Scope) -> Address:
    """Return the address of whoever asks; ``unix`` for a Unix socket.

    Args:
        scope: of the request, as it is behind the middleware.

    Raises:
        UnknownClientError: it came through a proxy that is not trusted, or that does not say for whom it asks.
    """
    found: Address | UnknownClientError = scope[_FOUND]
    if isinstance(found, UnknownClientError):
        raise found
    return found


def within(address: Address, networks: Iterable[Network]) -> bool:
    """Tell whether an address is in one of some networks; ``unix`` is in ``unix``."""
    return any(address == network if isinstance(network, str) else _is_in(address, network) for network in networks)


def _itself(peer: Address | None, headers: _Headers) -> Address | UnknownClientError:
    """Return a peer that is no proxy of ours, unless it is somebody else's."""
    if peer is None:
        return UnknownClientError("it names no address for whoever asks")
    if any(name in _FORWARDED for name, _ in headers):
        return UnknownClientError("it was forwarded by a proxy that AUTHLY_TRUSTED_PROXIES does not name")
    return peer


def _named(headers: _Headers, proxies: Sequence[Network]) -> Address | UnknownClientError:
    """Return whom proxies speak for."""
    # Each proxy appends whom it was asked by: from the end, up to the first that is no proxy of ours. What stands
    # before it, that one may have made up.
    for text in reversed(_values(headers, b"x-forwarded-for")):
        address = _parse(text)
        if address is None:
            return UnknownClientError("it names no address for whoever asks")
        if not within(address, proxies):
            return address
    return UnknownClientError("the proxy that forwarded it does not say for whom in X-Forwarded-For")


def _scheme(scope: Scope) -> str:
    told = _values(scope["headers"], b"x-forwarded-proto")
    # The last proxy spoke last.
    known = _SCHEMES[scope["type"]].get(told[-1].lower()) if told else None
    return known or str(scope["scheme"])


def _values(headers: _Headers, name: bytes) -> list[str]:
    """Return the elements of a list that a header, however often it is there, holds."""
    lines = [value for key, value in headers if key == name]
    return [entry.strip() for entry in b",".join(lines).decode("latin-1").split(",")] if lines else []


def _is_in(address: Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return not isinstance(address, str) and address.version == network.version and address in network


def _parse(text: str) -> Address | None:
    """Return an address, without the port, the zone and the mapping to IPv6 that it may come with."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
