"""The commands of the runbooks do what they are there for, exactly as they are written."""

import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.administration import Administration, Done
from tests.alerting import RULES, RUNBOOKS, commands
from tests.conformance.oauth.conftest import run_server
from tests.oauth import Server
from tests.processes import wait_until
from tests.prometheus import Alertmanager, Prometheus, program

# What the doctor says with its exit code, and what a person says who asks for nothing.
CODES = {"authly metrics doctor": {0, 3, 4}}


class Desk(NamedTuple):
    """Where somebody sits who was told of an alert.

    Args:
        environment: of the commands: Authly's own, and a client and a user that they are about.
        folder: where they run.
        addresses: what stands for the usual ones.
        administration: of the instance.
    """

    environment: dict[str, str]
    folder: Path
    addresses: dict[str, str]
    administration: Administration

    def run(self, command: str) -> "subprocess.CompletedProcess[str] | Done":
        """Run a command as it is written, at this machine's addresses.

        Those of ``authly admin`` run in this process, which has imported already what each would for a second.
        """
        for usual, here in self.addresses.items():
            command = command.replace(usual, here)
        if command.startswith("authly admin ") and not re.search(r"[|&;<>`()]", command):
            words = re.sub(r"\$(\w+)", lambda name: self.environment[name[1]], command)
            return self.administration.run(*shlex.split(words)[2:], check=False)
        return subprocess.run(
            ["sh", "-c", command], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def desk(postgres_server: str, _migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Return a desk beside a running Authly, its Prometheus and its Alertmanager."""
    folder = tmp_path_factory.mktemp("runbooks")
    tools = {str(Path(program(name)).parent) for name in ("promtool", "amtool")}
    for server in run_server(postgres_server, _migrated, folder):
        started: list[Any] = []
        try:
            started.append(Alertmanager(folder, "http://127.0.0.1:9/"))
            rules = [file.read_text() for file in RULES]
            target = server.instance.metrics_address
            started.append(Prometheus(folder, target, rules=rules, alertmanager=started[0].address, interval="2s"))
            yield _desk(server, folder, tools, started[0].address, started[1])
        finally:
            for one in reversed(started):
                one.stop()


def _desk(server: Server, folder: Path, tools: set[str], alertmanager: str, prometheus: Prometheus) -> Desk:
    wait_until(lambda: prometheus.value("up") == 1)
    path = ":".join([sysconfig.get_path("scripts"), *sorted(tools), os.environ["PATH"]])
    environment = {
        **server.instance.environment,
        "PATH": path,
        "CLIENT_ID": server.client().id,
        "USERNAME": server.person().username,
    }
    addresses = {
        "127.0.0.1:8000": server.instance.address,
        "127.0.0.1:9464": server.instance.metrics_address,
        "127.0.0.1:9090": prometheus.address,
        "127.0.0.1:9093": alertmanager,
    }
    return Desk(environment, folder, addresses, Administration(server.instance))


def test_each_command_works(desk: Desk, subtests: pytest.Subtests) -> None:
    """No command of any runbook fails, and each query is one that Prometheus understands."""
    found = {command for page in sorted(RUNBOOKS.glob("*.md")) for command in commands(page)}
    assert len(found) > 50
    for command in sorted(found):
        with subtests.test(command):
            done = desk.run(command)
            assert done.returncode in CODES.get(command, {0}), done.stdout + done.stderr
            assert not re.search(r"parse error|bad_data|Usage:", done.stdout + done.stderr)


def test_silences_are_kept(desk: Desk) -> None:
    """What runbooks silence is silenced, under the name of an alert."""
    silence = next(command for command in commands(RUNBOOKS / "workers.md") if "silence add" in command)
    assert re.fullmatch(r"[0-9a-f-]{36}", desk.run(silence).stdout.strip())
    listed = desk.run("amtool --alertmanager.url=http://127.0.0.1:9093 silence query")
    assert "taken out of the load balancer" in listed.stdout
