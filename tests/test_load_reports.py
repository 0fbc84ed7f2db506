"""The reports of the load suite, as a person sees them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from loadtests import gate, report, soak
from loadtests.books import Entry
from loadtests.chaos import KILL
from tests.browser import check_accessibility


def window(side: str, added: float) -> gate.Window:
    """Return a measurement whose requests take so many milliseconds more."""
    latencies = [1 + number % 37 / 10 + added for number in range(300)]
    return gate.Window(side, latencies, 150 + added, 2 + added, [(1.0, 150.0, 0.3), (2.0, 151.0, 0.4)], [(1.0, 90)])


def measured(*added: float) -> gate.Measured:
    """Return what was measured, of pairs with such differences."""
    plan = gate.Plan(1, len(added), 31.0, 120.0, 10, 15.0, 3.0, 2, 7)
    found = gate.Measured(plan)
    found.pairs = [{gate.ON: window(gate.ON, one), gate.OFF: window(gate.OFF, 0.0)} for one in added]
    found.throughput = [{gate.ON: 900.0, gate.OFF: 905.0 + one} for one in added]
    found.scrapes = [(1.0, 200, 4.0, 5000)] * 10
    found.entries = [Entry("GET", "/jwks", {200: 5}, {200: 5}, 0)]
    return found


def open_report(path: Path, make_context: Callable[..., BrowserContext]) -> str:
    """Open a report on a telephone, and return its text; it fits, and everybody can read it."""
    page = make_context(java_script_enabled=True, viewport={"width": 390, "height": 800}).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("http://report.test/", lambda route: route.fulfill(content_type="text/html", body=path.read_text()))
    page.goto("http://report.test/")
    # All of it is in one file.
    assert asked == ["http://report.test/"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    check_accessibility(page)
    return str(page.locator("body").inner_text())


@pytest.mark.parametrize(
    ("added", "status", "sentence"),
    [
        ((0.2, 0.22, 0.21), 1, "A budget is exceeded, or the books are wrong."),
        ((0.01, 0.011, 0.012), 3, "Inconclusive"),
    ],
)
def test_the_report_of_the_gate(
    added: tuple[float, ...],
    status: int,
    sentence: str,
    tmp_path: Path,
    make_context: Callable[..., BrowserContext],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verdict, measures and pictures are on one page; processor time decides, availability is not known."""
    found = measured(*added)
    measures = gate.judge(found)
    assert gate.status_of(measures, found.problems) == status
    report.write_gate(found, measures, [], status, tmp_path)
    text = open_report(tmp_path / "gate.html", make_context)
    assert sentence in text
    for measure in measures:
        assert measure.name in text
    assert "5 answered, 5 counted, 5 sent" in text
    written = json.loads((tmp_path / "gate.json").read_text())
    assert [one["name"] for one in written["measures"]] == [measure.name for measure in measures]
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(("handicap", "status"), [(6.0, gate.KEPT), (4.0, gate.INCONCLUSIVE)])
def test_a_control_has_to_be_found(handicap: float, status: int, tmp_path: Path) -> None:
    """A side with a handicap exceeds its budgets, or nothing is known of the real one; the page says so."""
    found = measured(0.0, 0.001, 0.002)
    found.plan = found.plan._replace(scrapes=0, control=True)
    for number, pair in enumerate(found.pairs):
        slow = window(gate.CONTROL, handicap + number / 100)
        pair[gate.CONTROL] = replace(slow, memory=pair[gate.OFF].memory + 60 + number / 100)
    measures, control = gate.judge(found), gate.judge_control(found)
    assert gate.status_of(measures, []) == gate.KEPT
    assert gate.status_of(measures, [], control) == status
    report.write_gate(found, measures, control, status, tmp_path)
    verdict = "exceeded" if status == gate.KEPT else "kept"
    page = (tmp_path / "gate.html").read_text()
    assert f"request time, p50 {handicap + 0.01:.2f} ms ({verdict}), memory 60.01 MB (exceeded)" in page


def test_wrong_books_fail_the_gate(tmp_path: Path) -> None:
    """However little was added."""
    found = measured(0.0, 0.0)
    found.plan = found.plan._replace(scrapes=0)
    measures = gate.judge(found)
    assert gate.status_of(measures, []) == gate.KEPT
    assert gate.status_of(measures, ["GET /jwks: 2 answered, 1 counted"]) == gate.EXCEEDED


def test_the_report_of_a_soak(tmp_path: Path, make_context: Callable[..., BrowserContext]) -> None:
    """What did not hold is said first."""
    soaked = soak.Soaked(soak.Plan(60.0, 1.0, 8, "", 3, 42))
    soaked.mishaps[KILL] = 2
    soaked.log = [(1.0, KILL), (2.0, KILL)]
    soaked.samples = [soak.Look(1.0, 150.0, 12, 4.0), soak.Look(2.0, 151.0, 12, 5.0)]
    soaked.requests = [(0.5, 200), (1.5, 0)]
    soaked.entries = [Entry("GET", "/jwks", {200: 1}, {200: 1}, 1)]
    soaked.broken("no counter falls", "2.0 s: authly_x_total was 3.0, is 2.0")
    report.write_soak(soaked, tmp_path)
    text = open_report(tmp_path / "soak.html", make_context)
    assert "An invariant did not hold." in text
    assert "authly_x_total was 3.0, is 2.0" in text
    assert "Seed 42: 2 x worker killed" in text
