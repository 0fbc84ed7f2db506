"""Takes the pictures of the exporter's status page in ``docs/images``: ``make screenshots``.

Everything is real: an instance with four workers that are asked all the time, one of which is killed and one stopped.
"""

import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import CHROMIUM, OPTIONS
from tests.instance import REPOSITORY, Instance
from tests.processes import kill, wait_until

_FOLDER = REPOSITORY / "docs/images"
_SECONDS_OF_LOAD = 75.0


def ask(instance: Instance, ended: threading.Event) -> None:
    """Ask for pages again and again, more and less often, for as long as a picture is waited for."""
    began = time.monotonic()
    while not ended.is_set() and time.monotonic() - began < 300:
        phase = (time.monotonic() - began) % 40 / 40
        with suppress(OSError):
            instance.get("/health/live")
        ended.wait(0.008 + 0.03 * abs(phase - 0.5))


def open_page(browser: Browser, instance: Instance, scheme: str, width: int, height: int) -> Page:
    """Open the page, and wait until it has been updated."""
    page = browser.new_page(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": height},
        device_scale_factor=1.5 if width < 600 else 1,
    )
    page.goto(f"http://{instance.metrics_address}/")
    for _ in range(2):
        with page.expect_response("**/-/status"):
            pass
    return page


def main() -> None:
    """Take all pictures."""
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="authly-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        instance = Instance(Path(folder), {"AUTHLY_WORKERS": "4", "AUTHLY_ENVIRONMENT": "production"})
        ended = threading.Event()
        load = threading.Thread(target=ask, args=(instance, ended))
        try:
            instance.start()
            load.start()
            began = time.monotonic()
            while time.monotonic() - began < _SECONDS_OF_LOAD:
                instance.series()
                time.sleep(5)
            page = open_page(browser, instance, "light", 1280, 860)
            page.screenshot(path=_FOLDER / "status.png", full_page=True)
            kill(instance.workers()[1])
            wait_until(lambda: len(instance.workers()) == 4)
            stopped = instance.workers()[2]
            os.kill(stopped, signal.SIGSTOP)
            (instance.directory / "counter_s7.db").write_bytes(b"\xff" * 4096)
            instance.series()
            time.sleep(6)
            page = open_page(browser, instance, "dark", 1280, 1000)
            page.screenshot(path=_FOLDER / "status-dark.png")
            page = open_page(browser, instance, "light", 390, 1500)
            page.screenshot(path=_FOLDER / "status-narrow.png")
            os.kill(stopped, signal.SIGCONT)
        finally:
            ended.set()
            if load.ident is not None:
                load.join()
            instance.stop()
            browser.close()


if __name__ == "__main__":
    main()
