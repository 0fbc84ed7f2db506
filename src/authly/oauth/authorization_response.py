"""What is added to a redirect URI (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207)."""

from urllib.parse import urlencode

from authly.errors import OAuthError
from authly.oauth.authorization_request import Asked


def with_code(asked: Asked, code: str, issuer: str) -> str:
    """Return where to send the user with a code."""
    return _with(asked, {"code": code}, issuer)


def with_error(asked: Asked, error: OAuthError, issuer: str) -> str:
    """Return where to send the user with an error."""
    return _with(asked, {"error": error.code, "error_description": error.description}, issuer)


def _with(asked: Asked, answer: dict[str, str], issuer: str) -> str:
    # By the issuer a client that talks to several servers notices that one poses as another (RFC 9700, section 4.4).
    state = {} if asked.state is None else {"state": asked.state}
    separator = "&" if "?" in asked.redirect_uri else "?"
    return f"{asked.redirect_uri}{separator}{urlencode({**answer, **state, 'iss': issuer})}"
