"""The page on which users see what they allowed, and take it back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from authly.api.dependencies import Browser
from authly.api.pages import Pages
from authly.oauth.client_service import ClientService
from authly.oauth.consent_service import ConsentService
from authly.oauth.scope_service import ScopeService
from authly.sessions.models import Session

_PATH = "/account/applications"
_MOST = 200


@dataclass(frozen=True, slots=True)
class _Application:
    client_id: str
    name: str
    scopes: list[str]
    since: datetime


def applications_router(
    consents: ConsentService, clients: ClientService, scopes: ScopeService, browser: Browser, pages: Pages
) -> APIRouter:
    """Return the routes of this page; they are no part of the OpenAPI document.

    Args:
        consents: knows what was allowed.
        clients: knows to whom.
        scopes: knows what they allow, in words.
        browser: knows who is behind a request.
        pages: renders the page.
    """
    router = APIRouter(include_in_schema=False)
    SessionNeeded = Annotated[Session, Depends(browser.require_session)]  # noqa: N806

    @router.get(_PATH)
    async def show(request: Request, session: SessionNeeded, revoked: str = "") -> Response:
        described = {scope.name: scope.description for scope in await scopes.list()}
        applications = []
        for consent in await consents.list(user_id=session.user_id, limit=_MOST):
            client = await clients.find(consent.client_id)
            if client is not None:
                words = [described.get(name, name) for name in consent.scopes]
                applications.append(_Application(client.client_id, client.settings.name, words, consent.created_at))
        notice = "What you allowed is taken back." if revoked else ""
        return pages.render(request, "applications.html", session, applications=applications, notice=notice)

    @router.post(_PATH)
    async def revoke(session: SessionNeeded, form: Annotated[dict[str, str], Depends(browser.csrf_form)]) -> Response:
        client_id = form.get("client_id", "")
        done = client_id.isprintable() and await consents.revoke(session.user_id, client_id)
        return RedirectResponse(f"{_PATH}?revoked=1" if done else _PATH, 303, {"cache-control": "no-store"})

    return router
