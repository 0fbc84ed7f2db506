"""The documentation names every setting, endpoint and metric."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

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
from authly.monitoring.labels import Group
from authly.monitoring.recorders import NullOIDCMetrics
from authly.settings import Settings, variable_name
from tests import metrics_page
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


def test_the_page_of_metrics_is_not_stale() -> None:
    """docs/metrics.md is what the definitions say: `make metrics-page` writes it anew."""
    assert (DOCS / "metrics.md").read_text() == metrics_page.page()


def test_every_group_of_metrics_is_documented() -> None:
    """docs/configuration.md has each group that AUTHLY_METRICS_GROUPS accepts, and no other."""
    assert re.findall(r"`(\w+)`", rows("configuration.md")["AUTHLY_METRICS_GROUPS"][1]) == list(Group)


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
        authorize_router(nobody, nobody, nobody, nobody, nobody, browser, pages, "", nobody),
        logout_router(nobody, nobody, browser, pages, NullOIDCMetrics()),
        userinfo_router(nobody, NullOIDCMetrics()),
        metadata_router(nobody, nobody, nobody, 1, NullOIDCMetrics()),
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
        # What is code is no link: `histogram[labels](seconds)`.
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
