"""The documentation names every setting, endpoint and metric."""

import re
import time
from pathlib import Path
from typing import Any, cast

import click
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from authly.api.admin.access import AdminAccess
from authly.api.admin.audit_log import audit_log_router
from authly.api.admin.clients import clients_router
from authly.api.admin.consents import consents_router
from authly.api.admin.router import install as install_administration
from authly.api.admin.scopes import scopes_router
from authly.api.admin.sessions import sessions_router
from authly.api.admin.statistics import statistics_router
from authly.api.admin.tokens import tokens_router
from authly.api.admin.users import users_router
from authly.api.health_router import health_router
from authly.cli.admin import admin
from authly.monitoring.exporter.collectors.custom import CustomCollectors
from authly.monitoring.exporter.collectors.own import OUTCOMES, PHASES, OwnCollector
from authly.monitoring.metrics import AuthlyMetrics
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.reader import SKIP_REASONS
from authly.monitoring.multiprocess.values import DROP_REASONS, DROPPED_SERIES
from authly.settings import Settings, variable_name
from tests.instance import REPOSITORY

DOCS = REPOSITORY / "docs"


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of each table row of a page, by the code in the first one."""
    found = {}
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_documented(field: str) -> None:
    """docs/configuration.md has each variable, with its default."""
    documented = rows("configuration.md")
    name = variable_name(field)
    assert name in documented
    default = Settings.model_fields[field].default
    if isinstance(default, bool):
        default = str(default).lower()
    if isinstance(default, (str, int, Path)):
        assert documented[name][0].strip("`") == str(default)
    elif isinstance(default, float):
        assert float(documented[name][0].strip("`")) == default


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """docs/configuration.md has nothing that Authly would ignore."""
    assert set(rows("configuration.md")) == {variable_name(field) for field in Settings.model_fields}


def test_every_metric_is_documented(tmp_path: Path) -> None:
    """docs/metrics.md has each metric with its type and labels, and no other."""
    registry = CollectorRegistry()
    metrics = AuthlyMetrics(registry)
    expected = {}
    for metric in vars(metrics).values():
        for family in metric.describe() if hasattr(metric, "describe") else ():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            expected[name] = (family.type, set(metric._labelnames))
    expected[f"{DROPPED_SERIES}_total"] = ("counter", {"reason"})
    collection = DirectoryCollector(tmp_path, time.monotonic).collect()
    custom = CustomCollectors(["nowhere:none"], time.monotonic, lambda _: None).collect()
    for own in [*OwnCollector().collect(collection, tmp_path), *custom]:
        name = f"{own.name}_total" if own.type == "counter" else own.name
        expected[name] = (own.type, {label for sample in own.samples for label, _ in sample.labels} - {"le"})
    documented = {
        name: (cells[0].split(" ")[0], set(re.findall(r"`([^`]+)`", cells[1])))
        for name, cells in rows("metrics.md").items()
    }
    assert documented == expected


@pytest.mark.parametrize("value", [*OUTCOMES, *PHASES, *SKIP_REASONS, *DROP_REASONS])
def test_every_label_value_is_documented(value: str) -> None:
    """docs/metrics.md has each value of the closed vocabularies."""
    assert f"`{value}`" in (DOCS / "metrics.md").read_text()


def test_every_endpoint_is_documented() -> None:
    """docs/endpoints.md has each path of the application."""
    text = (DOCS / "endpoints.md").read_text()
    router = health_router(lambda: pytest.fail("not called"))
    paths = [str(route.path) for route in router.routes if hasattr(route, "path")]
    assert paths
    for path in [*paths, "/metrics", "/openapi.json", "/-/healthy", "/-/ready"]:
        assert f"`GET {path}`" in text


def test_every_administration_endpoint_is_documented() -> None:
    """docs/endpoints.md has each method and path of the administration interface."""
    app, none = FastAPI(), cast("Any", None)
    access = AdminAccess(none, none, "", none)
    install_administration(
        app,
        [
            clients_router(none, access),
            scopes_router(none, access),
            users_router(none, none, access),
            sessions_router(none, none, access),
            tokens_router(none, none, access),
            consents_router(none, access),
            audit_log_router(none, access),
            statistics_router(none, access),
        ],
    )
    paths = app.openapi()["paths"]
    assert len(paths) > 15
    documented = rows("endpoints.md")
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in documented


def test_every_administration_command_is_documented() -> None:
    """docs/cli.md has each command of ``authly admin``, and no other."""
    commands = {
        f"authly admin {group.name} {command}"
        for group in admin.commands.values()
        if isinstance(group, click.Group)
        for command in group.commands
    }
    assert {name for name in rows("cli.md") if name.startswith("authly admin ")} == commands


def test_links_lead_somewhere() -> None:
    """Relative links in the README and the documentation point to what exists."""
    for page in [REPOSITORY / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
