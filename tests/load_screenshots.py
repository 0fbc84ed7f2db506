"""Takes the pictures of the load suite's reports in ``docs/images``: ``python -m tests.load_screenshots``.

The reports are those that ``make load`` and ``make soak`` left in ``loadtests/results``.
"""

from playwright.sync_api import sync_playwright

from tests.browser import CHROMIUM, OPTIONS
from tests.instance import REPOSITORY


def main() -> None:
    """Take a picture of each report that is there."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 860, "height": 1100})
        for report in sorted((REPOSITORY / "loadtests/results").glob("*.html")):
            page.goto(report.as_uri())
            page.screenshot(path=REPOSITORY / f"docs/images/load-{report.stem}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
