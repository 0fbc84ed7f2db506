"""Telling a form that Authly sent from one that another site made up.

Each browser gets a random value in a ``__Host-`` cookie, which no other site and no subdomain can set. A form carries
a token derived from that value and from the session in which it was shown; the token differs in each page, so that
compressed pages do not reveal it. Besides, a browser that says where a request comes from (Fetch Metadata, Origin)
must say that it comes from here.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

COOKIE = "__Host-authly_csrf"
FIELD = "csrf_token"
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")
_SALT = 16


def new_value() -> str:
    """Return a random value for a browser's cookie."""
    return secrets.token_urlsafe(32)


def known_value(cookie: str | None) -> str | None:
    """Return the value of a browser's cookie if it can be one of ours."""
    return cookie if cookie is not None and _VALUE.fullmatch(cookie) else None


def make_token(value: str, session: str) -> str:
    """Return a token for a form.

    Args:
        value: of the browser's cookie.
        session: in which the form is shown; empty if there is none.
    """
    salt = secrets.token_hex(_SALT)
    return salt + _digest(value, session, salt)


def is_valid_token(token: str, value: str | None, session: str) -> bool:
    """Tell whether a token was made for this browser and this session."""
    salt, digest = token[: 2 * _SALT], token[2 * _SALT :]
    if value is None or not token.isascii():
        return False
    return hmac.compare_digest(digest, _digest(value, session, salt))


def comes_from_here(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser says nothing against a request coming from a page of this server.

    Args:
        headers: of the request, by names in lower case.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        # "none" is a person who typed an address or reloads; no other site can bring that about.
        return site in {"same-origin", "none"}
    # By host and port alone: behind a proxy Authly does not know by which scheme it is called.
    host = headers.get("host", "")
    return headers.get("origin") in {None, f"https://{host}", f"http://{host}"}


def _digest(value: str, session: str, salt: str) -> str:
    return hmac.digest(value.encode(), f"{salt}.{session}".encode(), hashlib.sha256).hex()
