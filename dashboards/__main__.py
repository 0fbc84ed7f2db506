"""Writes the dashboards where Grafana's provisioning looks for them."""

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import DASHBOARDS

FOLDER = Path(__file__).parent.parent / "docker-compose/grafana/dashboards"


def render(name: str) -> str:
    """Return a dashboard as JSON.

    Args:
        name: which.
    """
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(DASHBOARDS[name]()) + "\n"


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(render(name))


if __name__ == "__main__":
    main()
