"""What browsers make of the headers: forms that lead on to clients, and pages of other origins."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.oauth import PASSWORD, Server

T = TypeVar("T")


def _beside(call: Callable[[], T]) -> T:
    """Call something that needs an event loop of its own; Playwright has one in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Back at the client</h1>")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def origins() -> Iterator[list[str]]:
    """Two origins with the page of a client each."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_login_leads_on_to_a_client(page: Page, server: Server, origins: list[str]) -> None:
    """Chromium follows the answer of the login form to a client that asks for no consent: its policy allows that."""
    callback = f"{origins[0]}/callback"
    client = _beside(lambda: server.client(require_consent=False, redirect_uris=(callback,)))
    person = _beside(server.person)
    page.goto(server.authorize_url(client))
    page.get_by_label("Username").fill(person.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading")).to_have_text("Back at the client")
    assert page.url.startswith(f"{callback}?code=")


def test_pages_of_other_origins(
    server: Server, make_context: Callable[..., BrowserContext], origins: list[str]
) -> None:
    """A page of a client's origin may call the token endpoint, another one may not, and everybody may read the keys."""
    own, other = origins
    client = _beside(lambda: server.client(public=True, redirect_uris=(f"{own}/callback",), scopes=("profile",)))
    context = make_context(java_script_enabled=True)
    call = """async ([url, body]) => {
        const headers = {"content-type": "application/x-www-form-urlencoded", "authorization": "Basic eDp4"}
        try {
            return (await fetch(url, body ? {method: "POST", body: body, headers: headers} : {})).status
        } catch (error) { return String(error) }
    }"""
    token = [f"{server.url}/oauth2/token", f"grant_type=refresh_token&client_id={client.id}&refresh_token=x"]
    for origin, answer in [(own, 400), (other, "TypeError: Failed to fetch")]:
        page = context.new_page()
        page.goto(f"{origin}/")
        assert page.evaluate(call, token) == answer
        assert page.evaluate(call, [f"{server.url}/jwks", ""]) == 200
