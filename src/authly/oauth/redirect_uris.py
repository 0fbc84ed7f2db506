"""Which redirect URIs a client may register, and whether a request names one of them."""

import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

_LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
# The characters of RFC 3986; no spaces, quotes, backslashes or others that somebody might read in another way.
_URI = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,2000}")
# Private-use schemes are reversed domain names (RFC 8252, section 7.1): that keeps out javascript, data, file, ...
_PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")
_LOOPBACK = re.compile(r"http://(?P<host>127\.0\.0\.1|\[::1\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?].*)?")


class RedirectUriError(ValueError):
    """A redirect URI cannot be registered; the message says why."""


def check(uri: str, *, native: bool) -> None:
    """Make sure that a redirect URI can be registered.

    Args:
        uri: the URI.
        native: whether the client is a native application, which may also have URIs with a private-use scheme.

    Raises:
        RedirectUriError: it is no absolute URI without a fragment (RFC 6749, section 3.1.2), or would send codes
            through the open (RFC 9700, section 2.6).
    """
    if not _URI.fullmatch(uri):
        raise RedirectUriError("it has characters that URIs do not have, or more than 2000")
    try:
        parts = urlsplit(uri)
        host = _host(parts)
    except ValueError as error:
        raise RedirectUriError("it is no URI") from error
    if "#" in uri:
        raise RedirectUriError("it has a fragment")
    if "@" in parts.netloc:
        raise RedirectUriError("it has a user name")
    if uri.partition(":")[0] != parts.scheme or parts.scheme not in {"http", "https"}:
        _check_private(parts, uri, native=native)
        return
    if not host:
        raise RedirectUriError("it has no host")
    if parts.scheme == "http" and host not in _LOOPBACK_NAMES:
        raise RedirectUriError("it is neither https nor on the loopback interface")
    if any(segment in {".", ".."} for segment in parts.path.split("/")):
        raise RedirectUriError("its path has segments that are dots")


def find(requested: str, registered: Collection[str], *, native: bool) -> bool:
    """Tell whether a requested redirect URI is registered: character by character (RFC 9700, section 4.1.3).

    The one exception is the port of a native application on a loopback address, which the operating system chooses
    (RFC 8252, section 7.3).
    """
    if requested in registered:
        return True
    if not native:
        return False
    wanted = _without_port(requested)
    return wanted is not None and any(_without_port(uri) == wanted for uri in registered)


def _host(parts: SplitResult) -> str:
    _ = parts.port  # raises ValueError where it is none
    return parts.hostname or ""


def _check_private(parts: SplitResult, uri: str, *, native: bool) -> None:
    scheme = uri.partition(":")[0]
    if not native:
        raise RedirectUriError("its scheme is neither https nor http, and the client is no native application")
    if not _PRIVATE_SCHEME.fullmatch(scheme):
        raise RedirectUriError("its scheme is neither https nor a reversed domain name such as com.example.app")
    if parts.netloc:
        raise RedirectUriError("private-use schemes have no host: write scheme:/path")


def _without_port(uri: str) -> tuple[str, str] | None:
    match = _LOOPBACK.fullmatch(uri)
    if match is None or int(match["port"] or 80) not in range(1, 65536):
        return None
    return match["host"], match["rest"] or ""
