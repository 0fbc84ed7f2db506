"""Print prometheusrule.yaml: the rules of docker-compose/prometheus/rules as the Prometheus Operator wants them."""

import sys
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parent.parent.parent / "docker-compose/prometheus/rules"
HEAD = "# Made by `make kubernetes` of docker-compose/prometheus/rules; change those.\n"


def prometheus_rule() -> str:
    """Return the manifest."""
    groups = [group for path in sorted(RULES.glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
    manifest: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "authly", "namespace": "authly", "labels": {"app.kubernetes.io/name": "authly"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(manifest, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(prometheus_rule())
