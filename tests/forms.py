"""Filling in Authly's pages without a browser."""

import re
from html import unescape
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from tests.plain import NO_TLS


class PageClient(httpx.Client):
    """An HTTP client that keeps Secure cookies on plain HTTP, as browsers do for this machine.

    Each request has a connection of its own, which any worker may answer.

    Args:
        base_url: of the instance.
    """

    def __init__(self, base_url: str) -> None:
        # The client copies its cookies into a jar of the usual policy, which would not send these.
        self.kept = httpx.Cookies()
        self.kept.jar = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))
        super().__init__(
            base_url=base_url,
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=30.0,
            verify=NO_TLS,
            event_hooks={"request": [self.kept.set_cookie_header], "response": [self.kept.extract_cookies]},
        )


def hidden_fields(page: httpx.Response) -> dict[str, str]:
    """Return the hidden fields of the form on a page."""
    return {
        name: unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    }


def submit(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Look at a page and send its form, filled in; return the answer without following it."""
    page = client.get(path)
    assert page.status_code == 200, page.text
    return client.post(path.partition("?")[0], data={**hidden_fields(page), **fields})


def log_in(client: httpx.Client, username: str, password: str) -> None:
    """Log in."""
    answer = submit(client, "/login", username=username, password=password)
    assert answer.status_code == 303, answer.text


def sign_up(client: httpx.Client, username: str, password: str) -> None:
    """Create an account, and be signed in."""
    answer = submit(client, "/signup", username=username, new_password=password, repeated_password=password)
    assert answer.status_code == 303, answer.text
