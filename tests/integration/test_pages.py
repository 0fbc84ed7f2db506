"""The pages in a real browser with JavaScript off, answered by a real instance of three workers."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, expect

from tests.browser import check_accessibility
from tests.forms import PageClient, sign_up
from tests.instance import Instance
from tests.postgres import new_database
from tests.processes import wait_until

PASSWORD = "correct horse battery staple"
NEW = "a new and longer sentence"
# Stricter than any policy that a deployment would set: nothing but our own styles and pictures.
STRICT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
THEME = "@media (prefers-color-scheme: light) { :root { --accent: rgb(1 99 77); } }"
_numbers = count()


@pytest.fixture(scope="module")
def address(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of three workers with a theme and sign-up."""
    folder = tmp_path_factory.mktemp("instance")
    theme = folder / "theme.css"
    theme.write_text(THEME)
    with new_database(postgres_server) as url:
        instance = Instance(
            folder,
            {
                "AUTHLY_DATABASE_URL": url,
                "AUTHLY_SIGN_UP_ENABLED": "true",
                "AUTHLY_THEME": str(theme),
            },
        )
        try:
            instance.start()
            wait_until(lambda: instance.log().count("database_available") == 3, 30)
            yield f"http://{instance.address}"
        finally:
            instance.stop()
            print(instance.log())  # noqa: T201


@pytest.fixture
def username(address: str) -> str:
    """The name of a user of this test's own, whose password is PASSWORD."""
    name = f"user{next(_numbers)}"
    with PageClient(address) as client:
        sign_up(client, name, PASSWORD)
    return name


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    """A page with JavaScript off, on which the browser finds nothing to complain about."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # What a page answers on purpose, such as a wrong password, the browser mentions too.
        if "status of 4" not in message.text:
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []


def fill_in_login(page: Page, username: str, password: str) -> None:
    """Fill in the form of the login page that is shown, and send it."""
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def log_in(page: Page, address: str, username: str, password: str = PASSWORD) -> None:
    """Log in."""
    page.goto(f"{address}/login")
    fill_in_login(page, username, password)
    expect(page).to_have_url(f"{address}/account")


def change_password(page: Page, current: str, new: str, repeated: str) -> None:
    """Fill in the form that changes the password, and send it."""
    page.get_by_label("Current password").fill(current)
    page.get_by_label("New password", exact=True).fill(new)
    page.get_by_label("New password, once more").fill(repeated)
    page.get_by_role("button", name="Change password").click()


def test_login_and_logout(page: Page, address: str, username: str) -> None:
    """A person who asks for a page logs in, gets there, and logs out."""
    page.goto(f"{address}/account?x=1&y=%26")
    expect(page.get_by_role("heading")).to_have_text("Sign in")
    check_accessibility(page)
    fill_in_login(page, username, "wrong")
    expect(page.get_by_role("alert")).to_have_text("The username or the password is wrong.")
    expect(page.get_by_label("Username")).to_have_value(username)
    expect(page.get_by_label("Password")).to_have_value("")
    expect(page.get_by_label("Password")).to_be_focused()
    check_accessibility(page)
    fill_in_login(page, username, PASSWORD)
    expect(page).to_have_url(f"{address}/account?x=1&y=%26")
    expect(page.get_by_text(username)).to_be_visible()
    check_accessibility(page)
    page.goto(f"{address}/logout")
    check_accessibility(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")
    check_accessibility(page)
    page.goto(f"{address}/account")
    expect(page.get_by_role("heading")).to_have_text("Sign in")


def test_the_keyboard_is_enough(page: Page, address: str, username: str) -> None:
    """The first field has the focus; tab and enter do the rest."""
    page.goto(f"{address}/login")
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type(username)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/account")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/account/password")


def test_cookies_are_seen_by_this_host_alone(page: Page, address: str, username: str) -> None:
    """Chromium keeps __Host- cookies of plain HTTP on the loopback; no script and no other site sees them."""
    log_in(page, address, username)
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert {name: cookie["sameSite"] for name, cookie in cookies.items()} == {
        "__Host-authly_session": "Lax",
        "__Host-authly_csrf": "Strict",
        "__Host-authly_device": "Strict",
    }
    assert all(cookie["secure"] and cookie["httpOnly"] and cookie["path"] == "/" for cookie in cookies.values())
    assert [name for name, cookie in cookies.items() if cookie["expires"] != -1] == ["__Host-authly_device"]


def test_changing_the_password(
    page: Page, make_context: Callable[..., BrowserContext], address: str, username: str
) -> None:
    """The form says what is wrong; afterwards this browser is signed in and every other is not."""
    other = make_context().new_page()
    log_in(other, address, username)
    log_in(page, address, username)
    page.get_by_role("link", name="Change password").click()
    check_accessibility(page)
    for current, new, repeated, problem in (
        (PASSWORD, NEW, NEW + "r", "not the same"),
        (PASSWORD, "short", "short", "too short"),
        (PASSWORD, PASSWORD, PASSWORD, "is the current one"),
        ("wrong", NEW, NEW, "current password is wrong"),
    ):
        change_password(page, current, new, repeated)
        expect(page.get_by_role("alert")).to_contain_text(problem)
    check_accessibility(page)
    change_password(page, PASSWORD, NEW, NEW)
    expect(page.get_by_role("status")).to_have_text("Your password is changed.")
    check_accessibility(page)
    page.reload()
    expect(page.get_by_role("heading")).to_have_text("Your account")
    other.reload()
    expect(other.get_by_role("heading")).to_have_text("Sign in")
    fill_in_login(other, username, PASSWORD)
    expect(other.get_by_role("alert")).to_contain_text("wrong")
    fill_in_login(other, username, NEW)
    expect(other).to_have_url(f"{address}/account")


def test_creating_an_account(page: Page, address: str, username: str) -> None:
    """From the login page; the form says what is wrong, and keeps what was typed but for passwords."""
    page.goto(f"{address}/login?return_to=/account%3Fx=1")
    page.get_by_role("link", name="Create one").click()
    check_accessibility(page)

    def fill_in(name: str, email: str, password: str, repeated: str) -> None:
        page.get_by_label("Username").fill(name)
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Password", exact=True).fill(password)
        page.get_by_label("Password, once more").fill(repeated)
        page.get_by_role("button", name="Create the account").click()

    for name, password, repeated, problem in (
        (username.upper(), PASSWORD, PASSWORD, "taken"),
        ("-", PASSWORD, PASSWORD, "A username has"),
        ("newcomer", "short", "short", "too short"),
        ("newcomer", PASSWORD, NEW, "not the same"),
    ):
        fill_in(name, "n@example.org", password, repeated)
        expect(page.get_by_role("alert")).to_contain_text(problem)
        expect(page.get_by_label("Username")).to_have_value(name)
        expect(page.get_by_label("E-mail")).to_have_value("n@example.org")
    check_accessibility(page)
    fill_in("newcomer", "n@example.org", PASSWORD, PASSWORD)
    expect(page).to_have_url(f"{address}/account?x=1")
    expect(page.get_by_text("n@example.org (not verified)")).to_be_visible()


def test_somebody_who_guesses_is_told_to_wait(page: Page, address: str) -> None:
    """How long, in words; and the form stays."""
    page.goto(f"{address}/login?login_hint=nobody-at-all")
    expect(page.get_by_label("Username")).to_have_value("nobody-at-all")
    for _ in range(9):
        fill_in_login(page, "nobody-at-all", "wrong")
        if "Too many" in (page.get_by_role("alert").text_content() or ""):
            break
    expect(page.get_by_role("alert")).to_contain_text("Too many attempts failed. Wait ")
    check_accessibility(page)


def test_a_form_that_has_expired(page: Page, address: str, username: str) -> None:
    """A page explains it, and what to do."""
    page.goto(f"{address}/login")
    page.context.clear_cookies()
    fill_in_login(page, username, PASSWORD)
    expect(page.get_by_role("heading")).to_have_text("This form has expired")
    check_accessibility(page)
    assert not [cookie for cookie in page.context.cookies() if "session" in str(cookie["name"])]


def test_another_site_cannot_log_anybody_in_or_out(page: Page, address: str, username: str) -> None:
    """Its forms are refused, though the browser sends them, and the person's session goes on."""
    log_in(page, address, username)

    paths = ("login", "logout", "account/password")

    def evil(route: Route) -> None:
        forms = [f'<form method="post" action="{address}/{path}"><button>{path}</button></form>' for path in paths]
        route.fulfill(status=200, content_type="text/html", body="".join(forms))

    page.route("http://evil.example/**", evil)
    # The browser does not send the session's cookie along: a page for those who are signed in asks to sign in.
    for path, heading in zip(paths, ("This form has expired", "This form has expired", "Sign in"), strict=True):
        page.goto("http://evil.example/")
        page.get_by_role("button", name=path, exact=True).click()
        expect(page.get_by_role("heading")).to_have_text(heading)
    page.goto(f"{address}/account")
    expect(page.get_by_text(username)).to_be_visible()


def test_the_strictest_policy_finds_nothing(
    make_context: Callable[..., BrowserContext], page: Page, address: str, username: str
) -> None:
    """With a policy that allows our own styles and pictures alone, nothing is refused, on any page."""

    def with_policy(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": STRICT_POLICY})

    page.route("**/*", with_policy)
    page.goto(f"{address}/login")
    fill_in_login(page, username, PASSWORD)
    for path in ("/account", "/account/password", "/logout", "/signup", "/login", "/nothing-here"):
        page.goto(f"{address}{path}")


def test_a_theme_changes_the_look(make_context: Callable[..., BrowserContext], address: str) -> None:
    """An operator's colours win over Authly's; only for looking at them is JavaScript on."""
    page = make_context(java_script_enabled=True).new_page()
    page.goto(f"{address}/login")
    assert page.evaluate("getComputedStyle(document.querySelector('button')).backgroundColor") == "rgb(1, 99, 77)"


def test_a_narrow_screen_needs_no_scrolling_sideways(
    make_context: Callable[..., BrowserContext], address: str, username: str
) -> None:
    """At 320 pixels everything fits (WCAG 2.2, 1.4.10)."""
    page = make_context(java_script_enabled=True, viewport={"width": 320, "height": 640}).new_page()
    log_in(page, address, username)
    for path in ("/account", "/account/password", "/logout", "/signup", "/login"):
        page.goto(f"{address}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path


def test_static_files_are_kept_by_browsers(address: str) -> None:
    """For ever under the address of a page, which changes with them; not under another."""
    with PageClient(address) as client:
        for name, kind in (("authly.css", "text/css"), ("icon.svg", "image/svg+xml"), ("theme.css", "text/css")):
            answer = client.get(f"/static/{name}")
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
            assert answer.headers["content-type"].startswith(kind)
            assert name in client.get("/login").text or name == "icon.svg"
        assert client.get("/static/theme.css").text == THEME
        assert client.get("/static/nothing.css").status_code == 404
        assert client.get("/static/%2e%2e/pages.py").status_code == 404


def test_pictures_in_the_documentation_are_there() -> None:
    """docs/pages.md shows every page, and the pictures are not empty."""
    folder = Path(__file__).parents[2] / "docs/images"
    names = {"login", "login-dark", "login-wrong", "password", "account", "signup", "signed-out", "unavailable"}
    assert {path.stem for path in folder.glob("*.png")} >= names
    assert all(path.stat().st_size > 5000 for path in folder.glob("*.png"))
