"""An authorization request: first who asks and where answers go, then everything else (RFC 6749, section 4.1.1)."""

from dataclasses import dataclass
from enum import StrEnum

from authly.errors import (
    InvalidRequestError,
    RequestNotSupportedError,
    RequestUriNotSupportedError,
    UnauthorizedClientError,
    UnsupportedResponseTypeError,
)
from authly.oauth import pkce, redirect_uris, resources, scope_values
from authly.oauth.models import Client, GrantType
from authly.oauth.parameters import Parameters

# Of these a second one leaves open where to send an error.
_NEEDED_FOR_ANSWER = frozenset({"client_id", "redirect_uri", "request_uri"})
_LONGEST_NONCE = 512


class UnregisteredRedirectUriError(InvalidRequestError):
    """A redirect URI is not one that the client has registered."""

    def __init__(self) -> None:
        super().__init__("The redirect_uri is not one that the client has registered.")


class ResponseMode(StrEnum):
    """How an answer travels (OAuth 2.0 Multiple Response Types; OAuth 2.0 Form Post Response Mode)."""

    QUERY = "query"
    FORM_POST = "form_post"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of which it is known whose it is and where the answer goes, and nothing else yet."""

    client: Client
    redirect_uri: str
    state: str | None
    response_mode: ResponseMode
    parameters: Parameters
    # The name under which it was pushed, if it was (RFC 9126).
    pushed_as: str | None = None


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that can be put to the user."""

    asked: Asked
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    # None for a client that is exempt from PKCE and sent none.
    code_challenge: str | None
    nonce: str | None

    @property
    def client(self) -> Client:
        """Who asks."""
        return self.asked.client


def refuse_ambiguous(parameters: Parameters) -> None:
    """Make sure that there is one answer to the question where errors go.

    Raises:
        InvalidRequestError: there is not.
    """
    if parameters.repeated & _NEEDED_FOR_ANSWER:
        raise InvalidRequestError("A parameter is there more than once.")


def identify(client: Client, parameters: Parameters, pushed_as: str | None = None) -> Asked:
    """Find out where answers go.

    Raises:
        InvalidRequestError: the redirect URI is missing, or not one of the client's. The error is for the user's eyes:
            to redirect anywhere would make Authly an open redirector (RFC 9700, section 4.11).
    """
    registered = client.settings.redirect_uris
    requested = parameters.get("redirect_uri")
    if requested is None:
        if len(registered) != 1:
            raise InvalidRequestError("The parameter redirect_uri is missing.")
        requested = registered[0]
    if not redirect_uris.find(requested, registered, native=client.is_native):
        raise UnregisteredRedirectUriError
    state = None if "state" in parameters.repeated else parameters.get("state")
    # Errors travel as the answer would have; a mode that there is none of is an error itself.
    mode = ResponseMode.FORM_POST if parameters.get("response_mode") == ResponseMode.FORM_POST else ResponseMode.QUERY
    return Asked(client, requested, state, mode, parameters, pushed_as)


def check(asked: Asked) -> AuthorizationRequest:
    """Check everything else; errors are for the client.

    Raises:
        OAuthError: something is missing, malformed, or not for this client.
    """
    client, parameters = asked.client, asked.parameters
    parameters.refuse_repeated()
    if "request" in parameters:
        raise RequestNotSupportedError("Authly reads no request objects.")
    if "request_uri" in parameters:
        raise RequestUriNotSupportedError("Authly takes no request_uri but those of pushed authorization requests.")
    if client.settings.require_pushed_authorization_requests and asked.pushed_as is None:
        raise InvalidRequestError("The client has to push its authorization requests.")
    if parameters.need("response_type") != "code":
        raise UnsupportedResponseTypeError("The response_type has to be code.")
    if not client.may_use(GrantType.AUTHORIZATION_CODE):
        raise UnauthorizedClientError("The client may not use authorization codes.")
    if parameters.get("response_mode", asked.response_mode) != asked.response_mode:
        raise InvalidRequestError("The response_mode has to be query or form_post.")
    if len(parameters.get("nonce", "")) > _LONGEST_NONCE:
        raise InvalidRequestError("The parameter nonce is longer than 512 characters.")
    code_challenge = pkce.challenge_of(parameters, required=client.settings.require_pkce)
    if code_challenge is None and "redirect_uri" not in parameters:
        raise InvalidRequestError("The parameter redirect_uri is missing, and so is the proof of PKCE.")
    return AuthorizationRequest(
        asked,
        scopes=scope_values.choose(parameters.get("scope"), client.settings.scopes),
        resources=resources.choose(parameters.resources, client.settings.resources),
        code_challenge=code_challenge,
        nonce=parameters.get("nonce"),
    )
