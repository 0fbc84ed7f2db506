"""Real instances of other applications than Authly: what any Gunicorn application gets from `authly.monitoring`."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.instance import GUNICORN, REPOSITORY, Instance, Series, total

EXAMPLES = REPOSITORY / "examples"
UVICORN = "uvicorn_worker.UvicornWorker"
# Which of the examples a worker class can serve.
EXAMPLE_OF = {"sync": "flask", "gthread": "flask", "asgi": "fastapi", UVICORN: "fastapi"}

every_worker_class = pytest.mark.parametrize("worker_class", EXAMPLE_OF)


class ApplicationInstance(Instance):
    """Gunicorn with an application of its own, configured as the examples are.

    Args:
        folder: a temporary folder, from which the application is loaded too.
        worker_class: Gunicorn's name of it.
        options: for Gunicorn.
        source: of the application, in which `app` serves; an example if it is empty.
        environment: variables besides those of the test process.
        probe: a path that is answered with 200.
    """

    def __init__(
        self,
        folder: Path,
        worker_class: str,
        options: tuple[str, ...] = (),
        source: str = "",
        environment: dict[str, str] | None = None,
        probe: str = "/hello/probe",
    ) -> None:
        super().__init__(folder, {"PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"), **(environment or {})})
        self.environment["METRICS_BIND"] = self.metrics_address
        self.probe = probe
        self.worker_class = worker_class
        example = EXAMPLES / EXAMPLE_OF[worker_class]
        if source:
            (folder / "application.py").write_text(source)
        self.command = [
            *(str(part) for part in (self.command[0], GUNICORN, "-c", example / "gunicorn.conf.py")),
            *("--chdir", str(folder if source else example)),
            *("--bind", self.address, "--worker-class", worker_class, "--no-control-socket"),
            *options,
            *(("application:app",) if source else ()),
        ]

    def is_live(self) -> bool:
        """Tell whether a worker answers."""
        return self.answers(f"http://{self.address}{self.probe}")

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.master, number)

    def exits(self, series: Series | None = None) -> dict[str, float]:
        """Return how many workers ended, by reason, leaving out reasons that none ended for."""
        found = self.series() if series is None else series
        name = "gunicorn_worker_exits_total"
        reasons = {dict(labels)["reason"] for metric, labels in found if metric == name}
        return {reason: count for reason in reasons if (count := total(found, name, reason=reason))}

    def state(self, state: str) -> float:
        """Return the number of workers in a state."""
        return total(self.series(), "gunicorn_workers", state=state)

    def is_complete(self) -> bool:
        """Tell whether as many workers serve as are wanted, and no others are left."""
        found = self.series()
        states = {name: total(found, "gunicorn_workers", state=name) for name in ("alive", "desired", "booting")}
        return states["alive"] == states["desired"] and not states["booting"]


@pytest.fixture
def make_application(tmp_path: Path) -> Iterator[Callable[..., ApplicationInstance]]:
    """Return what makes instances of applications; ended with the test; their log is shown if it failed."""
    made: list[ApplicationInstance] = []

    def make(
        worker_class: str,
        *options: str,
        source: str = "",
        environment: dict[str, str] | None = None,
        probe: str = "/hello/probe",
    ) -> ApplicationInstance:
        folder = tmp_path / f"application{len(made)}"
        folder.mkdir()
        made.append(ApplicationInstance(folder, worker_class, options, source, environment, probe))
        return made[-1]

    try:
        yield make
    finally:
        for instance in made:
            instance.end()
            if instance.log_path.exists():
                print(f"--- log of {instance.folder.name}\n{instance.log()}")  # noqa: T201
