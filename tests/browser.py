"""A real browser for tests: Chromium with JavaScript off, as a person with the strictest settings has it.

Playwright runs an event loop of its own in the thread of the tests: a module that uses the browser has no asynchronous
tests.
"""

import shutil
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import files

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.plain import NO_TLS
from tests.requirements import require

# The same browser without a window to have: a page takes a fifth of the processor time.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or ""
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The package brings the script; its Python part is not needed.
_AXE = next(path for path in files("axe-playwright-python") or () if path.name == "axe.min.js")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium, for the tests of a module."""
    require("chromium", bool(CHROMIUM), "there is no Chromium; install Debian's chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def make_context(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Return what makes browser profiles: each with cookies of its own, and JavaScript off unless asked for."""
    made = []

    def make(*, java_script_enabled: bool = False, **options: object) -> BrowserContext:
        context = chromium.new_context(java_script_enabled=java_script_enabled, **options)  # type: ignore[arg-type]
        context.set_default_timeout(15_000)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


@pytest.fixture
def page(make_context: Callable[..., BrowserContext]) -> Page:
    """A page of a new browser profile, with JavaScript off."""
    return make_context().new_page()


def check_accessibility(page: Page) -> None:
    """Let axe-core look at a page that is shown, and fail with what it finds.

    JavaScript is on for that alone: the same document is shown in another profile, from where it was.
    """
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(
        storage_state=page.context.storage_state(), color_scheme=None, viewport=page.viewport_size, bypass_csp=True
    )
    try:
        copy = context.new_page()
        document = page.content()
        # The document as it is shown, which a second request might not give (the answer to a form, say).
        copy.route(page.url, lambda route: route.fulfill(status=200, content_type="text/html", body=document))
        copy.goto(page.url)
        copy.evaluate(_AXE.read_text(encoding="utf-8"))
        for scheme in ("light", "dark"):
            copy.emulate_media(color_scheme=scheme)
            found = copy.evaluate(
                # Of what is right, that it is there is enough.
                "axe.run({resultTypes: ['violations'], "
                "runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
            )
            assert found["passes"], "axe-core checked nothing"
            problems = [
                f"{problem['id']}: {problem['help']}: {[node['html'] for node in problem['nodes']]}"
                for problem in found["violations"]
            ]
            assert not problems, f"{page.url} ({scheme}):\n" + "\n".join(problems)
    finally:
        context.close()


def http_client(base_url: str) -> httpx.Client:
    """Return an HTTP client that keeps Secure cookies on plain HTTP, as browsers do for this machine."""
    jar = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))
    return httpx.Client(base_url=base_url, cookies=jar, verify=NO_TLS)
