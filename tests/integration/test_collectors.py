"""Collectors in a real instance: whatever one of them does, the rest of a scrape is there, and in time."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from authly.monitoring.exporter.collectors.runner import PARTIAL, SUCCESS
from authly.monitoring.exporter.negotiation import TIMEOUT_HEADER
from tests.instance import Instance, Series, get, parse, total
from tests.processes import is_alive, kill, wait_until

MakeInstance = Callable[..., Instance]

MODULE = """
import itertools
import pathlib
import threading
import time

from prometheus_client.core import GaugeMetricFamily

here = pathlib.Path(__file__).parent
runs = itertools.count(1)
kept = []


def gauge(name, labels=()):
    family = GaugeMetricFamily(name, "Help.", labels=[label for label, _ in labels])
    family.add_metric([value for _, value in labels], 1)
    return family


class Sleeps:
    def collect(self):
        with (here / "sleeps").open("a") as log:
            log.write(".")
        time.sleep(30)
        yield gauge("slept")


class Raises:
    def collect(self):
        yield gauge("raised_before")
        raise RuntimeError("on purpose")


class Ends:
    def collect(self):
        raise SystemExit(3)


class Leaks:
    def collect(self):
        run = next(runs)
        kept.append(bytearray(1 << 20))
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        for number in range(4000 * run):
            yield gauge(f"leak_{run}_{number}", [("run", str(run))])


class Good:
    def collect(self):
        yield gauge("good")


def slow_to_import():
    time.sleep(600)
"""
ALL = ("awful:Sleeps", "awful:Raises", "awful:Ends", "awful:Leaks", "awful:slow_to_import", "awful:Good")
TIMEOUT = {TIMEOUT_HEADER: "3"}


def awful(make_instance: MakeInstance, folder: Path, names: tuple[str, ...] = ALL) -> Instance:
    """Return an instance with collectors in a folder of their own."""
    folder.mkdir()
    (folder / "awful.py").write_text(MODULE)
    return make_instance(AUTHLY_WORKERS="2", PYTHONPATH=str(folder), AUTHLY_METRICS_COLLECTORS=",".join(names))


def scrape(instance: Instance) -> Series:
    """Scrape as Prometheus does with a timeout of three seconds; later there is no answer any more."""
    host, port = instance.metrics_address.split(":")
    status, _, body = get(f"http://{host}:{port}/metrics", TIMEOUT, timeout=3)
    assert status == 200
    return instance.parse(body)


def rest(series: Series) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Return the names and labels of all series that are not about, or of, custom collectors."""
    ours = "authly_", "python_", "process_"
    return {key for key in series if key[0].startswith(ours) and ":" not in dict(key[1]).get("collector", "")}


def successes(series: Series) -> dict[str, float]:
    """Return the success of each collector."""
    return {dict(labels)["collector"]: value for (name, labels), value in series.items() if name == SUCCESS.name}


@pytest.mark.produces("authly_exporter_scrapes_total", outcome=("partial",))
def test_whatever_collectors_do_the_rest_of_the_scrape_is_there_in_time(
    make_instance: MakeInstance, tmp_path: Path
) -> None:
    """One sleeps for 30 s, one raises, one ends its thread, one leaks, one cannot even be imported in time."""
    instance = awful(make_instance, tmp_path / "plugins").start()
    other = make_instance(AUTHLY_WORKERS="2").start()
    for one in (instance, other):
        one.get("/health/live")
    expected = rest(scrape(other))
    counted = []
    for number in range(1, 6):
        instance.get("/health/live")
        series = scrape(instance)
        assert rest(series) == expected
        assert successes(series) == {
            "own": 1,
            "gunicorn": 1,
            "system": 1,
            "awful:Good": 1,
            "awful:Sleeps": 0,
            "awful:Raises": 0,
            "awful:Ends": 0,
            # Two runs of it give what one collector may; the third gives more.
            "awful:Leaks": 1 if number < 3 else 0,
            "awful:slow_to_import": 0,
        }
        assert total(series, "good") == total(series, PARTIAL.name) == 1
        assert not [name for name, _ in series if name in {"slept", "raised_before"}]
        assert len([name for name, _ in series if name.startswith("leak_")]) == (4000 * number if number < 3 else 0)
        counted.append(total(series, "authly_http_requests_total", endpoint="/health/live"))
        assert total(series, "authly_exporter_scrapes_total", outcome="partial") == number - 1
        assert total(series, "authly_exporter_scrapes_total", outcome="success") == 0
    assert counted == [counted[0] + number for number in range(5)]
    # It was begun once, by the first scrape; the others neither began it again nor waited for it.
    assert (tmp_path / "plugins/sleeps").read_text() == "."
    log = instance.log()
    for name in ALL[:5]:
        assert log.count(f"The collector {name} ") == 1
    assert "Traceback" not in log


def test_the_exporter_answers_others_while_a_scrape_waits(make_instance: MakeInstance, tmp_path: Path) -> None:
    """A client with much patience waits for a collector, and nobody else does."""
    instance = awful(make_instance, tmp_path / "plugins", ("awful:Sleeps", "awful:Good")).start()
    done = threading.Event()
    found: list[Series] = []

    def wait() -> None:
        status, _, body = instance.scrape(headers={TIMEOUT_HEADER: "8"})
        assert status == 200
        found.append(parse(body.decode()))
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until((tmp_path / "plugins/sleeps").exists)
    for path in ("/-/healthy", "/-/ready", "/"):
        assert instance.scrape(path)[0] == 200
    hasty = parse(instance.scrape(headers={TIMEOUT_HEADER: "0.2"})[2].decode())
    assert successes(hasty)["awful:Sleeps"] == 0
    assert not done.is_set()
    thread.join(20)
    assert done.is_set()
    assert successes(found[0]) == {"own": 1, "gunicorn": 1, "system": 1, "awful:Good": 1, "awful:Sleeps": 0}


def test_the_application_port_answers_in_time_too(make_instance: MakeInstance, tmp_path: Path) -> None:
    """A worker is answered by the exporter before it would take it for absent."""
    instance = awful(make_instance, tmp_path / "plugins", ("awful:Sleeps",)).start()
    series = parse(instance.get("/metrics")[2].decode())
    assert successes(series) == {"own": 1, "gunicorn": 1, "system": 1, "awful:Sleeps": 0}


def cpu(instance: Instance, role: str) -> float:
    """Return the processor time of a role, as the exporter tells it."""
    return round(total(instance.series(), "authly_cpu_seconds_total", role=role), 6)


def assert_every_role_is_measured(series: Series) -> None:
    """Master, workers and exporter have memory, processor time, descriptors, threads and switches."""
    for role in ("master", "worker", "exporter"):
        for type_ in ("rss", "pss", "uss", "vms"):
            assert total(series, "authly_memory_usage_bytes", role=role, type=type_) > 0
        for name in ("authly_cpu_seconds_total", "authly_open_file_descriptors", "authly_threads"):
            assert total(series, name, role=role) > 0
        assert total(series, "authly_open_file_descriptors_max", role=role) < total(
            series, "authly_file_descriptors_limit", role=role
        )


def test_every_role_is_measured_and_processor_time_never_falls(make_instance: MakeInstance) -> None:
    """Each role has its figures; neither a worker that is killed nor an exporter makes the processor time less."""
    instance = make_instance(AUTHLY_WORKERS="2").start()
    assert_every_role_is_measured(instance.series())
    seen = [cpu(instance, "worker")]
    exporters = [cpu(instance, "exporter")]
    for _ in range(3):
        victim = instance.workers()[0]
        kill(victim)
        wait_until(lambda: not is_alive(victim) and instance.is_live())  # noqa: B023
        seen.append(cpu(instance, "worker"))
    (exporter,) = instance.exporters()
    kill(exporter)
    wait_until(lambda: not is_alive(exporter) and instance.exporters())
    wait_until(lambda: Instance.answers(f"http://{instance.metrics_address}/-/healthy"))
    seen.append(cpu(instance, "worker"))
    exporters.append(cpu(instance, "exporter"))
    assert seen == sorted(seen)
    assert exporters == sorted(exporters)
    # Five workers by then, of which two live.
    assert seen[-1] > 1.5 * seen[0] > 0
    series = instance.series()
    assert total(series, "authly_start_time_seconds") > 0
    assert total(series, "authly_uptime_seconds") > 0


def test_a_master_that_takes_over_is_no_worker(make_instance: MakeInstance) -> None:
    """After SIGUSR2 the new master, a child of the old one, and all that it starts are left to its own exporter."""
    instance = make_instance(AUTHLY_WORKERS="2").start()
    before = instance.series()
    assert total(before, "authly_threads", role="worker") > 0
    workers = set(instance.workers())
    (exporter,) = instance.exporters()
    os.kill(instance.master, signal.SIGUSR2)
    wait_until(lambda: len(instance.family()) >= 2 * 4, 20)
    # Both exporters listen at the same address; whose answer it is shows in the start of its master.
    answers: dict[float, Series] = {}

    def both() -> bool:
        series = instance.series()
        answers[total(series, "authly_start_time_seconds")] = series
        return len(answers) == 2

    wait_until(both, 20)
    old = answers[total(before, "authly_start_time_seconds")]
    assert set(instance.workers()) == workers
    assert is_alive(exporter)
    rss = total(old, "authly_memory_usage_bytes", role="worker", type="rss")
    assert rss < 1.4 * total(before, "authly_memory_usage_bytes", role="worker", type="rss")
