"""Pages for people: templates, the stylesheet, and the answers to what goes wrong on a page.

Owns how a page is rendered and which headers it has by itself. What a page says is in ``templates/``; what it looks
like is in ``static/``, and can be changed by an operator's own stylesheet, which comes after it.
"""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from fastapi import APIRouter, Response
from starlette.requests import Request
from starlette.responses import HTMLResponse

from authly.api import csrf
from authly.sessions.models import Session

_HERE = Path(__file__).parent
_STATIC = {
    "authly.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "submit.js": "text/javascript; charset=utf-8",
}


class Pages:
    """Renders pages.

    Args:
        theme: an operator's stylesheet; empty if there is none.
        sign_up: whether pages offer to create an account.
    """

    def __init__(self, theme: bytes = b"", *, sign_up: bool = False) -> None:
        self._files = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}
        self._types = dict(_STATIC)
        if theme:
            self._files["theme.css"] = theme
            self._types["theme.css"] = "text/css; charset=utf-8"
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            stylesheets=[self._address(name) for name in self._files if name.endswith(".css")],
            icon=self._address("icon.svg"),
            submit_script=self._address("submit.js"),
            sign_up=sign_up,
        )

    def render(
        self,
        request: Request,
        template: str,
        session: Session | None = None,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> HTMLResponse:
        """Return a page.

        Every page may hold forms: ``csrf_token`` is in its context, and the cookie that goes with it is set.

        Args:
            request: what is answered.
            template: the name of a file in ``templates/``.
            session: of the browser, if it has one.
            status: of the response.
            headers: of the response, besides those of every page.
            context: what the template shows.
        """
        known = csrf.known_value(request.cookies.get(csrf.COOKIE))
        value = known or csrf.new_value()
        token = csrf.make_token(value, str(session.session_id) if session else "")
        text = self._templates.get_template(template).render(csrf_token=token, session=session, **context)
        response = HTMLResponse(text, status, {"cache-control": "no-store", **(headers or {})})
        if known is None:
            set_cookie(response, csrf.COOKIE, value, same_site="strict")
        return response

    def error(
        self, request: Request, status: int, title: str, message: str, headers: dict[str, str] | None = None
    ) -> HTMLResponse:
        """Return a page that says what went wrong and what to do next."""
        return self.render(request, "error.html", None, status, headers, title=title, message=message)

    def router(self) -> APIRouter:
        """Return the routes of the static files; they are no part of the OpenAPI document."""
        router = APIRouter(prefix="/static")

        @router.api_route("/{name}", methods=["GET", "HEAD"], include_in_schema=False)
        async def static(name: str, v: str = "") -> Response:
            if name not in self._files:
                return Response("There is no such file.\n", 404, media_type="text/plain")
            caching = "public, max-age=31536000, immutable" if v == self._hash(name) else "no-cache"
            headers = {"cache-control": caching, "content-type": self._types[name]}
            return Response(self._files[name], 200, headers)

        return router

    def _address(self, name: str) -> str:
        return f"/static/{name}?v={self._hash(name)}"

    def _hash(self, name: str) -> str:
        return hashlib.sha256(self._files[name]).hexdigest()[:16]


def policy_that_leads_to(url: str, *, with_script: bool = False) -> str:
    """Return a content security policy that lets a form, or what answers it, lead to a client.

    Browsers apply form-action to redirects, too.

    Args:
        url: where it leads.
        with_script: whether the page may run a script of ours.
    """
    parts = urlsplit(url)
    target = f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
    script = "script-src 'self'; " if with_script else ""
    return (
        f"default-src 'none'; {script}style-src 'self'; img-src 'self' data:; "
        f"font-src 'self'; form-action 'self' {target}; frame-ancestors 'none'; base-uri 'none'"
    )


def set_cookie(response: Response, name: str, value: str, *, same_site: str, max_age: int | None = None) -> None:
    """Set a cookie that only this host sees, and no script.

    The prefix ``__Host-`` makes browsers insist on all of it; they take ``http://localhost`` for secure.
    """
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path="/",
        secure=True,
        httponly=True,
        samesite=same_site,  # type: ignore[arg-type]
    )


def delete_cookie(response: Response, name: str) -> None:
    """Make a browser forget a cookie."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
