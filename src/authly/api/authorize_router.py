"""The authorization endpoint (RFC 6749, section 3.1), and the page on which users decide."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, Response

from authly.api.dependencies import Browser, LoginRequiredError
from authly.api.forms import BadFormError
from authly.api.oauth_errors import ERROR_CONTENT, documented
from authly.api.oauth_forms import documented_form, read_body
from authly.api.pages import Pages
from authly.errors import InvalidRequestError, OAuthError
from authly.oauth import authorization_request, authorization_response, endpoints
from authly.oauth.authorization_request import Asked, AuthorizationRequest
from authly.oauth.authorization_service import AuthorizationService
from authly.oauth.parameters import parse, parse_pairs
from authly.oauth.scope_service import ScopeService
from authly.sessions.models import Session
from authly.users.service import UserService

CONSENT = "/oauth2/consent"
# What fits behind the login page, which has it in its own address.
_LONGEST_QUERY = 8000
_REQUIRED = ("client_id", "response_type", "code_challenge", "code_challenge_method")
_OPTIONAL = ("redirect_uri", "scope", "state", "nonce", "resource", "response_mode", "request_uri")
_PAGE: dict[str, Any] = {"content": {"text/html": {"schema": {"type": "string"}}}}
_NO_STORE = {"cache-control": "no-store"}

Answer = Callable[[AuthorizationRequest, Session], Awaitable[Response]]

_log = structlog.stdlib.get_logger(__name__)


def authorize_router(
    authorization: AuthorizationService,
    scopes: ScopeService,
    users: UserService,
    browser: Browser,
    pages: Pages,
    issuer: str,
) -> APIRouter:
    """Return the routes of this endpoint and its page.

    Args:
        authorization: decides.
        scopes: knows what they allow, in words.
        users: knows who is asked.
        browser: knows who is behind a request.
        pages: renders pages.
        issuer: this server, as its answers name it.
    """
    router = APIRouter(tags=["oauth"])
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The user is asked.", **_PAGE},
        303: {"description": "On to the client, with an answer; or to the login page."},
        400: {"description": "Nobody knows whose request this is, or where the answer goes.", **_PAGE},
        **documented(429),
        # A page for a browser, and JSON for anybody else.
        503: {"content": {**ERROR_CONTENT, **_PAGE["content"]}},
    }

    async def decide(request: Request, encoded: bytes, session: Session | None, answer: Answer) -> Response:
        """Put a request to the user.

        Errors are for the user's eyes until it is known who asks and where answers go, and for the client after that
        (RFC 6749, section 4.1.2.1).
        """
        try:
            if len(encoded) > _LONGEST_QUERY:
                raise InvalidRequestError(f"The request is longer than {_LONGEST_QUERY} bytes.")
            asked = await authorization.identify(parse(encoded))
        except OAuthError as error:
            _log.info("authorization_request", status=error.code, client_id="")
            return pages.error(
                request,
                400,
                "This request cannot be answered",
                f"The application sent you here with a request that Authly does not accept. {error.description} "
                "Go back to the application, and tell those who run it.",
            )
        try:
            checked = authorization_request.check(asked)
            if session is None:
                raise LoginRequiredError
            return await answer(checked, session)
        except OAuthError as error:
            _log.info("authorization_request", status=error.code, client_id=asked.client.client_id)
            return _redirect(authorization_response.with_error(asked, error, issuer))

    async def allow(checked: AuthorizationRequest, session: Session) -> Response:
        code = await authorization.allow(
            checked,
            user_id=session.user_id,
            session_id=session.session_id,
            auth_time=session.authenticated_at,
        )
        _log.info("authorization_request", status="success", client_id=checked.client.client_id)
        return _redirect(authorization_response.with_code(checked.asked, code, issuer))

    async def ask(request: Request, checked: AuthorizationRequest, session: Session) -> Response:
        user = await users.get(session.user_id)
        if user is None:
            raise LoginRequiredError
        described = {scope.name: scope.description for scope in await scopes.find(checked.scopes)}
        return pages.render(
            request,
            "consent.html",
            session,
            headers={"content-security-policy": _consent_policy(checked.asked)},
            user=user,
            client_name=checked.client.settings.name,
            scopes=[described.get(name, name) for name in checked.scopes],
            resources=checked.resources,
            destination=_destination(checked.asked),
            action=CONSENT,
            query=request.url.query,
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
                for name in (*_REQUIRED, *_OPTIONAL)
            ]
        },
    )
    async def authorize(
        request: Request, session: Annotated[Session | None, Depends(browser.current_session)]
    ) -> Response:
        async def answer(checked: AuthorizationRequest, session: Session) -> Response:
            if await authorization.needs_consent(checked, session.user_id):
                return await ask(request, checked, session)
            return await allow(checked, session)

        return await decide(request, request.scope["query_string"], session, answer)

    @router.post(
        endpoints.AUTHORIZE,
        summary="Ask a user for a code, by a form",
        status_code=303,
        response_model=None,
        response_class=Response,
        responses={303: responses[303], **documented(400, 413, 415, 429, 503)},
        openapi_extra=documented_form(_REQUIRED, _OPTIONAL),
    )
    async def authorize_by_form(request: Request) -> Response:
        # A form of another site brings no session with it (SameSite); the same request as a link does.
        pairs = parse_pairs(await read_body(request))
        query = urlencode(pairs)
        if len(query) > _LONGEST_QUERY:
            raise InvalidRequestError(f"The request is longer than {_LONGEST_QUERY} bytes.")
        return _redirect(f"{endpoints.AUTHORIZE}?{query}")

    @router.post(CONSENT, include_in_schema=False)
    async def consent(
        request: Request,
        # A form that was shown in a session that has ended is none of ours any more: csrf_form says so.
        session: Annotated[Session | None, Depends(browser.current_session)],
        form: Annotated[dict[str, str], Depends(browser.csrf_form)],
    ) -> Response:
        decision = form.get("decision")
        if decision not in {"allow", "deny"}:
            raise BadFormError("The form does not say what you decided.")

        async def answer(checked: AuthorizationRequest, session: Session) -> Response:
            if decision == "deny":
                raise await authorization.deny(checked)
            await authorization.remember(checked, session.user_id)
            return await allow(checked, session)

        # Checked again from the start: what is in a form is what a browser sends, not what a page said.
        query = form.get("request", "").encode("ascii", "replace")
        return await decide(request, query, session, answer)

    return router


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


def _consent_policy(asked: Asked) -> str:
    """Return a policy that lets the form's answer lead to the client: browsers apply form-action to redirects too."""
    parts = urlsplit(asked.redirect_uri)
    target = f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
    return (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"form-action 'self' {target}; frame-ancestors 'none'; base-uri 'none'"
    )
