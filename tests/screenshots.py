"""Takes the pictures of the pages in ``docs/images``: ``make screenshots``.

Everything is real: an instance with its own embedded PostgreSQL, Chromium with JavaScript off.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser import CHROMIUM, OPTIONS
from tests.instance import NO_DATABASE, REPOSITORY, Instance
from tests.oauth import Server, embedded_url
from tests.processes import wait_until

_FOLDER = REPOSITORY / "docs/images"
_PASSWORD = "correct horse battery staple"


def take(page: Page, name: str) -> None:
    """Take a picture of a page."""
    page.screenshot(path=_FOLDER / f"{name}.png", animations="disabled")


def main() -> None:
    """Take all pictures."""
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="authly-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        settings = {
            "AUTHLY_ADMIN_USERNAME": "ada",
            "AUTHLY_ADMIN_PASSWORD": _PASSWORD,
            "AUTHLY_SIGN_UP_ENABLED": "true",
            "AUTHLY_WORKERS": "1",
        }
        instance = Instance(Path(folder), settings)
        # One of its own, which `make run` would start too.
        del instance.environment["AUTHLY_DATABASE_URL"]
        try:
            instance.start()
            wait_until(lambda: instance.get("/health/ready")[0] == 200, 30)
            server = Server(instance, embedded_url(instance.folder / "state"))
            consent = server.authorize_url(server.client(name="Photo Prints", scopes=("profile", "email")))
            for suffix in ("", "-dark"):
                page = browser.new_page(
                    java_script_enabled=False,
                    color_scheme="dark" if suffix else "light",
                    viewport={"width": 800, "height": 760},
                    base_url=f"http://{instance.address}",
                )
                walk(page, suffix, consent)
            page = browser.new_page(
                java_script_enabled=False,
                viewport={"width": 800, "height": 760},
                extra_http_headers={"accept": "text/html"},
            )
            away = Instance(Path(folder) / "away", {"AUTHLY_WORKERS": "1", "AUTHLY_DATABASE_URL": NO_DATABASE})
            away.folder.mkdir()
            try:
                away.start()
                page.goto(f"http://{away.address}/login")
                page.get_by_label("Username").fill("ada")
                page.get_by_label("Password").fill(_PASSWORD)
                page.get_by_role("button", name="Sign in").click()
                take(page, "unavailable")
            finally:
                away.stop()
        finally:
            instance.stop()
            browser.close()


def walk(page: Page, suffix: str, consent: str) -> None:
    """Go through the pages."""
    page.goto("/login")
    take(page, f"login{suffix}")
    if suffix:
        return
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("not my password")
    page.get_by_role("button", name="Sign in").click()
    take(page, "login-wrong")
    page.get_by_label("Password").fill(_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    take(page, "account")
    page.get_by_role("link", name="Change password").click()
    take(page, "password")
    page.goto(consent)
    take(page, "consent")
    page.goto("/account")
    page.get_by_role("button", name="Sign out").click()
    take(page, "signed-out")
    page.goto("/signup")
    take(page, "signup")


if __name__ == "__main__":
    main()
