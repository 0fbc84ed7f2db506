"""The load suite: what it concludes from figures, and that it finds what was put there to be found."""

import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.books import Entry, Kind, compare, parse
from loadtests.judgement import Interval, Measure, Verdict, availability, student_quantile
from loadtests.soak import counters
from loadtests.traffic.options import MIX, OptionsError, read
from loadtests.traffic.shapes import share
from tests.instance import REPOSITORY
from tests.requirements import require

KIND = Kind("GET", "/jwks", 200)


def run(*arguments: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the suite's command."""
    return subprocess.run(
        [sys.executable, "-m", "loadtests", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=170,
    )


@pytest.fixture
def locust() -> None:
    """Have the load generator."""
    path = REPOSITORY / ".venv-load/bin/python"
    require("locust", path.exists(), "Locust is not installed. Run: make .venv-load/.installed")


def measure(*differences: float, budget: float | None = 5.0) -> Measure:
    """Return what some differences say of a budget."""
    return Measure.of("request time", "ms", budget, 0.1, differences)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((0.1, 0.2, 0.15, 0.1), Verdict.KEPT),
        ((6.1, 6.2, 6.15, 6.1), Verdict.EXCEEDED),
        ((4.9, 5.2, 4.8, 5.1), Verdict.INCONCLUSIVE),
        ((-20.0, 18.0, -15.0, 16.0), Verdict.INCONCLUSIVE),
        ((-40.0, 60.0, 20.0, 10.0), Verdict.INCONCLUSIVE),
        ((0.0,), Verdict.INCONCLUSIVE),
        ((100.0,), Verdict.INCONCLUSIVE),
    ],
)
def test_the_whole_interval_decides(differences: tuple[float, ...], verdict: Verdict) -> None:
    """A mean within the budget is not enough to pass, and one beyond it not enough to fail."""
    assert measure(*differences).verdict == verdict


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(5, 100))
def test_noise_never_passes(noise: list[float], added: float) -> None:
    """What adds more than the budget on average is not said to keep it, whatever the noise."""
    middle = math.fsum(noise) / len(noise)
    assert measure(*(value - middle + added + 1e-6 for value in noise)).verdict != Verdict.KEPT


def test_what_has_no_budget_is_only_reported() -> None:
    """Neither passes nor fails."""
    assert measure(100.0, 100.1, budget=None).verdict == Verdict.REPORTED


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (8, 2.3060), (29, 2.0452), (200, 1.9719)]
)
def test_intervals_are_those_of_students_distribution(degrees: int, quantile: float) -> None:
    """The quantiles are those of the printed tables."""
    assert student_quantile(0.975, degrees) == pytest.approx(quantile, abs=1e-4)


@pytest.mark.parametrize(
    ("answered", "asked", "verdict"),
    [
        (3000, 3000, Verdict.KEPT),
        (2900, 2900, Verdict.INCONCLUSIVE),
        (2995, 3000, Verdict.INCONCLUSIVE),
        (2950, 3000, Verdict.EXCEEDED),
        (0, 0, Verdict.INCONCLUSIVE),
    ],
)
def test_availability_needs_enough_scrapes(answered: int, asked: int, verdict: Verdict) -> None:
    """No loss among few scrapes says little."""
    share_ = availability(answered, asked)
    assert Measure("/metrics", "%", 99.9, None, share_, lower_is_better=False).verdict == verdict


def test_an_interval_contains_its_mean() -> None:
    """Also that of two numbers."""
    found = Interval.of((1.0, 3.0))
    assert found.low < found.mean == 2.0 < found.high


def test_books_that_agree() -> None:
    """What had been counted before counts for nothing."""
    assert compare([KIND, KIND], {KIND: 5.0}, {KIND: 7.0}) == [Entry("GET", "/jwks", {200: 2}, {200: 2}, 0)]
    assert compare([KIND, KIND], {KIND: 5.0}, {KIND: 7.0})[0].problems() == []


@pytest.mark.parametrize("counted", [1.0, 3.0])
def test_books_that_do_not_agree(counted: float) -> None:
    """One more or less is too much where everything was answered."""
    (entry,) = compare([KIND, KIND], {}, {KIND: counted})
    assert len(entry.problems()) == 1


def test_the_status_has_to_agree_too() -> None:
    """As many in all are not enough."""
    (entry,) = compare([KIND, KIND], {}, {KIND: 1.0, KIND._replace(status=500): 1.0})
    assert entry.problems()


@pytest.mark.parametrize(("counted", "agrees"), [(1.0, False), (2.0, True), (3.0, True), (4.0, False)])
def test_an_unanswered_request_may_have_been_counted(counted: float, agrees: bool) -> None:
    """Its worker was killed before or after."""
    (entry,) = compare([KIND, KIND, KIND._replace(status=0)], {}, {KIND: counted})
    assert (entry.problems() == []) == agrees


@pytest.mark.parametrize(("counted", "agrees"), [(0.0, False), (1.0, True), (2.0, True), (3.0, False)])
def test_what_nothing_could_store_is_doubtful(counted: float, agrees: bool) -> None:
    """One of two was answered while the disk was full: it may have been lost, the other one not."""
    (entry,) = compare([KIND, KIND], {}, {KIND: counted}, [KIND])
    assert (entry.problems() == []) == agrees


def test_what_was_counted_and_never_sent_is_found() -> None:
    """An endpoint that nobody asked."""
    (entry,) = compare([], {}, {KIND: 1.0})
    assert entry.problems()


def test_counts_are_read_from_an_exposition() -> None:
    """Of requests only."""
    text = (
        'authly_http_requests_total{endpoint="/jwks",method="GET",status_code="200"} 7.0\n'
        'authly_http_request_duration_seconds_count{endpoint="/jwks",method="GET"} 7.0\n'
    )
    assert parse(text) == {KIND: 7.0}


def test_counters_and_histograms_must_not_fall() -> None:
    """Gauges may."""
    text = "# TYPE a_total counter\na_total 1\n# TYPE h histogram\nh_count 2\nh_sum 0.5\n# TYPE g gauge\ng 3\n"
    assert counters(text) == {"a_total": 1.0, "h_count": 2.0, "h_sum": 0.5}


@pytest.mark.parametrize("shape", ["", "step", "spike", "soak"])
def test_shapes_stay_below_their_peak(shape: str) -> None:
    """And reach it, and end."""
    shares = [share(shape, at / 10, 60.0) for at in range(600)]
    assert all(one is not None and 0 < one <= 1 for one in shares)
    assert max(one for one in shares if one is not None) == pytest.approx(1.0)
    assert share(shape, 60.0, 60.0) is None


def test_the_mix_can_be_chosen() -> None:
    """Flows that are not named do not occur."""
    assert read({"LOAD_MIX": "jwks=3, refresh=0.5"}).mix == {"jwks": 3.0, "refresh": 0.5}
    assert read({}).mix == MIX
    assert read({"LOAD_THINK": "0.5-2"}).think == (0.5, 2.0)
    assert read({"LOAD_THINK": "0"}).think == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOAD_MIX", "nothing=1"),
        ("LOAD_MIX", "jwks=often"),
        ("LOAD_MIX", "jwks=0"),
        ("LOAD_THINK", "2-1"),
        ("LOAD_THINK", "long"),
        ("LOAD_ARRIVALS", "-1"),
        ("LOAD_ARRIVALS", "nan"),
        ("LOAD_SHAPE", "round"),
    ],
)
def test_a_wrong_option_is_named(name: str, value: str) -> None:
    """With what it does not accept."""
    with pytest.raises(OptionsError, match=name):
        read({name: value})


@pytest.mark.serial
@pytest.mark.timeout(400)
def test_the_gate_holds_authly_and_finds_a_handicap(locust: None, tmp_path: Path) -> None:
    """Metrics exceed no budget with confidence; six milliseconds and sixty megabytes more than they need do."""
    for pairs in ("4", "8", "16"):
        done = run(
            *("gate", "--control", "--blocks", "1", "--pairs", pairs, "--seconds", "6", "--workers", "1"),
            *("--arrivals", "20", "--scrapes", "0", "--busy-seconds", "0", "--seed", "11"),
            *("--output", str(tmp_path)),
        )
        # So few and short measurements may leave the tail unknown.
        assert done.returncode in {0, 3}, done.stdout + done.stderr
        found = json.loads((tmp_path / "gate.json").read_text())
        verdicts = {one["name"]: one["verdict"] for one in found["measures"]}
        control = {one["name"]: one["verdict"] for one in found["control"]}
        decided = (verdicts["request time, p50"], verdicts["memory"], *control.values())
        if "inconclusive" not in decided:
            break
        # Then it says "run longer".
    assert decided == ("kept", "kept", "exceeded", "exceeded"), done.stdout + done.stderr
    assert (done.returncode == 0) == (set(verdicts.values()) == {"kept"})
    assert found["problems"] == []
    assert found["books"]["answered"] == found["books"]["counted"] > 0
    cases = ET.parse(tmp_path / "gate.xml").getroot()
    assert {case.get("name") for case in cases if case.find("failure") is None} >= {"control: memory", "bookkeeping"}
    page = (tmp_path / "gate.html").read_text()
    assert "A third side with a handicap of 6 ms and 60 MB" in page
    assert page.count("<svg") == 6


def test_a_short_soak_holds(locust: None, tmp_path: Path) -> None:
    """Through kills, a reload, an upgrade, restarts and a full disk the books agree, and no counter falls."""
    done = run(
        *("soak", "--minutes", "0.25", "--every", "0.7", "--users", "4", "--workers", "2", "--seed", "3783"),
        *("--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["verdict"] == "held"
    assert set(found["mishaps"]) >= {"worker killed", "reload (SIGHUP)", "upgrade (SIGUSR2)", "exporter killed"}
    assert found["facts"]["worker_deaths"] >= 3
    assert found["books"]["answered"] > 0
    assert all(case.find("failure") is None for case in ET.parse(tmp_path / "soak.xml").getroot())
    assert "seed 3783" in done.stderr
