"""What the page is made of."""

from typing import TYPE_CHECKING, NamedTuple

from authly.monitoring.exporter.collectors.gunicorn import Snapshot
from authly.monitoring.exporter.status.journal import Journal
from authly.monitoring.exporter.status.lookup import Lookup

if TYPE_CHECKING:
    from authly.monitoring.exporter.application import Configuration

SILENT = 20.0
"""Seconds after which a heartbeat is late: with Gunicorn's usual timeout of 30 s, idle workers give one each 15 s."""


class State(NamedTuple):
    """An instance at one moment.

    Args:
        configuration: of the exporter.
        families: what a scrape would give, without custom collectors.
        snapshot: what Gunicorn's collector saw; None where it saw nothing in time.
        journal: what was so before.
        problem: why the directory cannot be used, if it cannot.
        now: on the monotonic clock.
        time: in seconds since the epoch.
    """

    configuration: "Configuration"
    families: Lookup
    snapshot: Snapshot | None
    journal: Journal
    problem: str
    now: float
    time: float
