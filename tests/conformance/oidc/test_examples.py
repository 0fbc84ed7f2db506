"""The examples that log users in do what their pages say, in Chromium, against three workers."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import check_accessibility
from tests.instance import REPOSITORY
from tests.oauth import PASSWORD, Person, Server

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def scripted(make_context: Callable[..., BrowserContext]) -> Page:
    """A page of a browser that runs scripts."""
    return make_context(java_script_enabled=True).new_page()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def single_page(server: Server, tmp_path: Path) -> Iterator[str]:
    """The address of the single-page application, registered and served as its page says."""
    folder = tmp_path / "single_page"
    shutil.copytree(EXAMPLES / "single_page", folder)
    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    url = f"http://127.0.0.1:{files.server_port}/"
    client = server.client(
        public=True,
        name="Single page",
        redirect_uris=(url,),
        post_logout_redirect_uris=(url,),
        scopes=("openid", "profile"),
    )
    settings = json.loads((folder / "settings.json").read_text())
    assert settings.keys() == {"issuer", "client_id"}
    (folder / "settings.json").write_text(json.dumps({"issuer": server.url, "client_id": client.id}))
    thread = threading.Thread(target=files.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield url
    files.shutdown()
    thread.join()
    files.server_close()


def sign_in(page: Page, person: Person) -> None:
    """Fill in the login page."""
    page.get_by_label("Username").fill(person.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_single_page(server: Server, scripted: Page, single_page: str) -> None:
    """The user signs in, the page knows who it is, signs them out, and they come back."""
    person = server.person(name="Ada Lovelace")
    scripted.goto(single_page)
    status = scripted.get_by_role("status")
    expect(status).to_have_text("You are not signed in.")
    scripted.get_by_role("button", name="Sign in").click()
    sign_in(scripted, person)
    scripted.get_by_role("button", name="Allow").click()
    expect(status).to_have_text("You are Ada Lovelace.")
    assert scripted.url == single_page  # no code in it
    scripted.get_by_role("button", name="Sign out").click()
    expect(status).to_have_text("You are not signed in.")
    scripted.get_by_role("button", name="Sign in").click()
    expect(scripted.get_by_label("Password")).to_be_visible()


def test_single_page_refused(server: Server, scripted: Page, single_page: str) -> None:
    """A user who says no, and an answer that nobody asked for, are both told of."""
    person = server.person()
    scripted.goto(single_page)
    scripted.get_by_role("button", name="Sign in").click()
    sign_in(scripted, person)
    scripted.get_by_role("button", name="Deny").click()
    status = scripted.get_by_role("status")
    expect(status).to_have_text("That did not work: The user said no.")
    scripted.goto(f"{single_page}?code=stolen&state=x&iss={server.url}")
    expect(status).to_have_text("That did not work: Nobody asked for this answer here.")


def test_other_origins(server: Server, scripted: Page, single_page: str) -> None:
    """A page of an origin that is no client's cannot call the token endpoint: the browser keeps the answer from it."""
    script = "url => fetch(url, {method: 'POST', body: new URLSearchParams({a: 1})}).then(a => a.status, () => 'no')"
    scripted.goto(single_page)
    assert scripted.evaluate(script, f"{server.url}/oauth2/token") == 401
    # The same page, at an origin with another name.
    scripted.goto(single_page.replace("127.0.0.1", "localhost"))
    assert scripted.evaluate(script, f"{server.url}/oauth2/token") == "no"


def test_native_app(server: Server, page: Page) -> None:
    """The command prints where to sign in, and who has; the browser needs no scripts."""
    person = server.person(name="Ada Lovelace")
    client = server.client(
        public=True, name="Native app", redirect_uris=("http://127.0.0.1/callback",), scopes=("openid", "profile")
    )
    # A browser that opens nothing: the test has its own.
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "native_app/app.py", client.id, "--issuer", server.url],
        env={"BROWSER": "true", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:3] == ["Sign", "in", "at"]
        page.goto(words[3])
        sign_in(page, person)
        page.get_by_role("button", name="Allow").click()
        expect(page.get_by_text("You can close this page now")).to_be_visible()
        assert process.stdout.read() == "You are Ada Lovelace.\n"
    assert process.returncode == 0


def test_accessibility(server: Server, page: Page) -> None:
    """The pages that OpenID Connect adds are accessible, and work without scripts."""
    client = server.client(name="Photo Prints", scopes=("openid",), post_logout_redirect_uris=("https://a.example/",))
    page.goto(f"{server.url}/login")
    sign_in(page, server.person())
    page.goto(server.authorize_url(client, prompt="select_account"))
    expect(page.get_by_role("heading")).to_have_text("Choose an account")
    check_accessibility(page)
    page.goto(f"{server.url}/oidc/logout?client_id={client.id}")
    expect(page.get_by_role("heading")).to_have_text("Sign out?")
    check_accessibility(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")
    page.goto(f"{server.url}/oidc/logout?client_id={client.id}&post_logout_redirect_uri=https://b.example/")
    expect(page.get_by_role("heading")).to_have_text("You are not signed out yet")
    check_accessibility(page)


def test_form_post(server: Server, scripted: Page, page: Page) -> None:
    """An answer as a form reaches the client with scripts by itself, and without them at the press of a button."""
    received: list[bytes] = []

    class Client(Quiet):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.end_headers()
            self.wfile.write(b"Welcome back")

    http = ThreadingHTTPServer(("127.0.0.1", 0), Client)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        url = f"http://127.0.0.1:{http.server_port}/callback"
        client = server.client(redirect_uris=(url,), scopes=("openid",))
        person = server.person()
        for shown in (scripted, page):
            shown.goto(server.authorize_url(client, response_mode="form_post"))
            sign_in(shown, person)
            if shown is scripted:
                shown.get_by_role("button", name="Allow").click()
            else:
                shown.get_by_role("button", name="Continue").click()
            expect(shown.get_by_text("Welcome back")).to_be_visible()
        assert [body.startswith(b"code=") and b"&iss=" in body for body in received] == [True, True]
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
