"""Resource indicators (RFC 8707): for whom a token is meant."""

import re
from collections.abc import Collection

from authly.errors import InvalidTargetError

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]{1,2000}")
_MOST = 10


def is_resource(uri: str) -> bool:
    """Tell whether a URI can be a resource: absolute and without a fragment (section 2)."""
    return _ABSOLUTE.fullmatch(uri) is not None


def choose(requested: Collection[str], allowed: Collection[str]) -> tuple[str, ...]:
    """Return what is asked for, out of what may be; nothing is Authly itself, which the caller adds.

    Raises:
        InvalidTargetError: a resource is malformed or not for this client.
    """
    if len(requested) > _MOST or not all(is_resource(uri) for uri in requested):
        raise InvalidTargetError("A resource is no absolute URI without a fragment, or there are more than 10.")
    if not set(requested) <= set(allowed):
        raise InvalidTargetError("A resource is unknown or not for this client.")
    return tuple(requested)
