"""The pages, in a real browser with JavaScript off, answered by a real instance of three workers."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import check_accessibility
from tests.instance import Instance
from tests.processes import wait_until

PASSWORD = "correct horse battery staple"
SETTINGS = {
    "AUTHLY_ADMIN_USERNAME": "ada",
    "AUTHLY_ADMIN_PASSWORD": PASSWORD,
    "AUTHLY_PASSWORD_HASH_TIME": "1",
    "AUTHLY_PASSWORD_HASH_MEMORY": "64",
}


@pytest.fixture
def instance(make_instance: Callable[..., Instance], migrated_url: str) -> Instance:
    """Three workers on a database whose only user is ada."""
    instance = make_instance(AUTHLY_DATABASE_URL=migrated_url, **SETTINGS).start()
    wait_until(lambda: all(instance.get("/health/ready")[0] == 200 for _ in range(10)), 20)
    return instance


def test_login_and_logout(page: Page, instance: Instance) -> None:
    """A person logs in, sees their account, and logs out."""
    page.goto(f"http://{instance.address}/account?x=1")
    check_accessibility(page)
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"http://{instance.address}/account?x=1")
    check_accessibility(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")
