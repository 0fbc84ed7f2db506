"""The parameter ``scope`` (RFC 6749, section 3.3), and what a client may ask for with it."""

import re
from collections.abc import Collection

from authly.errors import InvalidScopeError

_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,128}( [\x21\x23-\x5B\x5D-\x7E]{1,128})*")
# What OpenID Connect says of a user; a client that asks for itself has none.
USER_SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})


def split(value: str) -> tuple[str, ...]:
    """Return the scopes of a parameter, each once, in its order.

    Raises:
        InvalidScopeError: it is malformed.
    """
    if not _SCOPE.fullmatch(value):
        raise InvalidScopeError("The parameter scope is malformed: scopes with one space between them.")
    return tuple(dict.fromkeys(value.split(" ")))


def choose(requested: str | None, allowed: Collection[str]) -> tuple[str, ...]:
    """Return what is asked for, out of what may be: all of it if nothing is.

    Raises:
        InvalidScopeError: something else is asked for, or there is nothing to ask for.
    """
    wanted = tuple(allowed) if requested is None else split(requested)
    if not set(wanted) <= set(allowed):
        raise InvalidScopeError("A scope is unknown or not for this client.")
    if not wanted:
        raise InvalidScopeError("No scope is asked for, and the client has none.")
    return wanted
