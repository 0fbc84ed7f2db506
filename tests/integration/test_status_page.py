"""The status page of a real instance in a real browser.

Playwright runs an event loop in the thread of the tests: nothing here is asynchronous.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

from tests.browser import check_accessibility
from tests.instance import Instance, total
from tests.processes import kill, wait_until

CANARY = "canary7f3a"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance with three workers, which has been asked and scraped."""
    started = Instance(
        tmp_path_factory.mktemp("status"),
        {"AUTHLY_DATABASE_URL": f"postgresql://{CANARY}user:{CANARY}password@127.0.0.1:9/none"},
    )
    try:
        started.start()
        for _ in range(2):
            started.get("/health/live")
            started.series()
        yield started
    finally:
        started.stop()


class Log:
    """What a browser said and asked for."""

    def __init__(self, page: Page) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._say)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self._ask)
        page.on("requestfailed", lambda request: self.said.append(f"failed: {request.url}"))

    def _say(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")

    def _ask(self, request: Request) -> None:
        self.asked.append(request.url)


@pytest.fixture
def live(make_context: Callable[..., BrowserContext], instance: Instance) -> tuple[Page, Log]:
    """The page in a browser with JavaScript, after its first update."""
    page = make_context(java_script_enabled=True).new_page()
    log = Log(page)
    page.goto(f"http://{instance.metrics_address}/")
    with page.expect_response("**/-/status"):
        pass
    return page, log


def workers(page: Page) -> list[str]:
    """Return the process ids that the page shows."""
    return page.locator("section[aria-labelledby=workers-title] tbody td:nth-of-type(1)").all_inner_texts()


def test_a_replacement_is_shown_within_two_seconds(live: tuple[Page, Log], instance: Instance) -> None:
    """A worker is killed: its successor is there without reloading, and the page says what happened.

    Of three tries one must be quick enough, since other processes share the machine.
    """
    page, log = live
    page.evaluate("window.same = true")
    took: list[float] = []
    while len(took) < 3 and min(took, default=9.0) > 2.0:
        wait_until(
            lambda: len(instance.workers()) == 3 and sorted(workers(page)) == sorted(map(str, instance.workers()))
        )
        victim = instance.workers()[0]
        kill(victim)
        began = time.monotonic()
        wait_until(lambda: len(workers(page)) == 3 and str(victim) not in workers(page))  # noqa: B023
        took.append(time.monotonic() - began)
    assert min(took) <= 2.0, took
    page.locator(".findings").get_by_text("Workers that were ended by a signal from outside").wait_for()
    assert page.title().startswith("(1)")
    assert "signal from outside" in page.locator("#said[role=status]").inner_text()
    assert page.evaluate("window.same")
    assert log.said == []


def test_nothing_is_asked_of_anybody_else(live: tuple[Page, Log], instance: Instance) -> None:
    """All that the page needs comes from the exporter, and the browser has nothing to complain about."""
    page, log = live
    with page.expect_response("**/-/status"):
        pass
    assert len(log.asked) >= 5
    assert {url for url in log.asked if not url.startswith(f"http://{instance.metrics_address}/")} == set()
    assert log.said == []


def test_it_is_accessible(live: tuple[Page, Log]) -> None:
    """axe-core finds nothing, in light and dark, wide and narrow."""
    page, _ = live
    check_accessibility(page)
    page.set_viewport_size({"width": 360, "height": 740})
    check_accessibility(page)


def test_no_width_needs_scrolling_sideways(live: tuple[Page, Log]) -> None:
    """Wide tables scroll by themselves."""
    page, _ = live
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_works_without_javascript(page: Page, instance: Instance) -> None:
    """The same content, and a word on how to see the next moment."""
    page.goto(f"http://{instance.metrics_address}/")
    assert len(workers(page)) == 3
    assert page.get_by_text("reload it for the next").is_visible()
    assert page.get_by_role("button").count() == 0


def test_it_asks_nothing_while_nobody_sees_it(live: tuple[Page, Log]) -> None:
    """Hidden or paused it is quiet; seen again it asks at once."""
    page, log = live
    announce = "document.dispatchEvent(new Event('visibilitychange'))"
    hide = f"Object.defineProperty(document, 'hidden', {{value: true, configurable: true}}); {announce}"
    click = "document.getElementById('pause').click()"
    for stop, go_on in [(hide, f"delete document.hidden; {announce}"), (click, click)]:
        page.evaluate(stop)
        before = len(log.asked)
        page.wait_for_timeout(2500)
        assert len(log.asked) == before
        with page.expect_response("**/-/status"):
            page.evaluate(go_on)


def test_it_says_when_the_exporter_does_not_answer(live: tuple[Page, Log]) -> None:
    """In words, in the title, and until it answers again."""
    page, _ = live
    page.context.set_offline(True)
    page.get_by_text("The exporter does not answer").wait_for()
    assert page.title().startswith("(?)")
    page.context.set_offline(False)
    page.get_by_text("The exporter does not answer").wait_for(state="hidden")
    assert not page.title().startswith("(?)")


def test_it_can_be_used_by_keyboard(live: tuple[Page, Log]) -> None:
    """The first stop leads to what is wrong, the next pauses; and an update takes neither focus nor place away."""
    page, _ = live
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to what is wrong"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("button", name="Go on").is_visible()
    page.keyboard.press("Enter")
    page.set_viewport_size({"width": 320, "height": 700})
    region = page.get_by_role("group", name="Workers by slot")
    region.focus()
    region.evaluate("element => element.scrollLeft = 40")
    for _ in range(2):
        with page.expect_response("**/-/status"):
            pass
    assert region.evaluate("element => element === document.activeElement && element.scrollLeft === 40")


def test_nothing_that_clients_write_is_shown(live: tuple[Page, Log], instance: Instance) -> None:
    """No path, header, query or method of theirs, and no secret among the settings."""
    headers = {"user-agent": CANARY, "x-forwarded-for": CANARY, "x-request-id": CANARY, "host": f"{CANARY}.example"}
    for path in (f"/{CANARY}", f"/health/live?{CANARY}", f"/health/ready/{CANARY}"):
        instance.get(path, headers)
    instance.get("/health/live", headers, CANARY.upper())
    for path in (f"/{CANARY}", f"/?{CANARY}"):
        instance.scrape(path, headers)
    instance.series()
    for path in ("/", "/-/status", f"/-/status?{CANARY}"):
        text = instance.scrape(path, headers)[2].decode().replace("<wbr>", "")
        assert f"{CANARY}password" not in text
        assert CANARY not in text.lower().replace(f"postgresql://{CANARY}user:***@127.0.0.1:9/none", "")
    assert page_shows(live[0], "AUTHLY_DATABASE_URL")


def page_shows(page: Page, words: str) -> bool:
    """Tell whether some text is there, whatever it is broken into."""
    return words in page.locator("body").inner_text()


def test_the_exporter_stays_small(live: tuple[Page, Log], instance: Instance) -> None:
    """With somebody looking, it has less than 30 MB of memory to itself."""
    assert page_shows(live[0], "Workers by slot")
    assert 0 < total(instance.series(), "authly_memory_usage_bytes", role="exporter", type="pss") < 30e6


def test_a_bad_file_is_named(live: tuple[Page, Log], instance: Instance) -> None:
    """Which one, why, and what to do."""
    page, _ = live
    path = Path(instance.directory) / "counter_s9.db"
    path.write_bytes(b"\xff" * 4096)
    try:
        page.locator(".findings").get_by_text("Metric files that are left out: corrupt 1.").wait_for()
        assert "counter_s9.db" in page.locator("section[aria-labelledby=skipped-title]").inner_text()
    finally:
        path.unlink()
    page.locator(".findings").get_by_text("Metric files that are left out").wait_for(state="detached")
