"""The rules and alerts that the project ships, for tests."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from authly.monitoring.catalogue import records
from tests.instance import REPOSITORY

PROMETHEUS = REPOSITORY / "docker-compose/prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
RUNBOOKS = REPOSITORY / "docs/runbooks"
DASHBOARDS = REPOSITORY / "docker-compose/grafana/dashboards"

# What Prometheus itself knows of each target.
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "ALERTS"}


class Rule(NamedTuple):
    """A rule: one that alerts or one that records."""

    file: Path
    alert: str
    record: str
    expression: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def name(self) -> str:
        """What it is called, with the labels that tell it from others of the same name."""
        own = [value for name, value in self.labels.items() if name in {"window", "resource"}]
        return "-".join([self.alert or self.record, *own])


@cache
def rules() -> tuple[Rule, ...]:
    """Return all rules, in the order in which they are written."""
    return tuple(
        Rule(
            file,
            rule.get("alert", ""),
            rule.get("record", ""),
            rule["expr"],
            rule.get("labels", {}),
            rule.get("annotations", {}),
        )
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    )


ALERTS = [rule for rule in rules() if rule.alert]
RECORDS = {rule.record: rule for rule in rules() if rule.record}


class Selector(NamedTuple):
    """What an expression selects: a name, and the labels it asks for (operator and value of each)."""

    name: str
    labels: dict[str, tuple[str, str]]


class _Found:
    """Collects what an expression mentions."""

    def __init__(self) -> None:
        self.selectors: list[Selector] = []
        self.labels: set[str] = set()

    def look_at(self, expression: Any) -> None:
        match expression:
            case promql_parser.VectorSelector():
                matchers = {matcher.name: (str(matcher.op), matcher.value) for matcher in expression.matchers.matchers}
                self.selectors.append(Selector(expression.name or "", matchers))
                self.labels.update(matchers)
            case promql_parser.MatrixSelector():
                self.look_at(expression.vector_selector)
            case promql_parser.Call():
                for argument in expression.args:
                    self.look_at(argument)
            case promql_parser.AggregateExpr():
                self.look_at(expression.expr)
                if expression.modifier is not None:
                    self.labels.update(expression.modifier.labels)
            case promql_parser.BinaryExpr():
                self.look_at(expression.lhs)
                self.look_at(expression.rhs)
                if expression.modifier is not None and expression.modifier.matching is not None:
                    self.labels.update(expression.modifier.matching.labels)
            case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
                self.look_at(expression.expr)
            case _:
                assert isinstance(expression, promql_parser.NumberLiteral | promql_parser.StringLiteral), expression


def mentioned(expression: str) -> tuple[list[Selector], set[str]]:
    """Return what an expression selects, and every label that it names.

    Raises:
        ValueError: it cannot be parsed.
    """
    found = _Found()
    found.look_at(promql_parser.parse(expression))
    return found.selectors, found.labels


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page's examples, continued lines put together."""
    for block in re.findall(r"^ *```console\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("$ "):
                yield line.strip()[2:]


def panels() -> list[tuple[str, dict[str, Any]]]:
    """Return each panel of each dashboard that is committed, rows apart, with the dashboard's name."""
    return [
        (file.stem, panel)
        for file in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        if panel["type"] != "row"
    ]


def in_grafana(expression: str, window: str = "5m") -> str:
    """Return an expression as Grafana sends it where everything is chosen.

    Args:
        expression: with variables.
        window: what a rate looks back.
    """
    values = {"$instance": ".*", "$endpoint": ".*", "$percentile": "0.95", "$__rate_interval": window}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def questions(window: str = "5m") -> list[tuple[str, str]]:
    """Return all that is asked of Prometheus, and where: panels, annotations, variables, rules and alerts."""
    found = [
        (f"{board}: {panel['title']} {target['refId']}", in_grafana(target["expr"], window))
        for board, panel in panels()
        for target in panel["targets"]
    ]
    for file in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(file.read_text())
        found += [
            (f"{file.stem}: {annotation['name']}", in_grafana(annotation["expr"], window))
            for annotation in board["annotations"]["list"]
        ]
        for variable in board["templating"]["list"]:
            if match := re.match(r"label_values\((.+), (\w+)\)$", str(variable.get("query"))):
                expression = f"count by ({match[2]}) ({in_grafana(match[1])})"
                found.append((f"{file.stem}: variable {variable['name']}", expression))
    return found + [(rule.name, rule.expression) for rule in rules()]


class Metric(NamedTuple):
    """A metric of the catalogue: its type, and for each label its values; None where others are possible."""

    type: str
    labels: dict[str, set[str] | None]


def catalogue() -> dict[str, Metric]:
    """Return each metric that an instance can show."""
    return {
        record["name"]: Metric(
            record["type"],
            {label: None if of["others"] else set(of["values"]) for label, of in record["labels"].items()},
        )
        for record in records()
    }


# Metrics that no panel and no rule shows, and why.
UNUSED: dict[str, str] = {}


def hurried(rules_: str, factor: int) -> str:
    """Return the contents of a rule file in which time passes faster: windows, waits and intervals are divided.

    Thresholds stay as they are, and so does what the metrics themselves measure in seconds.

    Args:
        rules_: what the file holds.
        factor: by what.
    """

    def divided(match: re.Match[str]) -> str:
        seconds = int(match[2]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[3]]
        return f"{match[1]}{max(seconds * 1000 // factor, 1000)}ms{match[4]}"

    text, _ = re.subn(r"(\[)(\d+)([smhd])(\])", divided, rules_)
    return re.sub(r"((?:for|interval): )(\d+)([smhd])()$", divided, text, flags=re.MULTILINE)
