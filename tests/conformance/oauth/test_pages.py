"""The consent page and the page of applications, in Chromium with JavaScript off."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import check_accessibility
from tests.oauth import PASSWORD, Pkce, Registered, Server


class Callback(BaseHTTPRequestHandler):
    """The page of the client that the answer is sent to."""

    def do_GET(self) -> None:
        """Show that the answer came."""
        body = b"<!doctype html><title>The client</title><h1>Welcome back</h1>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is overridden
        """Log nothing."""


@pytest.fixture(scope="module")
def callback() -> Iterator[str]:
    """The redirect URI of a client that is there."""
    client = ThreadingHTTPServer(("127.0.0.1", 0), Callback)
    thread = threading.Thread(target=client.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{client.server_port}/callback"
    client.shutdown()
    client.server_close()
    thread.join()


@pytest.fixture(scope="module")
def client(server: Server, callback: str) -> Registered:
    """A client whose users go through all pages."""
    return server.client(
        name="Photo Prints",
        redirect_uris=(callback,),
        resources=("https://photos.example/",),
        scopes=("profile", "email"),
    )


def test_consent_in_the_browser(server: Server, client: Registered, page: Page) -> None:
    """Login, consent, back at the client with a code; asked once; taken back on the page of applications."""
    person, pkce = server.person(), Pkce()
    url = server.authorize_url(client, pkce, resource="https://photos.example/")
    page.goto(url)
    page.get_by_label("Username").fill(person.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading")).to_have_text("Allow Photo Prints?")
    expect(page.get_by_text("See your e-mail address")).to_be_visible()
    expect(page.get_by_text("https://photos.example/")).to_be_visible()
    check_accessibility(page)
    page.get_by_role("button", name="Allow").click()
    expect(page.get_by_role("heading")).to_have_text("Welcome back")
    answer = parse_qs(urlsplit(page.url).query)
    assert answer["state"] == ["a state"]
    assert server.redeem(client, answer["code"][0], pkce).status_code == 200

    page.goto(url)
    expect(page.get_by_role("heading")).to_have_text("Welcome back")

    page.goto(f"{server.url}/account")
    page.get_by_role("link", name="Applications").click()
    expect(page.get_by_role("heading", name="Photo Prints")).to_be_visible()
    check_accessibility(page)
    page.get_by_role("button", name="Take it back from Photo Prints").click()
    expect(page.get_by_role("status")).to_have_text("What you allowed is taken back.")
    check_accessibility(page)

    page.goto(url)
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("heading")).to_have_text("Welcome back")
    assert parse_qs(urlsplit(page.url).query)["error"] == ["access_denied"]


def test_login_leads_straight_back(server: Server, client: Registered, page: Page) -> None:
    """Where consent is remembered, the answer to the login form leads to the client, and the browser lets it."""
    person, pkce = server.person(), Pkce()
    server.code(client, pkce, person)
    page.goto(server.authorize_url(client, pkce))
    page.get_by_label("Username").fill(person.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading")).to_have_text("Welcome back")


def test_a_request_that_leads_nowhere(server: Server, client: Registered, page: Page) -> None:
    """The user is told, and stays."""
    page.goto(server.authorize_url(client, redirect_uri="https://evil.example/"))
    expect(page.get_by_role("heading")).to_have_text("This request cannot be answered")
    assert page.url.startswith(server.url)
    check_accessibility(page)
