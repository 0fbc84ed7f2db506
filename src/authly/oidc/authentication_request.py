"""An authentication request: an authorization request, and how the user is to be authenticated (section 3.1.2.1).

Sections are those of OpenID Connect Core 1.0.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from authly.errors import InvalidRequestError, UnmetAuthenticationRequirementsError
from authly.oauth import authorization_request
from authly.oauth.authorization_request import Asked, AuthorizationRequest
from authly.oauth.models import Client
from authly.oauth.parameters import Parameters
from authly.oidc import claims
from authly.oidc.claims import ClaimsRequest

# What Authly can say of an authentication by password: SAML 2.0's name, which is an absolute URI as acr has to be one.
ACR_PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
ACR_VALUES = (ACR_PASSWORD,)
OPENID = "openid"
# The longest that a number of seconds makes sense.
_LONGEST_AGE = 10**9


class Prompt(StrEnum):
    """What the user is to be shown, or not."""

    NONE = "none"
    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"


class Display(StrEnum):
    """What the client shows the user's pages in. They look the same in all of these."""

    PAGE = "page"
    POPUP = "popup"
    TOUCH = "touch"


@dataclass(frozen=True, slots=True)
class AuthenticationRequest:
    """A request that can be put to the user, and how."""

    request: AuthorizationRequest
    prompt: frozenset[Prompt]
    max_age: timedelta | None
    login_hint: str
    id_token_hint: str | None
    claims: ClaimsRequest

    @property
    def client(self) -> Client:
        """Who asks."""
        return self.request.client

    @property
    def scopes_to_allow(self) -> tuple[str, ...]:
        """What the user is asked: the scopes of the request, and those of claims that it asks for one by one."""
        return tuple(dict.fromkeys((*self.request.scopes, *self.claims.scopes)))


def check(asked: Asked) -> AuthenticationRequest:
    """Check everything; errors are for the client.

    ``display``, ``ui_locales`` and ``claims_locales`` change nothing, whatever they say; ``acr_values`` is a wish, and
    the answer says what became of it (section 3.1.2.1).

    Raises:
        OAuthError: something is missing, malformed, not for this client, or beyond Authly.
    """
    request = authorization_request.check(asked)
    parameters = asked.parameters
    wanted = claims.requested(parameters) if OPENID in request.scopes else ClaimsRequest()
    # Essential is a demand here, unlike with any other claim (section 5.5.1.1).
    if wanted.essential_acr and not set(wanted.essential_acr) & set(ACR_VALUES):
        raise UnmetAuthenticationRequirementsError("Authly cannot authenticate users by any acr that is asked for.")
    return AuthenticationRequest(
        request,
        prompt=_prompt(parameters),
        max_age=_max_age(parameters),
        login_hint=parameters.get("login_hint", ""),
        id_token_hint=parameters.get("id_token_hint"),
        claims=wanted.allowed(request.client.settings.scopes),
    )


def _prompt(parameters: Parameters) -> frozenset[Prompt]:
    try:
        prompt = frozenset(Prompt(value) for value in parameters.get("prompt", "").split())
    except ValueError as error:
        raise InvalidRequestError("The parameter prompt has a value that is not defined.") from error
    if Prompt.NONE in prompt and len(prompt) > 1:
        raise InvalidRequestError("The parameter prompt has none and something else.")
    return prompt


def _max_age(parameters: Parameters) -> timedelta | None:
    text = parameters.get("max_age")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidRequestError("The parameter max_age is no number of seconds.")
    return timedelta(seconds=min(int(text), _LONGEST_AGE))
