"""After the login a person goes to a page of this server, and nowhere else."""

from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import URL

from authly.api.return_to import HOME, login_url, safe_target

BASE = "https://auth.example/login?x=1"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/account",
        "/oauth2/authorize?client_id=a&redirect_uri=https%3A%2F%2Fapp.example%2F&state=~",
        "/a#b",
        "/a//b",
    ],
)
def test_paths_of_this_server(target: str) -> None:
    """Are kept as they are, with their query."""
    assert safe_target(target) == target


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "account",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "https://evil.example",
        "https:/evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/a\r\nSet-Cookie: a=b",
        "/a\0",
        "/ä",
        "/a b",
        "/a\\b",
        "/" + "x" * 8192,
    ],
)
def test_everything_else_is_the_account_page(target: str | None) -> None:
    """Other servers, in all the ways that browsers read; and what a header cannot hold."""
    assert safe_target(target) == HOME


@given(st.text(alphabet=st.sampled_from("/\\\t\r\n .:@?#[]aehlmptvx%2fF5C\0ä\u2028"), max_size=20))
def test_no_target_leads_elsewhere(target: str) -> None:
    """Whatever is asked for, resolving it as a browser does leads to this server."""
    safe = safe_target(target)
    # What browsers do before they resolve (WHATWG URL): drop tabs and line ends, take backslashes for slashes.
    read = safe.strip().replace("\t", "").replace("\n", "").replace("\r", "").replace("\\", "/")
    assert urlsplit(urljoin(BASE, read)).netloc == "auth.example"
    assert urljoin(BASE, read).startswith("https://auth.example/")


def test_the_login_page_leads_back() -> None:
    """To the page that was asked for, with its query, whatever it has in it."""
    url = URL("http://auth.example/oauth2/authorize?scope=a%20b&state=x%26y&redirect_uri=http://a/?b=c")
    query = parse_qs(urlsplit(login_url(url)).query)
    assert query == {"return_to": ["/oauth2/authorize?scope=a%20b&state=x%26y&redirect_uri=http://a/?b=c"]}
    assert login_url(URL("http://auth.example/account")) == "/login?return_to=%2Faccount"
