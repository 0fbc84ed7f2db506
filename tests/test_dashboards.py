"""The dashboards: committed as they are generated, complete, and about metrics that exist."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from authly.monitoring.catalogue import records
from dashboards import DASHBOARDS
from dashboards.__main__ import FOLDER, render
from dashboards.panels import RUNBOOKS as RUNBOOKS_URL
from tests.alerting import (
    OF_PROMETHEUS,
    RECORDS,
    RUNBOOKS,
    UNUSED,
    catalogue,
    mentioned,
    panels,
    questions,
    rules,
)
from tests.instance import REPOSITORY

# Where the buckets of each histogram end, as they are unless operators choose others.
HISTOGRAMS = {record["name"]: [float(edge) for edge in record["buckets"]] for record in records() if record["buckets"]}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_committed_dashboards_are_those_that_are_generated(name: str) -> None:
    """`make dashboards` has nothing to change; what is committed is a dashboard to the SDK, which loses nothing."""
    committed = (FOLDER / f"{name}.json").read_text()
    assert committed == render(name), "call make dashboards"
    parsed = Dashboard.from_json(json.loads(committed))
    assert json.loads(JSONEncoder().encode(parsed)) == json.loads(committed)
    assert parsed.uid == name


def test_no_other_dashboard_is_committed() -> None:
    """Each JSON file is one of them, and the provisioning mounts where they are."""
    assert {file.stem for file in FOLDER.glob("*.json")} == set(DASHBOARDS)
    provisioning = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards/authly.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.parametrize(
    ("board", "panel"), panels(), ids=lambda part: part if isinstance(part, str) else part["title"]
)
def test_each_panel_says_what_it_shows(board: str, panel: dict[str, Any]) -> None:
    """A unit, a description, a word for when there is nothing, colours from 0 up, and a link to a runbook."""
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert panel["description"].endswith(".")
    assert defaults["noValue"]
    assert panel["targets"]
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    if panel["type"] in {"timeseries", "bargauge"}:
        assert defaults["min"] == 0
    (link,) = panel["links"]
    page, _, anchor = link["url"].removeprefix("${runbooks}/").partition("#")
    text = (RUNBOOKS / page).read_text()
    assert not anchor or anchor in {heading.lower() for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_dashboard_can_be_narrowed_down(name: str) -> None:
    """By instance, endpoint and percentile; starts and reloads are marked; no two panels share a place or a number."""
    board = json.loads((FOLDER / f"{name}.json").read_text())
    assert [variable["name"] for variable in board["templating"]["list"]] == [
        "datasource",
        "instance",
        "endpoint",
        "percentile",
        "runbooks",
    ]
    assert board["templating"]["list"][-1]["query"] == RUNBOOKS_URL
    assert [annotation["name"] for annotation in board["annotations"]["list"]] == ["Starts", "Reloads"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize(("where", "expression"), questions(), ids=lambda part: part[:40])
def test_expressions_are_about_what_exists(where: str, expression: str) -> None:
    """Every metric is in the catalogue or recorded by a rule; labels are its own, with values that they have."""
    known = catalogue()
    selectors, labels = mentioned(expression)
    assert selectors
    allowed = {"job", "instance", "le"}
    for selector in selectors:
        own: dict[str, set[str] | None] = {"job": None, "instance": None}
        if selector.name in OF_PROMETHEUS:
            own |= {"alertname": None, "alertstate": None}
        elif selector.name not in RECORDS:
            base = re.sub(r"_(bucket|sum|count)$", "", selector.name)
            name = selector.name if selector.name in known else base
            assert name in known, f"{where}: {selector.name} is no metric"
            is_histogram = known[name].type == "histogram"
            assert (name == selector.name) == (not is_histogram), f"{where}: {selector.name} is a {known[name].type}"
            own |= known[name].labels
            own |= {"le": {str(edge) for edge in HISTOGRAMS[name]}} if is_histogram else {}
        for label, (operator, value) in selector.labels.items():
            assert label in own, f"{where}: {selector.name} has no label {label}"
            values = own[label]
            if values is not None:
                for pattern in value.split("|") if operator in {"MatchOp.Re", "MatchOp.NotRe"} else [re.escape(value)]:
                    assert any(re.fullmatch(pattern, one) for one in values), f"{where}: {label} is never {pattern}"
        allowed |= set(own)
    assert labels <= allowed, f"{where}: {labels - allowed} are no labels of anything here"


def test_every_metric_is_used_or_it_is_said_why_not() -> None:
    """Each metric of the catalogue is in a panel or a rule, or in the list of those that are not, with a reason."""
    used = set()
    for expression in [*(expression for _, expression in questions()), *(rule.expression for rule in rules())]:
        for selector in mentioned(expression)[0]:
            used |= {selector.name, re.sub(r"_(bucket|sum|count)$", "", selector.name)}
    assert set(catalogue()) - used == set(UNUSED)


def test_recorded_series_are_used() -> None:
    """No rule records what nobody asks for."""
    used = {selector.name for _, expression in questions() for selector in mentioned(expression)[0]}
    assert set(RECORDS) <= used


def test_prometheus_serves_what_links_lead_to() -> None:
    """Links of alerts and panels lead to the folder of runbooks, as docs/ is served at /user/."""
    assert RUNBOOKS_URL.endswith("/user/runbooks")
    assert Path(REPOSITORY / "docs/runbooks/README.md").is_file()
