"""The exporter's page for people: what this is, where the metrics are, how it is doing."""

import html
from typing import TYPE_CHECKING, NamedTuple

from authly import __version__
from authly.monitoring.multiprocess.collector import Collection

if TYPE_CHECKING:
    from authly.monitoring.exporter.application import Configuration


class State(NamedTuple):
    """What the page tells.

    Args:
        problem: what is wrong with the directory, if anything is.
        collection: what is in the directory, if it can be read.
    """

    problem: str
    collection: Collection | None


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
dt { font-weight: 600 } dd { margin: 0 0 .5rem }
.problem { border-left: .3rem solid #c22; padding-left: 1rem }
"""


def page(configuration: "Configuration", state: State) -> bytes:
    """Return the page as UTF-8 HTML that needs nothing from elsewhere."""
    path = html.escape(configuration.path)
    facts = [("Directory", str(configuration.directory or "none"))]
    if state.collection is not None:
        reading = state.collection.reading
        facts += [
            ("Metric files", str(len(reading.files))),
            ("Files left out", str(sum(reading.skipped.values()))),
            ("Samples", str(sum(family.size for family in state.collection.families))),
        ]
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts)
    problem = f'<p class="problem" role="alert">{html.escape(state.problem)}</p>' if state.problem else ""
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Authly exporter</title><style>{_STYLE}</style></head>
<body>
<h1>Authly exporter</h1>
<p>This process answers Prometheus for one Authly instance: it adds up what all of its workers measured.</p>
{problem}
<ul>
<li><a href="{path}">{path}</a>: the metrics, as text or OpenMetrics</li>
<li><a href="/-/healthy">/-/healthy</a>: this process answers</li>
<li><a href="/-/ready">/-/ready</a>: it can read the workers' files</li>
</ul>
<dl>{rows}</dl>
<p><small>Authly {__version__}</small></p>
</body>
</html>
""".encode()
