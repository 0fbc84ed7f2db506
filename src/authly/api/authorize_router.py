"""The authorization endpoint (RFC 6749, section 3.1), and the pages on which users decide."""

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, Response

from authly.api.dependencies import Browser, LoginRequiredError
from authly.api.forms import BadFormError
from authly.api.oauth_errors import ERROR_CONTENT, documented
from authly.api.oauth_forms import documented_form, read_body
from authly.api.pages import Pages, policy_that_leads_to
from authly.errors import InvalidRequestError, OAuthError
from authly.monitoring.recorders import OAuthRecorder
from authly.oauth import authorization_response, endpoints
from authly.oauth.authorization_request import Asked, ResponseMode
from authly.oauth.authorization_response import AuthorizationResponse
from authly.oauth.authorization_service import AuthorizationService
from authly.oauth.outcomes import SUCCESS, outcome_of
from authly.oauth.parameters import parse, parse_pairs
from authly.oauth.scope_service import ScopeService
from authly.oidc import authentication_request
from authly.oidc.authentication_request import AuthenticationRequest
from authly.oidc.interaction import InteractionService, Progress, Step
from authly.oidc.login_marker import LoginMarkers
from authly.sessions.models import Session
from authly.users.service import UserService

CONSENT = "/oauth2/consent"
ACCOUNT = "/oauth2/account"
# What fits behind the login page, which has it in its own address, with a marker.
_LONGEST_QUERY = 7900
_LONGEST_HINT = 64
_REQUIRED = ("client_id", "response_type")
# Besides those that have to be there, at any endpoint that takes such requests.
AUTHORIZATION_PARAMETERS = (
    "code_challenge",
    "code_challenge_method",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "resource",
    "response_mode",
    "request_uri",
    "prompt",
    "max_age",
    "display",
    "ui_locales",
    "claims_locales",
    "id_token_hint",
    "login_hint",
    "acr_values",
    "claims",
)
_PAGE: dict[str, Any] = {"content": {"text/html": {"schema": {"type": "string"}}}}
_NO_STORE = {"cache-control": "no-store"}

_log = structlog.stdlib.get_logger(__name__)


def authorize_router(
    authorization: AuthorizationService,
    interaction: InteractionService,
    markers: LoginMarkers,
    scopes: ScopeService,
    users: UserService,
    browser: Browser,
    pages: Pages,
    issuer: str,
    metrics: OAuthRecorder,
) -> APIRouter:
    """Return the routes of this endpoint and its pages.

    Args:
        authorization: decides.
        interaction: knows what the user is to be shown before.
        markers: know whether a login that was demanded has taken place.
        scopes: knows what they allow, in words.
        users: knows who is asked.
        browser: knows who is behind a request.
        pages: renders pages.
        issuer: this server, as its answers name it.
        metrics: is told how requests are answered.
    """
    router = APIRouter(tags=["oauth"])
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The user is asked; or the answer is on its way to the client as a form.", **_PAGE},
        303: {"description": "On to the client, with an answer; or to the login page."},
        400: {"description": "Nobody knows whose request this is, or where the answer goes.", **_PAGE},
        **documented(429),
        # A page for a browser, and JSON for anybody else.
        503: {"content": {**ERROR_CONTENT, **_PAGE["content"]}},
    }
    # Closures are told apart by their names; these are the types of their parameters.
    SessionIfAny = Annotated[Session | None, Depends(browser.current_session)]  # noqa: N806
    OwnForm = Annotated[dict[str, str], Depends(browser.csrf_form)]  # noqa: N806

    async def decide(
        request: Request, marked: bytes, session: Session | None, progress: Progress, *, denied: bool = False
    ) -> Response:
        """Take a request as far as it goes.

        Errors are for the user's eyes until it is known who asks and where answers go, and for the client after that
        (RFC 6749, section 4.1.2.1).

        Args:
            request: of HTTP.
            marked: the query of the authorization request, with or without a marker.
            session: of the browser, if it has one.
            progress: what the user has done for this request.
            denied: whether the user said no.
        """
        try:
            return await take(request, marked, session, progress, denied=denied)
        except LoginRequiredError:
            raise
        except Exception as error:
            metrics.authorization_request_ended("", outcome_of(error), "")
            raise

    async def take(
        request: Request, marked: bytes, session: Session | None, progress: Progress, *, denied: bool
    ) -> Response:
        query, before = markers.read(marked)
        progress = replace(progress, login_demanded_after=before)
        response_type = ""
        try:
            if len(query) > _LONGEST_QUERY:
                raise InvalidRequestError(f"The request is longer than {_LONGEST_QUERY} bytes.")
            parameters = parse(query)
            response_type = parameters.get("response_type", "")
            asked = await authorization.identify(parameters)
        except OAuthError as error:
            ended(response_type, error.code, "")
            return pages.error(
                request,
                400,
                "This request cannot be answered",
                f"The application sent you here with a request that Authly does not accept. {error.description} "
                "Go back to the application, and tell those who run it.",
            )
        # A request that was pushed counts as it was pushed.
        response_type = asked.parameters.get("response_type", "")
        try:
            checked = authentication_request.check(asked)
            step = await interaction.next_step(checked, session, progress)
            if session is None or step is Step.LOG_IN:
                return log_in(checked, query, session)
            if denied:
                raise await authorization.deny(checked.request)
            if step is Step.SELECT_ACCOUNT:
                return await select_account(request, checked, marked, session)
            if step is Step.CONSENT:
                return await ask(request, checked, marked, session)
            if progress.is_consent_given:
                await authorization.remember(checked.request, checked.scopes_to_allow, session.user_id)
            code = await authorization.allow(checked.request, session, checked.claims.claims)
            ended(response_type, SUCCESS, asked.client.client_id)
            return send(request, authorization_response.with_code(asked, code, issuer))
        except OAuthError as error:
            ended(response_type, error.code, asked.client.client_id)
            return send(request, authorization_response.with_error(asked, error, issuer))

    def ended(response_type: str, status: str, client_id: str) -> None:
        metrics.authorization_request_ended(response_type, status, client_id)
        _log.info("authorization_request", status=status, client_id=client_id)

    def log_in(checked: AuthenticationRequest, query: bytes, session: Session | None) -> Response:
        target = f"{endpoints.AUTHORIZE}?{markers.mark(query, session).decode('ascii', 'replace')}"
        hint = checked.login_hint[:_LONGEST_HINT]
        return _redirect(f"/login?{urlencode({'return_to': target} | ({'login_hint': hint} if hint else {}))}")

    async def select_account(
        request: Request, checked: AuthenticationRequest, marked: bytes, session: Session
    ) -> Response:
        user = await users.get(session.user_id)
        if user is None:
            raise LoginRequiredError
        return pages.render(
            request,
            "select_account.html",
            session,
            headers={"content-security-policy": policy_that_leads_to(checked.request.asked.redirect_uri)},
            user=user,
            action=ACCOUNT,
            query=marked.decode("ascii", "replace"),
        )

    async def ask(request: Request, checked: AuthenticationRequest, marked: bytes, session: Session) -> Response:
        user = await users.get(session.user_id)
        if user is None:
            raise LoginRequiredError
        described = {scope.name: scope.description for scope in await scopes.find(checked.scopes_to_allow)}
        asked = checked.request.asked
        return pages.render(
            request,
            "consent.html",
            session,
            headers={"content-security-policy": policy_that_leads_to(asked.redirect_uri)},
            user=user,
            client_name=checked.client.settings.name,
            scopes=[described.get(name, name) for name in checked.scopes_to_allow],
            resources=checked.request.resources,
            destination=_destination(asked),
            action=CONSENT,
            query=marked.decode("ascii", "replace"),
        )

    def send(request: Request, response: AuthorizationResponse) -> Response:
        if response.mode is ResponseMode.QUERY:
            return _redirect(response.location)
        return pages.render(
            request,
            "form_post.html",
            headers={"content-security-policy": policy_that_leads_to(response.redirect_uri, with_script=True)},
            action=response.redirect_uri,
            fields=response.parameters,
        )

    @router.get(
        endpoints.AUTHORIZE,
        summary="Ask a user for a code",
        response_model=None,
        response_class=HTMLResponse,
        responses=responses,
        openapi_extra={
            "parameters": [
                {"name": name, "in": "query", "required": name in _REQUIRED, "schema": {"type": "string"}}
                for name in (*_REQUIRED, *AUTHORIZATION_PARAMETERS)
            ]
        },
    )
    async def authorize(request: Request, session: SessionIfAny) -> Response:
        return await decide(request, request.scope["query_string"], session, Progress())

    @router.post(
        endpoints.AUTHORIZE,
        summary="Ask a user for a code, by a form",
        status_code=303,
        response_model=None,
        response_class=Response,
        responses={303: responses[303], **documented(400, 413, 415, 429, 503)},
        openapi_extra=documented_form(_REQUIRED, AUTHORIZATION_PARAMETERS),
    )
    async def authorize_by_form(request: Request) -> Response:
        # A form of another site brings no session with it (SameSite); the same request as a link does.
        pairs = parse_pairs(await read_body(request))
        query = urlencode(pairs)
        if len(query) > _LONGEST_QUERY:
            raise InvalidRequestError(f"The request is longer than {_LONGEST_QUERY} bytes.")
        return _redirect(f"{endpoints.AUTHORIZE}?{query}")

    # A form that was shown in a session that has ended is none of ours any more: csrf_form says so. And a request is
    # checked again from the start: what is in a form is what a browser sends, not what a page said.
    @router.post(CONSENT, include_in_schema=False)
    async def consent(request: Request, session: SessionIfAny, form: OwnForm) -> Response:
        decision = form.get("decision")
        if decision not in {"allow", "deny"}:
            raise BadFormError("The form does not say what you decided.")
        progress = Progress(is_account_selected=True, is_consent_given=True)
        return await decide(request, _request_of(form), session, progress, denied=decision == "deny")

    @router.post(ACCOUNT, include_in_schema=False)
    async def account(request: Request, session: SessionIfAny, form: OwnForm) -> Response:
        marked = _request_of(form)
        if form.get("decision") == "other":
            target = f"{endpoints.AUTHORIZE}?{markers.mark(markers.read(marked)[0], session).decode('ascii')}"
            return _redirect(f"/login?{urlencode({'return_to': target})}")
        return await decide(request, marked, session, Progress(is_account_selected=True))

    return router


def _request_of(form: dict[str, str]) -> bytes:
    return form.get("request", "").encode("ascii", "replace")


def _redirect(url: str) -> Response:
    # 303: whatever form led here is not sent on to the client (RFC 9700, section 4.12).
    response = Response(None, 303, _NO_STORE)
    # As it is: it has been checked, and must reach the client character by character.
    response.headers["location"] = url
    return response


def _destination(asked: Asked) -> str:
    """Return where the answer goes, for the user to see."""
    parts = urlsplit(asked.redirect_uri)
    return parts.netloc or f"an application on this device ({parts.scheme})"
