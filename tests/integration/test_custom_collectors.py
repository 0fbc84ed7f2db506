"""What prometheus-client's multiprocess mode does without, in a real instance: collectors, functions, Info, Enum.

One collector works, one raises, one cannot be imported.
"""

from collections.abc import Callable
from pathlib import Path

from authly.monitoring.exporter.collectors.runner import DURATION, PARTIAL, SUCCESS
from tests.instance import Instance, Series, parse, total
from tests.processes import is_alive, kill, wait_until

MakeInstance = Callable[..., Instance]

MODULE = """
import os

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily

asked = Counter("asked", "How often the collector was asked.")


class Good:
    def collect(self):
        asked.inc()
        yield GaugeMetricFamily("plugin_pid", "Where the collector runs.", os.getpid())


class Bad:
    def collect(self):
        raise RuntimeError("on purpose")
"""
# An application with a gauge that is a function: `gunicorn sampled:app`, in the folder of the instance.
SAMPLED = """
from authly.main import app
from authly.monitoring.multiprocess.metrics import Enum, Gauge, Info

Gauge("sampled", "Evaluated in each worker.", multiprocess_mode="livesum").set_function(lambda: 1)
Info("plan", "What is served.").info({"name": "large"})
Enum("mood", "How it is.", states=["good", "bad"]).state("bad")
"""
NAMES = ("plugin:Good", "plugin:Bad", "plugin:asked", "nowhere.to_be:found")
WELL = {"plugin:Good": 1, "plugin:Bad": 0, "plugin:asked": 1, "nowhere.to_be:found": 0}


def plugged(make_instance: MakeInstance, folder: Path) -> Instance:
    """Return an instance with collectors in a folder of their own."""
    folder.mkdir()
    (folder / "plugin.py").write_text(MODULE)
    return make_instance(AUTHLY_WORKERS="1", PYTHONPATH=str(folder), AUTHLY_METRICS_COLLECTORS=",".join(NAMES))


def successes(series: Series) -> dict[str, float]:
    """Return the success of each custom collector."""
    found = {dict(labels)["collector"]: value for (name, labels), value in series.items() if name == SUCCESS.name}
    return {name: value for name, value in found.items() if ":" in name}


def test_the_exporter_loads_collectors(make_instance: MakeInstance, tmp_path: Path) -> None:
    """One that works is shown, the others cost a line each, and everything else is there as ever."""
    instance = plugged(make_instance, tmp_path / "plugins").start()
    (exporter,) = instance.exporters()
    for _ in range(2):
        series = instance.series()
        assert total(series, "plugin_pid") == exporter
        assert successes(series) == WELL
        assert {dict(labels)["collector"] for name, labels in series if name == DURATION.name} >= {*NAMES, "own"}
        assert total(series, PARTIAL.name) == 1
        assert total(series, "authly_exporter_directory_up") == 1
        assert total(series, "authly_http_requests_total", endpoint="/health/live") > 0
    # What a collector measures for itself is the exporter's alone; it leaves no files among those of the workers.
    # Which of the two collectors comes first at a scrape is open.
    assert total(series, "asked_total") in (1, 2)
    assert not [path.name for path in instance.directory.iterdir() if str(exporter) in path.name]
    log = instance.log()
    assert log.count("The collector plugin:Bad failed, and its metrics are missing: RuntimeError: on purpose.") == 1
    assert log.count("The collector nowhere.to_be:found cannot be loaded") == 1
    assert log.count("No module named 'nowhere'") == 1
    assert "Traceback" not in log


def test_a_worker_asks_collectors_where_no_exporter_answers(make_instance: MakeInstance, tmp_path: Path) -> None:
    """The exposition on the application port has the same collectors with and without an exporter."""
    instance = plugged(make_instance, tmp_path / "plugins")
    # It ends the exporter's Python before it begins, and touches nothing else; see the tests of the instance.
    instance.command += ["--env", "PYTHONHOME=/nonexistent"]
    instance.start(exporter=False)
    wait_until(lambda: "starting it again in 1 s" in instance.log())
    series = parse(instance.get("/metrics")[2].decode())
    assert total(series, "plugin_pid") in instance.workers()
    assert successes(series) == WELL


def test_collectors_are_back_with_the_next_exporter(make_instance: MakeInstance, tmp_path: Path) -> None:
    """An exporter that was killed is replaced by one with the same collectors."""
    instance = plugged(make_instance, tmp_path / "plugins").start()
    (exporter,) = instance.exporters()
    kill(exporter)
    wait_until(lambda: not is_alive(exporter) and instance.exporters())
    wait_until(lambda: Instance.answers(f"http://{instance.metrics_address}/-/healthy"))
    (successor,) = instance.exporters()
    assert total(instance.series(), "plugin_pid") == successor != exporter


def test_functions_are_evaluated_in_each_worker(make_instance: MakeInstance) -> None:
    """The application samples its functions; Info and Enum are shown once, whatever the number of workers."""
    instance = make_instance("sampled:app", AUTHLY_WORKERS="2", AUTHLY_METRICS_COLLECTION_INTERVAL="0.1")
    (instance.folder / "sampled.py").write_text(SAMPLED)
    instance.start()
    wait_until(lambda: total(instance.series(), "sampled") == 2)
    series = instance.series()
    assert series["plan_info", frozenset({("name", "large")})] == total(series, "plan_info") == 1
    assert series["mood", frozenset({("mood", "bad")})] == total(series, "mood") == 1
    (first, _) = instance.workers()
    kill(first)
    # The value of a process that is gone is gone with it, and its successor samples again.
    wait_until(lambda: first not in instance.workers() and len(instance.workers()) == 2)
    wait_until(lambda: total(instance.series(), "sampled") == 2)
