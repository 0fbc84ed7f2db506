"""The endpoint to which clients send users who log out (OpenID Connect RP-Initiated Logout 1.0)."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from authly.api.dependencies import Browser, forget, visitor
from authly.api.oauth_errors import ERROR_CONTENT, documented
from authly.api.oauth_forms import documented_form, read_body
from authly.api.pages import Pages, policy_that_leads_to
from authly.errors import InvalidRequestError, OAuthError
from authly.monitoring.recorders import OIDCRecorder
from authly.oauth.outcomes import SUCCESS, outcome_of
from authly.oauth.parameters import parse, parse_pairs
from authly.oidc import configuration
from authly.oidc.logout import LogoutRequest, LogoutService
from authly.sessions.models import Session
from authly.users.authentication import AuthenticationService

CONFIRMATION = "/oidc/logout/confirmation"
_LONGEST_QUERY = 8000
_PARAMETERS = ("id_token_hint", "logout_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales")
_PAGE: dict[str, Any] = {"content": {"text/html": {"schema": {"type": "string"}}}}
_NO_STORE = {"cache-control": "no-store"}


def logout_router(
    logout: LogoutService,
    authentication: AuthenticationService,
    browser: Browser,
    pages: Pages,
    metrics: OIDCRecorder,
) -> APIRouter:
    """Return the routes of this endpoint and its page.

    Args:
        logout: decides.
        authentication: ends sessions.
        browser: knows who is behind a request.
        pages: renders pages.
        metrics: is told how requests end.
    """
    router = APIRouter(tags=["openid"])
    SessionIfAny = Annotated[Session | None, Depends(browser.current_session)]  # noqa: N806
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The user is asked.", **_PAGE},
        303: {"description": "The user is logged out, and on the way back to the client, or to a page that says so."},
        400: {"description": "The request cannot be trusted; nothing has happened.", **_PAGE},
        **documented(429),
        503: {"content": {**ERROR_CONTENT, **_PAGE["content"]}},
    }

    async def answer(request: Request, query: bytes, session: Session | None, *, confirmed: bool) -> Response:
        try:
            return await decide(request, query, session, confirmed=confirmed)
        except Exception as error:
            metrics.oidc_request_ended("logout", outcome_of(error))
            raise

    async def decide(request: Request, query: bytes, session: Session | None, *, confirmed: bool) -> Response:
        try:
            if len(query) > _LONGEST_QUERY:
                raise InvalidRequestError(f"The request is longer than {_LONGEST_QUERY} bytes.")
            checked = await logout.check(parse(query))
        except OAuthError as error:
            metrics.oidc_request_ended("logout", error.code)
            return pages.error(
                request,
                400,
                "You are not signed out yet",
                f"The application sent you here with a request that Authly does not accept. {error.description} "
                "To sign out here, go to the page /logout.",
            )
        if session is not None:
            if not confirmed and logout.needs_confirmation(checked, session):
                return ask(request, checked, query, session)
            await authentication.log_out(session, visitor(request))
        response = RedirectResponse("/logout", 303, _NO_STORE)
        if checked.destination is not None:
            # As it is: it has been checked, and must reach the client character by character.
            response.headers["location"] = checked.destination
        forget(response)
        # A question is no answer yet.
        metrics.oidc_request_ended("logout", SUCCESS)
        return response

    def ask(request: Request, checked: LogoutRequest, query: bytes, session: Session) -> Response:
        headers = {}
        if checked.destination is not None:
            headers["content-security-policy"] = policy_that_leads_to(checked.destination)
        return pages.render(
            request,
            "logout_confirmation.html",
            session,
            headers=headers,
            client_name=checked.client.settings.name if checked.client else "",
            action=CONFIRMATION,
            query=query.decode("ascii", "replace"),
        )

    @router.get(
        configuration.LOGOUT,
        summary="Log a user out",
        response_model=None,
        response_class=HTMLResponse,
        responses=responses,
        openapi_extra={
            "parameters": [
                {"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in _PARAMETERS
            ]
        },
    )
    async def by_get(request: Request, session: SessionIfAny) -> Response:
        return await answer(request, request.scope["query_string"], session, confirmed=False)

    @router.post(
        configuration.LOGOUT,
        summary="Log a user out, by a form",
        status_code=303,
        response_model=None,
        response_class=Response,
        responses={303: responses[303], **documented(400, 413, 415, 429, 503)},
        openapi_extra=documented_form((), _PARAMETERS),
    )
    async def by_post(request: Request) -> Response:
        # A form of another site brings no session with it (SameSite); the same request as a link does.
        query = urlencode(parse_pairs(await read_body(request)))
        if len(query) > _LONGEST_QUERY:
            raise InvalidRequestError(f"The request is longer than {_LONGEST_QUERY} bytes.")
        return RedirectResponse(f"{configuration.LOGOUT}?{query}", 303, _NO_STORE)

    @router.post(CONFIRMATION, include_in_schema=False)
    async def confirm(
        request: Request, session: SessionIfAny, form: Annotated[dict[str, str], Depends(browser.csrf_form)]
    ) -> Response:
        return await answer(request, form.get("request", "").encode("ascii", "replace"), session, confirmed=True)

    return router
