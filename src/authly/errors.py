"""Protocol errors: one class for each error code of the RFCs, thrown anywhere, written to a response in one place.

Owns the codes and their HTTP statuses. Does not know how an error reaches the client: ``authly.api.errors`` writes it
into a response, ``authly.api.authorize_router`` into a redirect.
"""

from typing import ClassVar


class OAuthError(Exception):
    """What a client is told when its request is refused.

    Args:
        description: a sentence for developers. Never holds what the client sent, since it is repeated in URLs and logs;
            only the characters that RFC 6749, section 5.2 allows: printable ASCII without quotes and backslashes.
    """

    code: ClassVar[str]
    status: ClassVar[int] = 400

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description


class InvalidRequestError(OAuthError):
    """Something is missing, there twice, or malformed (RFC 6749, sections 4.1.2.1 and 5.2)."""

    code = "invalid_request"


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body is no form (RFC 6749, appendix B)."""

    status = 415


class RequestTooLargeError(InvalidRequestError):
    """The body is larger than anything a client has to say."""

    status = 413


class InvalidClientError(OAuthError):
    """The client did not authenticate, or not as it is registered to (RFC 6749, section 5.2)."""

    code = "invalid_client"
    status = 401


class InvalidGrantError(OAuthError):
    """A code or refresh token is unknown, expired, used, revoked, or another client's (RFC 6749, section 5.2)."""

    code = "invalid_grant"


class UnauthorizedClientError(OAuthError):
    """The client may not do this (RFC 6749, sections 4.1.2.1 and 5.2)."""

    code = "unauthorized_client"


class UnsupportedGrantTypeError(OAuthError):
    """Authly has no such grant (RFC 6749, section 5.2)."""

    code = "unsupported_grant_type"


class UnsupportedResponseTypeError(OAuthError):
    """Authly has no such response type (RFC 6749, section 4.1.2.1)."""

    code = "unsupported_response_type"


class InvalidScopeError(OAuthError):
    """A scope is unknown, malformed, or not for this client (RFC 6749, sections 4.1.2.1 and 5.2)."""

    code = "invalid_scope"


class InvalidTargetError(OAuthError):
    """A resource is malformed, or not for this client (RFC 8707, section 2)."""

    code = "invalid_target"


class AccessDeniedError(OAuthError):
    """The user, or Authly, said no (RFC 6749, section 4.1.2.1)."""

    code = "access_denied"
    status = 403


class RequestNotSupportedError(OAuthError):
    """Authly reads no request objects (OpenID Connect Core 1.0, section 3.1.2.6)."""

    code = "request_not_supported"


class RequestUriNotSupportedError(OAuthError):
    """Authly fetches no request objects (OpenID Connect Core 1.0, section 3.1.2.6)."""

    code = "request_uri_not_supported"


class LoginNeededError(OAuthError):
    """The user would have to authenticate, or is another than the client means (OpenID Connect Core 1.0, 3.1.2.6)."""

    code = "login_required"


class ConsentNeededError(OAuthError):
    """The user would have to be asked (OpenID Connect Core 1.0, section 3.1.2.6)."""

    code = "consent_required"


class AccountSelectionNeededError(OAuthError):
    """The user would have to choose an account (OpenID Connect Core 1.0, section 3.1.2.6)."""

    code = "account_selection_required"


class UnmetAuthenticationRequirementsError(OAuthError):
    """Authly cannot authenticate users as the client needs it (OpenID Connect Core Error Code of that name)."""

    code = "unmet_authentication_requirements"


class InvalidRequestUriError(OAuthError):
    """A pushed request is unknown, expired, used, or another client's (RFC 9126, section 4)."""

    code = "invalid_request_uri"


class UnsupportedTokenTypeError(OAuthError):
    """Authly cannot revoke tokens of this type (RFC 7009, section 2.2.1)."""

    code = "unsupported_token_type"


class InvalidTokenError(OAuthError):
    """An access token is malformed, expired, revoked, or for another audience (RFC 6750, section 3.1)."""

    code = "invalid_token"
    status = 401


class InsufficientScopeError(OAuthError):
    """An access token does not carry the scope that this needs (RFC 6750, section 3.1)."""

    code = "insufficient_scope"
    status = 403


class ServerError(OAuthError):
    """Authly cannot answer, and its log says why (RFC 6749, section 4.1.2.1)."""

    code = "server_error"
    status = 500


class TemporarilyUnavailableError(OAuthError):
    """Authly cannot answer now; the client should try again (RFC 6749, section 4.1.2.1)."""

    code = "temporarily_unavailable"
    status = 503
