"""Who is really asking: the peer of the connection, or whom a proxy that is trusted names.

A forwarded header is text that anybody can write. It is believed from configured proxies alone, and from nobody else is
its author taken for the one who asks.
"""

import ipaddress
from collections.abc import Sequence
from typing import Literal

from starlette.requests import HTTPConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address | Literal["unix"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]

_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


class UnknownClientError(Exception):
    """It cannot be said who is asking; the message says why."""


def within(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address is in one of some networks; ``unix`` is in ``unix``."""
    return any(address == network if isinstance(network, str) else _is_in(address, network) for network in networks)


def client_address(connection: HTTPConnection, proxies: Sequence[Network]) -> Address:
    """Return the address of whoever asks; ``unix`` for a Unix socket.

    Args:
        connection: the request.
        proxies: whose ``X-Forwarded-For`` is believed.

    Raises:
        UnknownClientError: it came through a proxy that is not trusted, or that does not say for whom it asks.
    """
    host = connection.client.host if connection.client else ""
    peer = _parse(host) if host else "unix"
    if not within(peer, proxies):
        if any(name in connection.headers for name in _FORWARDED):
            raise UnknownClientError("it was forwarded by a proxy that AUTHLY_TRUSTED_PROXIES does not name")
        return peer
    named = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
    # Each proxy appends whom it was asked by: from the end, up to the first that is no proxy of ours. What stands
    # before it, that one may have made up.
    for text in reversed(named):
        address = _parse(text.strip())
        if not within(address, proxies):
            return address
    raise UnknownClientError("the proxy that forwarded it does not say for whom in X-Forwarded-For")


def _is_in(address: Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return not isinstance(address, str) and address.version == network.version and address in network


def _parse(text: str) -> Address:
    """Return an address, without the port, the zone and the mapping to IPv6 that it may come with."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise UnknownClientError("it names no address for whoever asks") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
