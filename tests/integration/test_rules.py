"""The rules, alerts and runbooks that the project ships, by the judgement of Prometheus' own tools."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerting import ALERTS, RULES, RUNBOOKS, Rule, rules
from tests.instance import REPOSITORY
from tests.prometheus import ALERTMANAGER_CONFIGURATION, CONFIGURATION, program

TESTS = sorted((REPOSITORY / "tests/rules").glob("*.yaml"))


def run(tool: str, *arguments: object) -> str:
    """Run a tool that has nothing to complain about, and return what it says."""
    done = subprocess.run([program(tool), *map(str, arguments)], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_configuration_and_rules() -> None:
    """`promtool check config` finds all rule files; `check rules` has nothing to say of them, duplicates included."""
    assert f"{len(RULES)} rule files found" in run("promtool", "check", "config", CONFIGURATION)
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_resolve_and_are_quiet_just_below(file: Path) -> None:
    """`promtool test rules` agrees with each expectation of tests/rules."""
    run("promtool", "test", "rules", file)


@cache
def expectations() -> dict[str, list[dict[str, Any]]]:
    """Return for each alert the tests that expect something of it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for name in {expected["alertname"] for expected in test["alert_rule_test"]}:
                found.setdefault(name, []).append(test)
    return found


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.name)
def test_each_alert_is_tested(rule: Rule) -> None:
    """A test fires the alert, sees it end, and has a case just below its threshold."""
    for test in expectations()[rule.alert]:
        evaluations = [expected for expected in test["alert_rule_test"] if expected["alertname"] == rule.alert]
        fired = [alert["exp_labels"] for expected in evaluations for alert in expected["exp_alerts"]]
        if not any(rule.labels.items() <= labels.items() for labels in fired):
            continue
        assert evaluations[-1]["exp_alerts"] == [], "it is never seen to end"
        series = [entry["series"] for entry in test["input_series"]]
        # Where nothing is selected there is no case beside the one that fires: it is quiet before.
        assert any('="quiet' in entry for entry in series) or evaluations[0]["exp_alerts"] == []
        assert not any(value.startswith("quiet") for labels in fired for value in labels.values())
        return
    pytest.fail("no test fires it")


# Levels of what there is at most, not shares of traffic that may be little.
LEVELS = {"AuthlyPoolSaturated"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.name)
def test_each_alert_says_how_bad_what_and_where_to_read_on(rule: Rule) -> None:
    """Severity, a summary with numbers, enough traffic where it is a ratio, and a runbook that has a section of it."""
    assert rule.labels["severity"] in {"critical", "warning"}
    assert set(rule.annotations) == {"summary", "runbook_url"}
    summary = rule.annotations["summary"]
    assert "{{ $value" in summary or re.search(r"\b[0-9]+ |half a minute|for a minute|is 0|has been 0", summary)
    if "/" in re.sub(r'"[^"]*"', "", rule.expression) and rule.alert not in LEVELS:
        assert " and " in rule.expression
    prefix, page, anchor = re.fullmatch(r"(.*/user/runbooks/)(.+\.md)#(.+)", rule.annotations["runbook_url"]).groups()  # type: ignore[union-attr]
    assert prefix == "{{ $externalURL }}/user/runbooks/"
    assert anchor == rule.alert.lower()
    assert rule.alert in sections(RUNBOOKS / page)


def sections(page: Path) -> dict[str, str]:
    """Return the sections of a page by their headings."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    "page", [page for page in sorted(RUNBOOKS.glob("*.md")) if page.name != "README.md"], ids=lambda page: page.stem
)
def test_each_runbook_is_of_alerts(page: Path) -> None:
    """Its sections are alerts that exist and lead to it, each with all there is to know; it silences them."""
    found = sections(page)
    silence = found.pop("Silence")
    led_here = {rule.alert for rule in ALERTS if f"/{page.name}#" in rule.annotations["runbook_url"]}
    assert set(found) == led_here
    for name, text in found.items():
        for word in ("Means", "Impact", "Confirm", "Do"):
            assert f"**{word}" in text, f"{name} does not say: {word}"
    pattern = re.search(r"alertname=~\"([^\"]+)\"", silence)
    assert pattern
    assert {name for name in {rule.alert for rule in ALERTS} if re.fullmatch(pattern[1], name)} == led_here
    assert page.name in (RUNBOOKS / "README.md").read_text()


def test_links_of_runbooks_lead_somewhere() -> None:
    """Each link within the repository has a file, and a heading where it names one."""
    for page in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            known = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in known, f"{page.name}: {target}"


def test_amtool_accepts_the_configuration() -> None:
    """`amtool check-config` accepts it; critical alerts go to who is awake at night, others to who is there by day."""
    run("amtool", "check-config", ALERTMANAGER_CONFIGURATION)

    def receiver(severity: str) -> str:
        routes = ("config", "routes", "test", "--config.file", ALERTMANAGER_CONFIGURATION)
        return run("amtool", *routes, f"severity={severity}", "alertname=Any", "job=authly").strip()

    assert receiver("critical") == "night"
    assert receiver("warning") == "day"


def test_alerts_are_inhibited_by_alerts_that_exist() -> None:
    """Both sides of each inhibition name alerts, and all names that recording rules take are recorded."""
    names = {rule.alert for rule in ALERTS}
    for inhibition in yaml.safe_load(ALERTMANAGER_CONFIGURATION.read_text())["inhibit_rules"]:
        for matchers in (inhibition["source_matchers"], inhibition["target_matchers"]):
            (pattern,) = [matcher for matcher in matchers if matcher.startswith("alertname")]
            value = re.split(r"=~?", pattern, maxsplit=1)[1].strip().strip('"')
            assert any(re.fullmatch(value, name) for name in names), pattern
    assert len({(rule.record, rule.alert, str(rule.labels)) for rule in rules()}) == len(rules())
