"""The pictures of the dashboards: there for each of them, and true to what Prometheus answers."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import DASHBOARDS
from dashboards.__main__ import FOLDER as BOARDS
from dashboards.drawing import draw
from dashboards.panels import Board, Look, Query, Words, bars, graph, listing, number
from dashboards.units import ticks, written
from tests.dashboard_screenshots import FOLDER, LARGEST
from tests.instance import REPOSITORY

BEGIN = 1_800_000_000.0


class Recorded:
    """A Prometheus that answers what it was told to."""

    begin = BEGIN
    end = BEGIN + 60
    step = 10.0

    def __init__(self, answers: dict[str, dict[str, list[float | str]]]) -> None:
        self._answers = answers

    def over_time(self, expression: str) -> list[dict[str, Any]]:
        """Return series with a point every ten seconds; 'gone' is no point."""
        return [
            {
                "metric": _labels(name),
                "values": [[BEGIN + 10 * at, str(value)] for at, value in enumerate(numbers) if value != "gone"],
            }
            for name, numbers in self._answers.get(expression, {}).items()
        ]

    def at_the_end(self, expression: str) -> list[dict[str, Any]]:
        """Return the last point of each."""
        return [{"metric": series["metric"], "value": series["values"][-1]} for series in self.over_time(expression)]


def _labels(name: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=([^,]+)", name))


class Page(HTMLParser):
    """What is on a page: its texts, and its elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def shown(answers: dict[str, dict[str, list[float | str]]], *panels: Any) -> Page:
    """Return the page of a dashboard with these panels."""
    board = Board("b", "A <board>", "For a test.").row("A row", *panels).build()
    return Page(draw(json.loads(JSONEncoder().encode(board)), Recorded(answers)))


WORDS = Words("A panel", "What it shows.", "slo", "Nothing at all")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_dashboard_has_a_picture_that_the_page_shows(name: str) -> None:
    """A PNG that is not too large for a page, under the dashboard's name, with words for who cannot see it."""
    picture = FOLDER / f"{name}.png"
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG"), "call make pictures"
    assert len(content) < LARGEST
    title = DASHBOARDS[name]().title
    page = (REPOSITORY / "docs/dashboards.md").read_text()
    assert f"\n## {title}\n" in page
    assert re.search(rf"^!\[[^\]]+\]\(images/dashboards/{name}\.png\)$", page, re.MULTILINE)
    assert {file.stem for file in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_dashboard_can_be_drawn(name: str) -> None:
    """Every kind of panel and every unit is known, with answers and without."""
    board = json.loads((BOARDS / f"{name}.json").read_text())

    class Same(Recorded):
        def over_time(self, expression: str) -> list[dict[str, Any]]:
            return [{"metric": {"instance": "a"}, "values": [[BEGIN, "0"], [BEGIN + 10, "2.5"]]}]

    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    full, empty = draw(board, Same({})), draw(board, Recorded({}))
    assert full.count("<section") == empty.count("<section") == len(panels)
    assert 'class="nothing"' not in full
    assert empty.count('class="nothing"') == len(panels)


def test_lines_have_names_an_axis_with_a_unit_and_gaps() -> None:
    """Labels stand in the legend, 250 ms are 250 ms, and a minute without an answer is no line."""
    answers: dict[str, dict[str, list[float | str]]] = {
        "q": {"way=up": [0, 0.1, 0.2, 0.25], "way=<down>": [0.2, "NaN", 0.1, 0]}
    }
    page = shown(answers, graph(WORDS, Look("s"), Query("q", "the {{way}} way")))
    assert {"A <board>", "A row", "A panel", "the up way", "the <down> way", "100 ms", "200 ms"} <= set(page.texts)
    up, down = (line["points"].split() for line in page.of("polyline"))
    heights = [float(point.split(",")[1]) for point in up]
    assert heights == sorted(heights, reverse=True)
    assert (len(up), len(down)) == (4, 3)
    far = {"q": {"way=up": [1, 2, *["gone"] * 7, 3, 4]}}
    assert len(shown(far, graph(WORDS, Look("s"), Query("q", "x"))).of("polyline")) == 2  # type: ignore[arg-type]


def test_what_is_stacked_stands_on_what_is_below() -> None:
    """The upper series begins where the lower ends; bars do the same, and one of nothing is not drawn."""
    answers: dict[str, dict[str, list[float | str]]] = {"q": {"a=1": [1, 1], "a=2": [1, 0]}}
    lower, upper = shown(answers, graph(WORDS, Look("short", stacked=True), Query("q", "{{a}}"))).of("polyline")
    assert lower["points"].split()[1] == upper["points"].split()[1]
    assert lower["points"].split()[0] != upper["points"].split()[0]
    stacked = shown(answers, graph(WORDS, Look("short", stacked=True, bars=True), Query("q", "{{a}}"))).of("rect")
    assert len(stacked) == 3
    assert float(stacked[2]["y"]) + float(stacked[2]["height"]) == pytest.approx(float(stacked[0]["y"]), abs=0.2)


def test_numbers_and_bars_have_the_colour_of_their_threshold() -> None:
    """What is above the threshold is red; a share is a percentage."""
    look = Look("percentunit", warning=0.5, alarm=0.9)
    answers: dict[str, dict[str, list[float | str]]] = {"q": {"a=1": [0.1, 0.95]}, "r": {"a=1": [0.2], "a=2": [0.6]}}
    page = shown(answers, number(WORDS, look, Query("q")), bars(WORDS, look, Query("r", "{{a}}")))
    assert {"95%", "20%", "60%"} <= set(page.texts)
    assert "#c22d3a" in next(one["style"] for one in page.of("div") if one.get("class") == "number")
    green, yellow = (one["style"] for one in page.of("span"))
    assert "width:33.3%" in green
    assert "#2f7d32" in green
    assert "#a97900" in yellow


def test_tables_show_labels_and_empty_panels_their_word() -> None:
    """Each series is a row, each label a column; where there are no series the panel says what that means."""
    page = shown(
        {"q": {"a=1,b=2": [1]}}, listing(WORDS, Look("short"), Query("q")), graph(WORDS, Look("s"), Query("r"))
    )
    assert [page.texts.index(text) for text in ("a", "b", "1", "2")] == sorted(
        page.texts.index(text) for text in ("a", "b", "1", "2")
    )
    assert "Nothing at all" in page.texts


def test_starts_are_marked_once() -> None:
    """However long the mark's expression is true."""
    begun = 'changes(authly_start_time_seconds{instance=~"$instance"}[1m]) > 0'
    answers: dict[str, dict[str, list[float | str]]] = {"q": {"a=1": [1, 1]}, begun: {"a=1": ["gone", 1, 1, 1]}}
    page = shown(answers, graph(WORDS, Look("short"), Query("q", "x")))
    assert len([line for line in page.of("line") if "stroke-dasharray" in line]) == 1


def test_thresholds_are_lines_where_the_axis_reaches_them() -> None:
    """What is a hundred times as much is beyond the graph."""
    answers: dict[str, dict[str, list[float | str]]] = {"q": {"a=1": [0.5, 0.6]}}
    page = shown(answers, graph(WORDS, Look("s", warning=0.3, alarm=60), Query("q", "x")))
    (line,) = [line for line in page.of("line") if "stroke-dasharray" in line]
    assert line["stroke"] == "#a97900"


def test_what_is_nothing_all_the_time_is_not_named() -> None:
    """Unless there is nothing else."""
    zero: dict[str, dict[str, list[float | str]]] = {"q": {"a=one": [0, 0], "a=two": [0, 0]}}
    some: dict[str, dict[str, list[float | str]]] = {"q": {"a=one": [0, 0], "a=two": [0, 1]}}
    panel = graph(WORDS, Look("short"), Query("q", "{{a}}"))
    assert {"one", "two"} <= set(shown(zero, panel).texts)
    assert {"one", "two"} & set(shown(some, panel).texts) == {"two"}


def test_long_legends_say_how_much_they_leave_out() -> None:
    """A panel has room for three lines; the largest series are in them."""
    answers: dict[str, dict[str, list[float | str]]] = {"q": {f"a=a-series-with-a-name-{n}": [1, n] for n in range(20)}}
    page = shown(answers, graph(WORDS, Look("short"), Query("q", "{{a}}")))
    names = [text for text in page.texts if text.startswith("a-series")]
    assert names[0] == "a-series-with-a-name-19"
    assert f"and {20 - len(names)} more" in page.texts
    assert len(page.of("polyline")) == 20


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (0.0000042, "s", "4.2 µs"),
        (0.25, "s", "250 ms"),
        (90, "s", "1.5 min"),
        (7200, "s", "2 h"),
        (0.9994, "percentunit", "99.94%"),
        (3 * 2**20, "bytes", "3 MiB"),
        (1234567, "short", "1.23M"),
        (0.5, "reqps", "0.5 req/s"),
        (12.5, "ops", "12.5 ops/s"),
        (-3, "short", "-3"),
        (float("inf"), "s", "∞"),
        ((BEGIN - 120) * 1000, "dateTimeFromNow", "2 min ago"),
    ],
)
def test_numbers_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    """As people read them: three or four digits, and a unit that fits."""
    assert written(value, unit, BEGIN) == text


@pytest.mark.parametrize(
    ("top", "unit", "texts"),
    [
        (1, "percentunit", ["0", "50%", "100%"]),
        (0.3, "s", ["0", "100 ms", "200 ms", "300 ms"]),
        (4.4, "reqps", ["0", "2 req/s", "4 req/s"]),
        (5 * 2**20, "bytes", ["0", "2 MiB", "4 MiB"]),
        (1, "short", ["0", "0.5", "1"]),
    ],
)
def test_axes_have_round_numbers(top: float, unit: str, texts: list[str]) -> None:
    """From nothing to what is no more than the end of the axis."""
    assert [text for _, text in ticks(top, unit)] == texts
