"""What the client is told (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207), and how it gets there."""

from dataclasses import dataclass
from urllib.parse import urlencode

from authly.errors import OAuthError
from authly.oauth.authorization_request import Asked, ResponseMode


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """An answer to an authorization request."""

    redirect_uri: str
    mode: ResponseMode
    parameters: dict[str, str]

    @property
    def location(self) -> str:
        """Where to send the user, with the answer in the query."""
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode(self.parameters)}"


def with_code(asked: Asked, code: str, issuer: str) -> AuthorizationResponse:
    """Return an answer with a code."""
    return _with(asked, {"code": code}, issuer)


def with_error(asked: Asked, error: OAuthError, issuer: str) -> AuthorizationResponse:
    """Return an answer with an error."""
    return _with(asked, {"error": error.code, "error_description": error.description}, issuer)


def _with(asked: Asked, answer: dict[str, str], issuer: str) -> AuthorizationResponse:
    # By the issuer a client that talks to several servers notices that one poses as another (RFC 9700, section 4.4).
    state = {} if asked.state is None else {"state": asked.state}
    return AuthorizationResponse(asked.redirect_uri, asked.response_mode, {**answer, **state, "iss": issuer})
