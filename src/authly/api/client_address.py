"""Who is at the other end: the peer of the socket, or whom a proxy that is trusted says it speaks for."""

import ipaddress
from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Headers = Iterable[tuple[bytes, bytes]]


class ClientAddressMiddleware:
    """Puts the client's address, and the scheme the client used, where everything behind it looks for them.

    Forwarded headers are believed of configured proxies alone. Outermost, so that log lines, limits and audit records
    agree on who it was.

    Args:
        app: the application.
        trusted: the networks of the proxies.
        trust_unix: whether peers on a Unix socket, which have no address, are proxies too.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network], trust_unix: bool = False) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._trust_unix = trust_unix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its client's address if a proxy told it."""
        if scope["type"] in {"http", "websocket"}:
            peer = scope["client"][0] if scope.get("client") else ""
            if self._is_proxy(peer):
                address = client_address(peer, scope["headers"], self._trusted)
                scope = {**scope, "client": (address, 0), "scheme": self._scheme(scope)}
        await self._app(scope, receive, send)

    def _is_proxy(self, peer: str) -> bool:
        return is_within(peer, self._trusted) if peer else self._trust_unix

    def _scheme(self, scope: Scope) -> str:
        told = _values(scope["headers"], b"x-forwarded-proto")
        # The last proxy spoke last.
        scheme = told[-1].lower() if told else ""
        if scope["type"] == "websocket":
            scheme = {"https": "wss", "http": "ws"}.get(scheme, scheme)
            return scheme if scheme in {"ws", "wss"} else str(scope["scheme"])
        return scheme if scheme in {"http", "https"} else str(scope["scheme"])


def client_address(peer: str, headers: _Headers, trusted: Sequence[Network]) -> str:
    """Return the address of the client behind a proxy that is trusted.

    ``X-Forwarded-For`` is walked from the right, where each proxy wrote down its own peer, past the proxies that are
    trusted, to the first address that is none of them. What stands left of that is hearsay. An entry that is no address
    ends the walk: its proxy did not know.

    Args:
        peer: the proxy.
        headers: those of the request, names in lower case.
        trusted: the networks of the proxies.
    """
    found = peer
    for entry in reversed(_values(headers, b"x-forwarded-for")):
        address = _address(entry)
        if address is None:
            break
        found = str(address)
        if not is_within(found, trusted):
            break
    return found


def is_within(host: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address is in one of some networks; what is no address is in none."""
    address = _address(host)
    return address is not None and any(address in network for network in networks)


def _values(headers: _Headers, name: bytes) -> list[str]:
    """Return the elements of a list that a header, however often it is there, holds."""
    joined = b",".join(value for key, value in headers if key == name)
    return [entry.strip() for entry in joined.decode("latin-1").split(",") if entry.strip()]


def _address(entry: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Understand an address, with or without a port or brackets; an IPv4 address within IPv6 is an IPv4 address."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        address = ipaddress.ip_address(entry.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
