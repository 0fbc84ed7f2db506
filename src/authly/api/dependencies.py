"""What routes of pages depend on: the session of a browser, and forms that come from our own pages.

A router is built by a function that is given a :class:`Browser`, and uses its methods as dependencies::

    @router.post("/consent")
    async def decide(
        session: Annotated[Session, Depends(browser.require_session)],
        form: Annotated[dict[str, str], Depends(browser.csrf_form)],
    ) -> Response:
"""

from starlette.requests import Request
from starlette.responses import Response

from authly.api import csrf
from authly.api.forms import read_form
from authly.api.pages import delete_cookie, set_cookie
from authly.sessions.models import Session
from authly.sessions.service import SessionService
from authly.users.authentication import KNOWN_FOR, Visitor

SESSION_COOKIE = "__Host-authly_session"
DEVICE_COOKIE = "__Host-authly_device"


class LoginRequiredError(Exception):
    """The page is for somebody who has logged in; answered by the way to the login page."""


class CsrfError(Exception):
    """A form does not come from a page that was shown in this browser and this session."""


class Browser:
    """Finds out who is behind a request of a browser.

    Args:
        sessions: knows sessions.
    """

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    async def current_session(self, request: Request) -> Session | None:
        """Return the session of a browser if it has one; asked for once in a request.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        if not hasattr(request.state, "session"):
            request.state.session = await self._sessions.resume(request.cookies.get(SESSION_COOKIE))
        session: Session | None = request.state.session
        return session

    async def require_session(self, request: Request) -> Session:
        """Return the session of a browser.

        Raises:
            LoginRequiredError: it has none.
            DatabaseUnavailableError: the database is away.
        """
        session = await self.current_session(request)
        if session is None:
            raise LoginRequiredError
        return session

    async def csrf_form(self, request: Request) -> dict[str, str]:
        """Return the fields of a form that one of our pages sent, without its token.

        Raises:
            BadFormError: it cannot be read.
            CsrfError: it comes from elsewhere, or the session has changed since it was shown.
            DatabaseUnavailableError: the database is away.
        """
        if not csrf.comes_from_here(request.headers):
            raise CsrfError
        form = await read_form(request)
        session = await self.current_session(request)
        value = csrf.known_value(request.cookies.get(csrf.COOKIE))
        if not csrf.is_valid_token(form.pop(csrf.FIELD, ""), value, str(session.session_id) if session else ""):
            raise CsrfError
        return form


def visitor(request: Request) -> Visitor:
    """Return where a request comes from."""
    return Visitor(
        address=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent"),
        device=request.cookies.get(DEVICE_COOKIE),
    )


def remember(response: Response, session_cookie: str, device_cookie: str) -> None:
    """Give a browser its session, and that by which it is known at the next login."""
    # Lax: a person who comes from an application by a link, as the authorization endpoint has it, is logged in.
    set_cookie(response, SESSION_COOKIE, session_cookie, same_site="lax")
    set_cookie(response, DEVICE_COOKIE, device_cookie, same_site="strict", max_age=int(KNOWN_FOR.total_seconds()))


def forget(response: Response) -> None:
    """Make a browser forget its session."""
    delete_cookie(response, SESSION_COOKIE)
