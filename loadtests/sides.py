"""The instances that are put under load."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.agent import REPOSITORY
from benchmarks.instance import Instance, authly
from loadtests.seed import seed_instance

_USERS = 40
# Limits that count each request of the one address that all load comes from, and refuse none; and passwords that cost
# little, because Argon2id would be nine tenths of all processor time, and hide what is looked for.
SETTINGS = {
    **{f"AUTHLY_RATE_LIMIT_{policy}": "1000/second" for policy in ("LOGIN", "TOKEN", "INTROSPECT", "DEFAULT")},
    "AUTHLY_METRICS_RATE_LIMIT": "1000000",
    "AUTHLY_PASSWORD_HASH_TIME": "1",
    "AUTHLY_PASSWORD_HASH_MEMORY": "64",
    "AUTHLY_LOG_LEVEL": "warning",
}


class Side(NamedTuple):
    """A running instance with accounts and clients.

    Args:
        instance: it.
        seeds: the file of its seeds.
        metrics_url: of its exporter; empty where it has none.
        folder: its state.
        directory: of its metrics.
    """

    instance: Instance
    seeds: Path
    metrics_url: str
    folder: Path
    directory: Path


@contextmanager
def side(handicap: Mapping[str, str], *, metrics: bool, workers: int, **settings: str) -> Iterator[Side]:
    """Run an instance, with what the load needs in its database.

    Args:
        handicap: variables of :mod:`loadtests.handicap`.
        metrics: whether it has metrics.
        workers: how many.
        settings: variables of the environment.
    """
    application = ("loadtests.handicap:create_handicapped_app()",) if handicap else ()
    environment = {
        **SETTINGS,
        "AUTHLY_WORKERS": str(workers),
        "AUTHLY_METRICS_ENABLED": str(metrics).lower(),
        **({"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}", **handicap} if handicap else {}),
        **settings,
    }
    with (
        authly(*application, **environment) as instance,
        tempfile.TemporaryDirectory(prefix="authly-seeds-") as folder,
    ):
        seeds = Path(folder) / "seeds.json"
        seed_instance(seeds, instance.environment, _USERS)
        metrics_url = f"http://{instance.metrics_address}/metrics" if metrics else ""
        state = Path(instance.environment["AUTHLY_STATE_DIR"])
        directory = Path(instance.environment.get("PROMETHEUS_MULTIPROC_DIR") or state / "metrics")
        yield Side(instance, seeds, metrics_url, state, directory)
