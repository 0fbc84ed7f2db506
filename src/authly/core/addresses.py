"""Network addresses of clients."""

import ipaddress


def network_of(host: str) -> str:
    """Return what stands for a client: its address, of IPv6 the network that one subscriber has to himself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return host
