"""A real Prometheus for tests."""

import json
import shutil
import subprocess
from pathlib import Path
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
    """

    def __init__(self, folder: Path, target: str, job: str = "") -> None:
        # First, because the test ends here where there is none.
        binary = program("prometheus")
        text = CONFIGURATION.read_text()
        assert "127.0.0.1:9464" in text
        assert "scrape_interval: 15s" in text
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            text.replace("127.0.0.1:9464", target)
            .replace("scrape_interval: 15s", "scrape_interval: 200ms")
            .replace("scrape_timeout: 5s", "scrape_timeout: 200ms")
            .replace("    metrics_path: /metrics\n", f"    metrics_path: /metrics\n{job}")
        )
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                binary,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(lambda: Instance.answers(f"http://{self.address}/-/ready"), 20)

    def value(self, query: str) -> float | None:
        """Return the one value of an instant query; None if it has no result."""
        status, _, body = get(f"http://{self.address}/api/v1/query?query={quote(query)}")
        assert status == 200, body
        result = json.loads(body)["data"]["result"]
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
