"""The documentation names every setting, endpoint and metric."""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from authly.api.admin import router as admin_router
from authly.api.admin.access import AdminAccess
from authly.api.auth_router import auth_router
from authly.api.authorize_router import authorize_router
from authly.api.dependencies import Browser
from authly.api.health_router import health_router
from authly.api.logout_router import logout_router
from authly.api.metadata_router import metadata_router
from authly.api.pages import Pages
from authly.api.userinfo_router import userinfo_router
from authly.cli.__main__ import authly
from authly.monitoring.database_metrics import CONNECTION_STATES, POOL_OUTCOMES, QUERY_STATUSES
from authly.monitoring.exporter.access.denials import Denials
from authly.monitoring.exporter.access.guard import Guard
from authly.monitoring.exporter.collectors import runner
from authly.monitoring.exporter.collectors.cgroups import Limits
from authly.monitoring.exporter.collectors.gunicorn import GunicornCollector
from authly.monitoring.exporter.collectors.own import OUTCOMES, PHASES, OwnCollector
from authly.monitoring.exporter.collectors.system import (
    CPU_MODES,
    MEMORY_TYPES,
    ROLES,
    SWITCH_KINDS,
    Instance,
    SystemCollector,
    container_families,
)
from authly.monitoring.gunicorn.recorder import COUNTERS
from authly.monitoring.labels import Dependency, SecurityEvent, Severity, StartupPhase, ThreadPool
from authly.monitoring.master_facts import EXIT_REASONS, ListenerFacts, MasterFacts, WorkerFacts, namespace, write
from authly.monitoring.metrics import AuthlyMetrics
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.families import Family
from authly.monitoring.multiprocess.lease import MASTER, Lease
from authly.monitoring.multiprocess.reader import SKIP_REASONS
from authly.monitoring.multiprocess.value_file import ValueFile
from authly.monitoring.multiprocess.values import DROP_REASONS, DROPPED_SERIES
from authly.monitoring.runtime_metrics import GC_GENERATIONS, TASK_STATES
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


def gunicorn_families(directory: Path) -> list[Family]:
    """Return what the Gunicorn collector has to say of a master and its worker, both of which this process plays."""
    with contextlib.ExitStack() as stack:
        master, _ = (stack.enter_context(contextlib.closing(Lease.acquire(directory, kind))) for kind in (MASTER, "s"))
        heart = stack.enter_context((directory / "heart").open("wb")).fileno()
        os.utime(heart, (time.monotonic(), time.monotonic()))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        file = ValueFile(directory / "gauge_livesum_s0.db", None, lambda _: None)
        file.place(b'["requests_in_progress", "requests_in_progress", {}, "Help."]')
        stack.callback(file.close)
        facts = MasterFacts(
            os.getpid(), 0.0, 1, False, 100, namespace("pid"), namespace("net"),
            (WorkerFacts(os.getpid(), 0.0, heart, os.fstat(heart).st_ino),),
            (ListenerFacts("x", os.fstat(listener.fileno()).st_ino, *listener.getsockname()),),
        )  # fmt: skip
        write(directory, master.slot, facts)
        return GunicornCollector(directory).collect()


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
    statuses = runner.families_of([runner.Status("own", 0.0, True)])
    # Everything at once: this process stands for the master, and for the exporter.
    system = SystemCollector(Instance(os.getpid())).collect()
    limits = container_families(Limits(1.0, 1.0, 1.0))
    guard = Guard(tmp_path / "nowhere.yml", Denials(), time.monotonic, lambda _: None).collect([])
    for own in [*OwnCollector().collect(collection, tmp_path), *statuses, *system, *limits, *guard]:
        name = f"{own.name}_total" if own.type == "counter" else own.name
        expected[name] = (own.type, {label for sample in own.samples for label, _ in sample.labels} - {"le"})
    for key in COUNTERS:
        _, name, labels, _ = json.loads(key)
        expected[name] = ("counter", set(labels))
    for found in gunicorn_families(tmp_path):
        name = f"{found.name}_total" if found.type == "counter" else found.name
        expected[name] = (found.type, {label for sample in found.samples for label, _ in sample.labels})
    documented = {
        name: (cells[0].split(" ")[0], set(re.findall(r"`([^`]+)`", cells[1])))
        for name, cells in rows("metrics.md").items()
    }
    assert documented == expected


@pytest.mark.parametrize(
    "value",
    [
        *OUTCOMES,
        *PHASES,
        *SKIP_REASONS,
        *DROP_REASONS,
        *ROLES,
        *MEMORY_TYPES,
        *CPU_MODES,
        *SWITCH_KINDS,
        *EXIT_REASONS,
        *SecurityEvent,
        *Severity,
        *CONNECTION_STATES,
        *POOL_OUTCOMES,
        *QUERY_STATUSES,
        *Dependency,
        *StartupPhase,
        *ThreadPool,
        *GC_GENERATIONS,
        *TASK_STATES,
    ],
)
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


def commands(group: click.Group, words: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def test_every_command_and_option_is_documented() -> None:
    """docs/cli.md has a section for each command, with all of its options and no others."""
    pieces = re.split(r"^## `(authly [a-z -]+)`$", (DOCS / "cli.md").read_text(), flags=re.MULTILINE)
    documented = {
        words: set(re.findall(r"^\| `(--[a-z-]+)` \|", text, re.MULTILINE))
        for words, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }
    assert documented == {
        words: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        for words, command in commands(authly, "authly")
    }


def test_every_finding_is_documented() -> None:
    """docs/cli.md has each finding of the doctor with its severity, and no other."""
    expected: dict[str, set[str]] = {}
    for path in (REPOSITORY / "src/authly/monitoring/diagnosis").rglob("*.py"):
        for call, code in re.findall(r"\b((?:error|warning)\b[^\n]*)\(\n? *\"([a-z_]+)\",", path.read_text()):
            expected.setdefault(code, set()).update(re.findall(r"error|warning", call))
    assert len(expected) > 50
    section = (DOCS / "cli.md").read_text().partition("| finding |")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| ([a-z, ]+) \|", section, re.MULTILINE))
    assert {code: set(severity.split(", ")) for code, severity in documented.items()} == expected


def test_every_page_is_documented() -> None:
    """docs/endpoints.md has each page and each endpoint of OpenID Connect, with each of its methods."""
    text = (DOCS / "endpoints.md").read_text()
    nobody: Any = None
    pages = Pages()
    browser = Browser(nobody)
    routers = [
        auth_router(browser, pages, nobody, nobody, 12, sign_up=True),
        pages.router(),
        authorize_router(nobody, nobody, nobody, nobody, nobody, browser, pages, ""),
        logout_router(nobody, nobody, browser, pages),
        userinfo_router(nobody),
        metadata_router(nobody, nobody, nobody, 1),
    ]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 5
    for route in routes:
        for method in (route.methods or set()) - {"HEAD"}:
            assert f"`{method} {route.path}`" in text


def test_every_administration_endpoint_is_documented() -> None:
    """docs/endpoints.md has each method and path of the administration interface."""
    app = FastAPI()
    nobody: Any = None
    admin_router.install(
        app,
        AdminAccess(nobody, nobody, "", nobody, nobody),
        nobody,
        clients=nobody,
        scopes=nobody,
        users=nobody,
        sessions=nobody,
        tokens=nobody,
        consents=nobody,
        audit=nobody,
    )
    paths = app.openapi()["paths"]
    assert len(paths) > 15
    documented = rows("endpoints.md")
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in documented


def test_links_lead_somewhere() -> None:
    """Relative links in the README and the documentation point to what exists."""
    for page in [REPOSITORY / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
