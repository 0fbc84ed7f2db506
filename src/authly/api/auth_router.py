"""The pages by which people log in and out, change their password and, where that is allowed, create an account."""

import math
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from authly.api.dependencies import Browser, LoginRequiredError, forget, remember, visitor
from authly.api.pages import Pages
from authly.api.return_to import safe_target
from authly.api.security_middleware import POLICY_OF_FORMS_THAT_LEAD_ON
from authly.sessions.models import Session
from authly.users.authentication import AuthenticationService, LoginFailure, LoginRefusedError
from authly.users.models import UserDataError
from authly.users.passwords import PasswordRefusedError
from authly.users.service import UserService

_NO_STORE = {"cache-control": "no-store"}
_WRONG = "The username or the password is wrong."
_DISABLED = "This account is disabled. Ask your administrator."
_REPEAT = "The two new passwords are not the same."
_LONGEST_HINT = 64


def auth_router(
    browser: Browser,
    pages: Pages,
    authentication: AuthenticationService,
    users: UserService,
    min_password_length: int,
    *,
    sign_up: bool,
) -> APIRouter:
    """Return the routes of these pages; they are no part of the OpenAPI document.

    Args:
        browser: knows who is behind a request.
        pages: renders them.
        authentication: lets people prove who they are.
        users: knows who there is.
        min_password_length: as the pages say it.
        sign_up: whether anybody may create an account.
    """
    router = APIRouter(include_in_schema=False)
    # Closures are told apart by their names; these are the types of their parameters.
    SessionNeeded = Annotated[Session, Depends(browser.require_session)]  # noqa: N806
    SessionIfAny = Annotated[Session | None, Depends(browser.current_session)]  # noqa: N806
    OwnForm = Annotated[dict[str, str], Depends(browser.csrf_form)]  # noqa: N806

    def login_page(
        request: Request,
        session: Session | None,
        return_to: str,
        username: str,
        problem: str = "",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        context = {"return_to": return_to, "username": username, "problem": problem, "invalid": bool(problem)}
        # From the login some go on to a client that they have allowed before, by way of the authorization endpoint.
        headers = {**(headers or {}), "content-security-policy": POLICY_OF_FORMS_THAT_LEAD_ON}
        return pages.render(request, "login.html", session, status, headers, **context)

    @router.get("/login")
    async def show_login(
        request: Request, session: SessionIfAny, return_to: str = "", login_hint: str = ""
    ) -> Response:
        # Shown to somebody who has a session, too: this is where they prove again who they are.
        return login_page(request, session, safe_target(return_to), login_hint[:_LONGEST_HINT])

    @router.post("/login")
    async def log_in(request: Request, session: SessionIfAny, form: OwnForm) -> Response:
        return_to, username = safe_target(form.get("return_to")), form.get("username", "")
        try:
            login = await authentication.log_in(username, form.get("password", ""), visitor(request), session)
        except LoginRefusedError as error:
            problem, status, headers = _refusal(error)
            return login_page(request, session, return_to, username, problem, status, headers)
        response = RedirectResponse(return_to, 303, _NO_STORE)
        remember(response, login.session_cookie, login.device_cookie)
        return response

    @router.get("/logout")
    async def show_logout(request: Request, session: SessionIfAny) -> Response:
        return pages.render(request, "logout.html" if session else "signed_out.html", session)

    @router.post("/logout")
    async def log_out(request: Request, session: SessionIfAny, _: OwnForm) -> Response:
        if session is not None:
            await authentication.log_out(session, visitor(request))
        response = RedirectResponse("/logout", 303, _NO_STORE)
        forget(response)
        return response

    @router.get("/account")
    async def show_account(request: Request, session: SessionNeeded, changed: str = "") -> Response:
        user = await users.get(session.user_id)
        if user is None:
            raise LoginRequiredError
        notice = "Your password is changed." if changed == "password" else ""
        return pages.render(request, "account.html", session, user=user, notice=notice)

    async def password_page(
        request: Request,
        session: Session,
        problem: str = "",
        invalid: str = "",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        user = await users.get(session.user_id)
        if user is None:
            raise LoginRequiredError
        context = {"user": user, "problem": problem, "invalid": invalid, "min_length": min_password_length}
        return pages.render(request, "password.html", session, status, headers, **context)

    @router.get("/account/password")
    async def show_password(request: Request, session: SessionNeeded) -> Response:
        return await password_page(request, session)

    @router.post("/account/password")
    async def change_password(request: Request, session: SessionNeeded, form: OwnForm) -> Response:
        current, new = form.get("current_password", ""), form.get("new_password", "")
        if new != form.get("repeated_password", ""):
            return await password_page(request, session, _REPEAT, "new", 400)
        try:
            cookies = await authentication.change_password(session, current, new, visitor(request))
        except PasswordRefusedError as error:
            return await password_page(request, session, str(error), "new", 400)
        except LoginRefusedError as error:
            problem, status, headers = _refusal(error, "The current password is wrong.")
            return await password_page(request, session, problem, "current", status, headers)
        response = RedirectResponse("/account?changed=password", 303, _NO_STORE)
        remember(response, *cookies)
        return response

    if not sign_up:
        return router

    def sign_up_page(
        request: Request,
        session: Session | None,
        return_to: str,
        username: str = "",
        email: str = "",
        problem: str = "",
        status: int = 200,
    ) -> Response:
        context = {"return_to": return_to, "username": username, "email": email, "problem": problem}
        return pages.render(request, "signup.html", session, status, None, min_length=min_password_length, **context)

    @router.get("/signup")
    async def show_sign_up(request: Request, session: SessionIfAny, return_to: str = "") -> Response:
        return sign_up_page(request, session, safe_target(return_to))

    @router.post("/signup")
    async def create_account(request: Request, session: SessionIfAny, form: OwnForm) -> Response:
        return_to, username, email = safe_target(form.get("return_to")), form.get("username", ""), form.get("email", "")
        new, visiting = form.get("new_password", ""), visitor(request)
        problem = "" if new == form.get("repeated_password", "") else _REPEAT
        if not problem:
            try:
                await users.sign_up(username, email or None, new, visiting.address)
            except (UserDataError, PasswordRefusedError) as error:
                problem = str(error)
        if problem:
            return sign_up_page(request, session, return_to, username, email, problem, 400)
        try:
            login = await authentication.log_in(username, new, visiting, session)
        except LoginRefusedError as error:
            # Somebody tried this name before it was anybody's.
            problem, status, headers = _refusal(error)
            return login_page(request, session, return_to, username, problem, status, headers)
        response = RedirectResponse(return_to, 303, _NO_STORE)
        remember(response, login.session_cookie, login.device_cookie)
        return response

    return router


def _refusal(error: LoginRefusedError, wrong: str = _WRONG) -> tuple[str, int, dict[str, str] | None]:
    """Return what a person is told, with which status, and with which headers."""
    if error.reason is LoginFailure.LOCKED:
        seconds = max(1, math.ceil(error.retry_after))
        return (
            f"Too many attempts failed. Wait {_duration(seconds)}, and try again.",
            429,
            {"retry-after": str(seconds)},
        )
    # Not 401, which would have to name an authentication scheme of HTTP (RFC 9110, section 15.5.2).
    return (_DISABLED if error.reason is LoginFailure.DISABLED else wrong), 403, None


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} second{'s' if seconds != 1 else ''}"
    return f"{math.ceil(seconds / 60)} minutes"
