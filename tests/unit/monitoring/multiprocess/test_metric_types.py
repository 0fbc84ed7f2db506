"""Info, Enum and Gauge.set_function where many processes keep their values in one directory."""

import time
from pathlib import Path

import pytest

from authly.monitoring.multiprocess.collector import DirectoryCollector
from tests.processes import wait_until
from tests.unit.monitoring.multiprocess.support import Console, ConsoleError

PRELUDE = """
import gc, logging, os, threading, time
from pathlib import Path
from authly.monitoring.multiprocess import values
from authly.monitoring.multiprocess.metrics import Enum, Gauge, Info
from authly.monitoring.multiprocess.metrics import sample_functions, start_sampling, stop_sampling
from prometheus_client import CollectorRegistry
import prometheus_client
values.install({directory})
registry = CollectorRegistry()
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger('authly').addHandler(handler)
def shown(registry=registry):
    return sorted(
        (sample.name, sorted(sample.labels.items()), sample.value)
        for metric in registry.collect() for sample in metric.samples
    )
def in_child(work):
    # Fork, let the child do the work, wait, and hand back what the work returned.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, 'rb') as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return eval(said)
"""
INFO = "info = Info('build', 'Help.', registry=registry)\n"
ENUM = "enum = Enum('job', 'Help.', states=['idle', 'running', 'done'], registry=registry)\n"
GAUGE = "gauge = Gauge('g', 'Help.', multiprocess_mode='livesum', registry=registry)\n"


def writer(directory: Path | None, metrics: str = "") -> Console:
    """Start a process that keeps its metrics in a directory, or in memory."""
    place = "None" if directory is None else f"Path({str(directory)!r})"
    return Console(PRELUDE.format(directory=place) + metrics)


def series(directory: Path) -> dict[str, float]:
    """Return the samples that the read side finds, but for those about the directory itself."""
    collector = DirectoryCollector(directory, time.monotonic)
    try:
        return {
            sample.name + "".join(f" {name}={value}" for name, value in sample.labels): sample.value
            for family in collector.collect().families
            for sample in family.samples
            if not family.name.startswith("authly_")
        }
    finally:
        collector.close()


def states(current: str) -> dict[str, float]:
    """Return the series of the enum of these tests."""
    return {f"job job={state}": float(state == current) for state in ("idle", "running", "done")}


# Info


def test_an_info_shows_its_current_labels_alone(tmp_path: Path) -> None:
    """New labels take the place of the old ones, in the files and in the process."""
    with writer(tmp_path, INFO) as process:
        assert series(tmp_path) == {}
        process.run("info.info({'version': '1', 'commit': 'a'})")
        assert series(tmp_path) == {"build_info commit=a version=1": 1}
        process.run("info.info({'version': '2'}); answer = shown()")
        assert series(tmp_path) == {"build_info version=2": 1}
        assert process.run("answer = shown()") == [["build_info", [["version", "2"]], 1]]


def test_an_info_that_is_told_the_same_again_stays(tmp_path: Path) -> None:
    """The same labels, in whatever order, are the same series; those of earlier come back."""
    with writer(tmp_path, INFO) as process:
        process.run("info.info({'a': '1', 'b': '2'}); info.info({'b': '2', 'a': '1'})")
        assert series(tmp_path) == {"build_info a=1 b=2": 1}
        process.run("info.info({'a': '3'}); info.info({'a': '1', 'b': '2'})")
        assert series(tmp_path) == {"build_info a=1 b=2": 1}


def test_a_labelled_info_has_a_series_for_each_child(tmp_path: Path) -> None:
    """Children replace their own labels only, and are gone when they are removed."""
    with writer(tmp_path, "info = Info('build', 'Help.', ['part'], registry=registry)") as process:
        process.run("info.labels('api').info({'v': '1'}); info.labels('web').info({'v': '1'})")
        process.run("info.labels('api').info({'v': '2'})")
        assert series(tmp_path) == {"build_info part=api v=2": 1, "build_info part=web v=1": 1}
        process.run("info.remove('api')")
        assert series(tmp_path) == {"build_info part=web v=1": 1}
        with pytest.raises(ConsoleError, match="ValueError: Overlapping labels"):
            process.run("info.labels('web').info({'part': 'x'})")


def test_processes_agree_or_show_several_infos(tmp_path: Path) -> None:
    """Equal labels of two processes are one series of value 1; different ones are a series each."""
    with writer(tmp_path, INFO) as one, writer(tmp_path, INFO) as other:
        one.run("info.info({'v': '1'})")
        other.run("info.info({'v': '1'})")
        assert series(tmp_path) == {"build_info v=1": 1}
        other.run("info.info({'v': '2'})")
        assert series(tmp_path) == {"build_info v=1": 1, "build_info v=2": 1}
        one.run("info.info({'v': '2'})")
        assert series(tmp_path) == {"build_info v=2": 1}


def test_an_info_changed_in_a_child_leaves_the_parents(tmp_path: Path) -> None:
    """A forked process has a series of its own, and removes none of its parent's."""
    with writer(tmp_path, INFO) as process:
        process.run("info.info({'v': '1'}); in_child(lambda: info.info({'v': '2'}))")
        assert series(tmp_path) == {"build_info v=1": 1, "build_info v=2": 1}


# Enum


def test_an_enum_shows_the_state_that_was_set_last(tmp_path: Path) -> None:
    """The first state until one is set, then the most recent of any process; always exactly one."""
    with writer(tmp_path, ENUM) as one:
        assert series(tmp_path) == states("idle")
        one.run("enum.state('running')")
        assert series(tmp_path) == states("running")
        with writer(tmp_path, ENUM) as other:
            # A process that has just begun says nothing yet.
            assert series(tmp_path) == states("running")
            other.run("enum.state('done')")
            assert series(tmp_path) == states("done")
            one.run("enum.state('idle')")
            assert series(tmp_path) == states("idle")
            assert other.run("answer = shown()") == [
                ["job", [["job", "done"]], 1],
                ["job", [["job", "idle"]], 0],
                ["job", [["job", "running"]], 0],
            ]


def test_a_new_process_does_not_set_back_a_state(tmp_path: Path) -> None:
    """The state that a process set outlives it, and the default of the next holder of its slot."""
    with writer(tmp_path, ENUM) as process:
        process.run("enum.state('running')")
    with writer(tmp_path, ENUM):
        assert series(tmp_path) == states("running")


def test_a_labelled_enum_has_the_states_for_each_child(tmp_path: Path) -> None:
    """Each child has a state; a removed child has none."""
    metrics = "enum = Enum('job', 'Help.', ['name'], states=['idle', 'busy'], registry=registry)"
    with writer(tmp_path, metrics) as process:
        process.run("enum.labels('a').state('busy'); enum.labels('b')")
        assert series(tmp_path) == {
            "job job=busy name=a": 1,
            "job job=idle name=a": 0,
            "job job=busy name=b": 0,
            "job job=idle name=b": 1,
        }
        process.run("enum.remove('a')")
        assert series(tmp_path) == {"job job=busy name=b": 0, "job job=idle name=b": 1}


@pytest.mark.parametrize(
    ("code", "error"),
    [("enum.state('asleep')", "ValueError"), ("Enum('x', 'Help.', states=[], registry=None)", "ValueError")],
)
def test_an_enum_refuses_what_prometheus_client_refuses(tmp_path: Path, code: str, error: str) -> None:
    """An unknown state is an error and changes nothing; so is an enum without states."""
    with writer(tmp_path, ENUM) as process:
        process.run("enum.state('done')")
        with pytest.raises(ConsoleError, match=error):
            process.run(code)
        assert series(tmp_path) == states("done")


# Gauge.set_function


def test_functions_are_evaluated_when_asked(tmp_path: Path) -> None:
    """Each process evaluates its own functions, and their values are combined by the gauge's mode."""
    code = GAUGE + "items = [1]; gauge.set_function(lambda: len(items))"
    with writer(tmp_path, code) as one, writer(tmp_path, code) as other:
        one.run("sample_functions()")
        other.run("items.append(2); sample_functions(); answer = shown()")
        assert series(tmp_path) == {"g": 3}
        assert other.run("items.append(3); answer = shown()") == [["g", [], 3]]
        other.run("sample_functions()")
        assert series(tmp_path) == {"g": 4}


@pytest.mark.parametrize("mode", ["mostrecent", "max", "min", "livesum"])
def test_a_function_works_in_every_mode(tmp_path: Path, mode: str) -> None:
    """What is evaluated is set as it would be by hand."""
    code = f"gauge = Gauge('g', 'Help.', multiprocess_mode={mode!r}, registry=registry); gauge.set_function(lambda: 7)"
    with writer(tmp_path, code) as process:
        process.run("sample_functions()")
        assert series(tmp_path) == {"g": 7}


def test_a_gauge_with_a_function_ignores_other_methods(tmp_path: Path) -> None:
    """As in prometheus-client, what is set by hand is not shown; the last function counts."""
    with writer(tmp_path, GAUGE) as process:
        process.run("gauge.set(1); gauge.set_function(lambda: 5); sample_functions(); gauge.set(2); gauge.inc()")
        assert series(tmp_path) == {"g": 5}
        process.run("gauge.set_function(lambda: 6); sample_functions()")
        assert series(tmp_path) == {"g": 6}


def test_a_function_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    """It is logged once, keeps its value, and the others are evaluated; it may work again."""
    code = GAUGE + (
        "bad = Gauge('bad', 'Help.', multiprocess_mode='livesum', registry=registry)\n"
        "result = 1\n"
        "bad.set_function(lambda: 4 / result)\n"
        "gauge.set_function(lambda: result)\n"
    )
    with writer(tmp_path, code) as process:
        process.run("sample_functions(); result = 0; sample_functions(); sample_functions()")
        assert series(tmp_path) == {"bad": 4, "g": 0}
        assert process.run("answer = lines") == ["The function of the gauge bad failed; this is said once"]
        process.run("result = 2; sample_functions()")
        assert series(tmp_path) == {"bad": 2, "g": 2}


def test_a_removed_child_is_forgotten_at_once(tmp_path: Path) -> None:
    """Its function is not evaluated any more, and its series is gone, without a garbage collection."""
    code = (
        "gauge = Gauge('g', 'Help.', ['of'], multiprocess_mode='livesum', registry=registry); asked = []; gc.disable()"
    )
    with writer(tmp_path, code) as process:
        process.run("gauge.labels('a').set_function(lambda: asked.append('a') or 1); sample_functions()")
        assert series(tmp_path) == {"g of=a": 1}
        process.run("gauge.remove('a'); sample_functions(); answer = asked")
        assert process.run("answer = asked") == ["a"]
        assert series(tmp_path) == {}


@pytest.mark.parametrize(
    "code",
    [
        "start_sampling(3600); gauge.set_function(lambda: 8)",
        "gauge.set_function(lambda: 8); start_sampling(3600)",
        "start_sampling(3600); stop_sampling(); start_sampling(3600); gauge.set_function(lambda: 8)",
    ],
)
def test_sampling_begins_with_interval_and_function(tmp_path: Path, code: str) -> None:
    """Whichever comes last, the first evaluation is soon."""
    with writer(tmp_path, GAUGE + code):
        wait_until(lambda: series(tmp_path) == {"g": 8})


def test_functions_are_evaluated_at_intervals_until_sampling_stops(tmp_path: Path) -> None:
    """The value follows the function; after the stop the thread ends, and can be started again."""
    with writer(tmp_path, GAUGE + "now = 1; gauge.set_function(lambda: now); start_sampling(0.01)") as process:
        for value in (2, 3):
            process.run(f"now = {value}")
            wait_until(lambda value=value: series(tmp_path) == {"g": value})  # type: ignore[misc]
        process.run("stop_sampling()")
        wait_until(lambda: process.run("answer = threading.active_count()") == 1)
        process.run("now = 4; start_sampling(0.01)")
        wait_until(lambda: series(tmp_path) == {"g": 4})


def test_no_thread_is_started_without_a_function(tmp_path: Path) -> None:
    """A process that has nothing to evaluate can fork as before."""
    with writer(tmp_path, GAUGE) as process:
        assert process.run("start_sampling(0.01); answer = threading.active_count()") == 1


def test_a_child_evaluates_no_function_of_its_parent(tmp_path: Path) -> None:
    """Neither by a thread nor when asked: its objects are copies, which would count twice."""
    code = (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        "gauge.set_function(lambda: 5); sample_functions(); start_sampling(3600)\n"
        "def child():\n"
        "    sample_functions()\n"
        "    return threading.active_count(), values.install(None).slot\n"
        "answer = in_child(child)"
    )
    with writer(tmp_path, GAUGE) as process:
        assert process.run(code) == [1, None]
        assert series(tmp_path) == {"g": 5}


def test_a_child_samples_the_functions_that_it_sets(tmp_path: Path) -> None:
    """The interval holds in a forked process too, whose thread begins with its first function."""
    code = (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        "start_sampling(3600)\n"
        "def child():\n"
        "    evaluated = threading.Event()\n"
        "    gauge.set_function(lambda: evaluated.set() or 7)\n"
        "    return evaluated.wait(10), threading.active_count()\n"
        "answer = in_child(child)"
    )
    with writer(tmp_path, GAUGE) as process:
        assert process.run(code) == [True, 2]


# In memory


def test_in_memory_the_types_are_prometheus_clients_own() -> None:
    """Where values are not kept in files, what is collected and refused is the same, and nothing is sampled."""
    use = """
for types in (prometheus_client, authly.monitoring.multiprocess.metrics):
    there = CollectorRegistry()
    info = types.Info('build', 'Help.', registry=there); part = types.Info('part', 'Help.', ['n'], registry=there)
    enum = types.Enum('job', 'Help.', states=['a', 'b'], registry=there)
    jobs = types.Enum('jobs', 'Help.', ['n'], states=['a', 'b'], registry=there)
    gauge = types.Gauge('g', 'Help.', registry=there); many = types.Gauge('m', 'Help.', ['n'], registry=there)
    results.append([shown(there)])
    info.info({'v': '1'}); part.labels('x').info({'v': '2'}); enum.state('b'); jobs.labels('y').state('b')
    gauge.set(3); many.labels('z').set_function(lambda: 4)
    results[-1].append(shown(there))
    gauge.set_function(lambda: 5); gauge.set(6); info.info({'v': '3'})
    results[-1].append(shown(there))
    for wrong in (lambda: jobs.state('a'), lambda: many.set_function(int), lambda: info.info({'v': None})):
        try:
            wrong()
        except Exception as error:
            results[-1].append(repr(error))
start_sampling(0.01)
answer = results, threading.active_count()
"""
    with writer(None, "results = []; import authly.monitoring.multiprocess.metrics") as process:
        (original, ours), threads = process.run(use)
        assert ours == original
        assert len(ours) == 6
        assert threads == 1
