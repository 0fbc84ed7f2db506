"""A real Prometheus, and a real Alertmanager, for tests."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.instance import REPOSITORY, Instance, free_port, get
from tests.processes import kill, wait_until
from tests.requirements import require

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
CONFIGURATION = REPOSITORY / "docker-compose/prometheus/prometheus.yml"
ALERTMANAGER_CONFIGURATION = REPOSITORY / "docker-compose/alertmanager/alertmanager.yml"


def program(name: str) -> str:
    """Return the path of one of Prometheus' programs, or of Alertmanager's."""
    found = shutil.which(f"prometheus-{name}" if name == "alertmanager" else name)
    package = PACKAGES[name]
    require(name, found is not None, f"{name} is not installed: get Debian's package {package}")
    assert found is not None
    return found


class Prometheus:
    """A Prometheus with the project's configuration, pointed at one exporter.

    Args:
        folder: for its files.
        target: the address of the exporter.
        job: lines of YAML to be added to the scrape job.
        rules: the contents of rule files, which are evaluated at the interval of the scrapes.
        alertmanager: where alerts are sent.
        interval: between scrapes, and how long each may take: so short, a scrape fails for a busy machine's sake too.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        job: str = "",
        rules: Sequence[str] = (),
        alertmanager: str = "127.0.0.1:9",
        interval: str = "500ms",
    ) -> None:
        # First, because the test ends here where there is none.
        binary = program("prometheus")
        text = CONFIGURATION.read_text()
        assert "127.0.0.1:9464" in text
        assert "scrape_interval: 15s" in text
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            text.replace("127.0.0.1:9464", target)
            .replace("scrape_interval: 15s", f"scrape_interval: {interval}")
            .replace("scrape_timeout: 5s", f"scrape_timeout: {interval}")
            .replace("evaluation_interval: 15s", f"evaluation_interval: {interval}")
            .replace("127.0.0.1:9093", alertmanager)
            .replace("    metrics_path: /metrics\n", f"    metrics_path: /metrics\n{job}")
        )
        for number, text in enumerate(rules):
            (folder / "rules").mkdir(exist_ok=True)
            (folder / f"rules/{number}.yaml").write_text(text)
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                binary,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
                f"--web.external-url=http://{self.address}",
                # Where links to runbooks lead.
                f"--web.user-assets={REPOSITORY / 'docs'}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(lambda: Instance.answers(f"http://{self.address}/-/ready"), 20)

    def results(self, query: str) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with its value."""
        status, _, body = get(f"http://{self.address}/api/v1/query?query={quote(query)}")
        assert status == 200, body
        return list(json.loads(body)["data"]["result"])

    def value(self, query: str) -> float | None:
        """Return the one value of an instant query; None if it has no result."""
        result = self.results(query)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def targets(self) -> list[dict[str, str]]:
        """Return what Prometheus says of what it scrapes."""
        active = json.loads(get(f"http://{self.address}/api/v1/targets")[2])["data"]["activeTargets"]
        return list(active)

    def stop(self) -> None:
        """End it."""
        kill(self.process.pid)
        self.process.wait()
        self._log.close()


class Alertmanager:
    """An Alertmanager with the project's configuration, which tells somebody at once.

    Args:
        folder: for its files.
        webhook: the URL that hears of each alert.
    """

    def __init__(self, folder: Path, webhook: str) -> None:
        binary = program("alertmanager")
        text = ALERTMANAGER_CONFIGURATION.read_text()
        for waiting, at_once in (
            ("group_wait: 15s", "group_wait: 100ms"),
            ("group_interval: 2m", "group_interval: 1s"),
        ):
            assert waiting in text
            text = text.replace(waiting, at_once)
        told = f"webhook_configs: [{{url: '{webhook}'}}]"
        for receiver in ("night", "day"):
            text = text.replace(f"\n  - name: {receiver}\n", f"\n  - name: {receiver}\n    {told}\n")
        assert text.count(told) == 2
        configuration = folder / "alertmanager.yml"
        configuration.write_text(text)
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (folder / "alertmanager.log").open("wb")
        command = [
            binary,
            f"--config.file={configuration}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]
        self.process = subprocess.Popen([*_with_template(binary), *command], stdout=self._log, stderr=self._log)
        wait_until(lambda: Instance.answers(f"http://{self.address}/-/ready"), 20)

    def stop(self) -> None:
        """End it."""
        kill(self.process.pid)
        self.process.wait()
        self._log.close()


def _with_template(binary: str) -> list[str]:
    """Return what has to stand before Debian's Alertmanager.

    It looks for its template at a path of the system. Where the package is unpacked and not installed, it gets to see
    one there, and nobody else does.
    """
    if Path("/usr/share/prometheus/alertmanager/default.tmpl").exists():
        return []
    unpacked = Path(binary).parent.parent / "share/prometheus/alertmanager"
    assert unpacked.is_dir(), f"{binary} was not built for Debian, or its package is not complete"
    require("mount", os.geteuid() == 0, "an Alertmanager that is not installed needs a mount of its own, and so root")
    mount = (
        'mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus && ln -s "$0" /usr/share/prometheus/alertmanager'
    )
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', str(unpacked)]
