"""What a page answers when something stands in its way: nobody has logged in, a form is not ours, the database is away.

One place for it, so that no route has to think of it.
"""

from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from authly.api.dependencies import CsrfError, LoginRequiredError
from authly.api.forms import BadFormError
from authly.api.pages import Pages
from authly.api.return_to import login_url
from authly.core.repository import DatabaseUnavailableError
from authly.core.security_log import SecurityLog
from authly.monitoring.labels import SecurityEvent
from authly.users.passwords import HasherBusyError

_RETRY_AFTER = {"retry-after": "5"}
_log = structlog.stdlib.get_logger(__name__)


def install(app: FastAPI, pages: Pages, security: SecurityLog) -> None:
    """Let an application answer problems.

    Args:
        app: the application.
        pages: renders the answers for people.
        security: is told of forms that are not ours.
    """

    def answers(error: type[Exception], answer: Callable[[Request, Exception], Awaitable[Response]]) -> None:
        app.add_exception_handler(error, answer)

    async def login_required(request: Request, _: Exception) -> Response:
        # 303: a form that was sent after the session had ended is asked for again, not sent again.
        return RedirectResponse(login_url(request.url), 303, {"cache-control": "no-store"})

    async def bad_form(request: Request, error: Exception) -> Response:
        return pages.error(request, 400, "This form cannot be read", f"{error} Go back, and send the form again.")

    async def foreign_form(request: Request, _: Exception) -> Response:
        origin = request.headers.get("origin", "")
        security.note(SecurityEvent.CSRF_REJECTED, path=request.url.path, origin=origin[:255])
        return pages.error(
            request,
            403,
            "This form has expired",
            "It was shown before you signed in or out, in another browser, or by another site; or your browser keeps "
            "no cookies. Go back, reload the page, and send the form again.",
        )

    async def unavailable(request: Request, error: Exception) -> Response:
        _log.warning("unavailable", path=request.url.path, reason=str(error), cause=type(error.__cause__).__name__)
        if "text/html" in request.headers.get("accept", ""):
            return pages.error(
                request,
                503,
                "Authly cannot answer at this moment",
                f"{error} Nothing is wrong with your account. Wait a few seconds, and try again.",
                _RETRY_AFTER,
            )
        body = {"error": "temporarily_unavailable", "error_description": str(error)}
        return JSONResponse(body, 503, {"cache-control": "no-store", **_RETRY_AFTER})

    answers(LoginRequiredError, login_required)
    answers(BadFormError, bad_form)
    answers(CsrfError, foreign_form)
    answers(DatabaseUnavailableError, unavailable)
    answers(HasherBusyError, unavailable)
