"""What has to happen before a request can be answered (OpenID Connect Core 1.0, sections 3.1.2.3 and 3.1.2.4)."""

from dataclasses import dataclass
from enum import StrEnum

from authly.core.clock import Clock, utc_now
from authly.errors import (
    AccountSelectionNeededError,
    ConsentNeededError,
    InvalidRequestError,
    LoginNeededError,
    OAuthError,
)
from authly.oauth.authorization_service import AuthorizationService
from authly.oauth.subjects import Subjects
from authly.oidc.authentication_request import AuthenticationRequest, Prompt
from authly.oidc.id_tokens import IdTokenService
from authly.oidc.login_marker import is_since
from authly.sessions.models import Session


class Step(StrEnum):
    """What the user is to be shown next; or nothing any more."""

    LOG_IN = "log_in"
    SELECT_ACCOUNT = "select_account"
    CONSENT = "consent"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Progress:
    """What has happened already for the sake of a request."""

    # When the user had authenticated before a login was demanded, in microseconds since 1970; None if none was.
    login_demanded_after: int | None = None
    is_account_selected: bool = False
    is_consent_given: bool = False


class InteractionService:
    """Says what has to happen.

    Args:
        authorization: knows what users have allowed.
        id_tokens: reads hints.
        subjects: says by what clients know users.
        clock: tells the time.
    """

    def __init__(
        self, authorization: AuthorizationService, id_tokens: IdTokenService, subjects: Subjects, clock: Clock = utc_now
    ) -> None:
        self._authorization = authorization
        self._id_tokens = id_tokens
        self._subjects = subjects
        self._clock = clock

    async def next_step(self, asked: AuthenticationRequest, session: Session | None, progress: Progress) -> Step:
        """Return what has to happen next.

        Args:
            asked: the request.
            session: of the browser, if it has one.
            progress: what has happened.

        Raises:
            OAuthError: it cannot happen: nothing may be shown, or the user is another than the client means.
        """
        step = await self._step(asked, session, progress)
        if Prompt.NONE in asked.prompt and step is not Step.ANSWER:
            raise _silent(step)
        return step

    async def _step(self, asked: AuthenticationRequest, session: Session | None, progress: Progress) -> Step:
        expected = await self._expected_subject(asked)
        if session is None:
            return Step.LOG_IN
        has_logged_in = is_since(session, progress.login_demanded_after)
        if not has_logged_in and self._is_login_demanded(asked, session):
            return Step.LOG_IN
        if expected is not None and self._subjects.of(asked.client, session.user_id) != expected:
            if has_logged_in:
                raise LoginNeededError("Another user has logged in than the one who is meant.")
            return Step.LOG_IN
        # Whoever has just typed a name has chosen it.
        if Prompt.SELECT_ACCOUNT in asked.prompt and not (has_logged_in or progress.is_account_selected):
            return Step.SELECT_ACCOUNT
        if not progress.is_consent_given and await self._is_consent_needed(asked, session):
            return Step.CONSENT
        return Step.ANSWER

    async def _expected_subject(self, asked: AuthenticationRequest) -> str | None:
        """Return who the user has to be, if the client knows."""
        if asked.id_token_hint is None:
            return asked.claims.subject
        hint = await self._id_tokens.read(asked.id_token_hint)
        if hint is None:
            raise InvalidRequestError("The id_token_hint is no ID token of this server.")
        if hint.client_id != asked.client.client_id or asked.claims.subject not in {None, hint.subject}:
            raise InvalidRequestError("The id_token_hint is another client's, or for another user than the claims.")
        return hint.subject

    def _is_login_demanded(self, asked: AuthenticationRequest, session: Session) -> bool:
        if Prompt.LOGIN in asked.prompt:
            return True
        return asked.max_age is not None and self._clock() - session.authenticated_at > asked.max_age

    async def _is_consent_needed(self, asked: AuthenticationRequest, session: Session) -> bool:
        if Prompt.CONSENT in asked.prompt:
            return True
        return await self._authorization.needs_consent(asked.request, asked.scopes_to_allow, session.user_id)


def _silent(step: Step) -> OAuthError:
    """Return what the client is told where nothing may be shown (section 3.1.2.6)."""
    match step:
        case Step.LOG_IN:
            return LoginNeededError("The user would have to log in.")
        case Step.SELECT_ACCOUNT:
            return AccountSelectionNeededError("The user would have to choose an account.")
        case _:
            return ConsentNeededError("The user would have to be asked.")
