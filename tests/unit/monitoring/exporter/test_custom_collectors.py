"""Custom collectors: how they are named and loaded, what becomes of their metrics, and what their failures cost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from authly.monitoring.exporter.application import Application, Configuration
from authly.monitoring.exporter.collectors.custom import CustomCollector, families_of
from authly.monitoring.exporter.collectors.runner import DURATION, PARTIAL, SUCCESS, Runner
from authly.monitoring.exporter.collectors.runner import families_of as families_of_statuses
from authly.monitoring.multiprocess.exposition import render
from authly.settings import SettingsError, load_settings

MakeModule = Callable[[str], str]
parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families
Samples = dict[str, float]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    """Return what writes modules that can be imported, and returns their names."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(text: str) -> str:
        made.append(f"collectors_of_{tmp_path.name}_{len(made)}")
        (tmp_path / f"{made[-1]}.py").write_text(text)
        monkeypatch.delitem(sys.modules, made[-1], raising=False)
        return made[-1]

    return make


GOOD = """
from prometheus_client.core import GaugeMetricFamily

class Made:
    def collect(self):
        yield GaugeMetricFamily("answer", "Help.", 42)

def factory():
    return Made()

made = Made()
number = 3
"""


def shown(metrics: Iterable[Metric]) -> Samples:
    """Return the samples that were read back."""
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def running(*names: str, report: Callable[[str], None]) -> Runner:
    """Return what runs collectors."""
    return Runner([CustomCollector(name) for name in names], time.monotonic, report)


def collected(runner: Runner) -> Samples:
    """Return the samples of collectors, but for how long they took."""
    round_ = runner.begin()
    round_.wait(time.monotonic() + 20)
    found = round_.finish()
    families = [*families_of_statuses(found.statuses), *chain(*found.families.values())]
    text = render(families, openmetrics=False).decode()
    return {
        name: value
        for name, value in shown(parse_text(text)).items()
        if not name.startswith((DURATION.name, PARTIAL.name))
    }


@pytest.mark.parametrize("attribute", ["Made", "factory", "made"])
def test_a_class_a_function_or_an_object_is_a_collector(make_module: MakeModule, attribute: str) -> None:
    """All three are loaded, and tell how they did under the name that was configured."""
    name = f"{make_module(GOOD)}:{attribute}"
    lines: list[str] = []
    assert collected(running(name, report=lines.append)) == {"answer": 42, f"{SUCCESS.name} collector={name}": 1}
    assert lines == []


@pytest.mark.parametrize(
    ("text", "attribute", "reason"),
    [
        (GOOD, "missing", "AttributeError: module "),
        (GOOD, "number", "TypeError: 'int' object is not callable"),
        ("def factory():\n    return 3", "factory", "TypeError: it has no method collect()"),
        ("1 / 0", "x", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('two\\nlines.')", "x", "SystemExit: two lines."),
        ("def", "x", "SyntaxError: "),
    ],
)
def test_one_that_cannot_be_loaded_costs_one_line(
    make_module: MakeModule, text: str, attribute: str, reason: str
) -> None:
    """It is reported once, in one line that names it; the others are loaded, and it counts as failed."""
    bad, good = f"{make_module(text)}:{attribute}", f"{make_module(GOOD)}:made"
    lines: list[str] = []
    collectors = running(bad, good, report=lines.append)
    expected = {"answer": 42.0, f"{SUCCESS.name} collector={bad}": 0.0, f"{SUCCESS.name} collector={good}": 1.0}
    assert collected(collectors) == expected
    assert collected(collectors) == expected
    (line,) = lines
    assert line.startswith(f"The collector {bad} cannot be loaded")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "failure",
    [
        "raise ValueError('no answer')",
        "raise SystemExit",
        "return None",
        "return ['no metric']",
        "yield GaugeMetricFamily('x', '', value='no number')",
    ],
)
def test_one_that_raises_costs_itself_alone(make_module: MakeModule, failure: str) -> None:
    """None of its metrics are shown, it is reported when it begins to fail and when it works again."""
    module = make_module(
        GOOD + "fails = True\n"
        "class Bad:\n"
        "    def collect(self):\n"
        "        return self.fail() if fails else Made().collect()\n"
        "    def fail(self):\n"
        f"        {failure}\n"
    )
    good = make_module(GOOD.replace("answer", "other"))
    lines: list[str] = []
    collectors = running(f"{module}:Bad", f"{good}:Made", report=lines.append)
    for _ in range(2):
        assert collected(collectors) == {
            "other": 42,
            f"{SUCCESS.name} collector={module}:Bad": 0,
            f"{SUCCESS.name} collector={good}:Made": 1,
        }
    sys.modules[module].fails = False  # type: ignore[attr-defined]
    assert collected(collectors)["answer"] == 42
    failed, works = lines
    assert failed.startswith(f"The collector {module}:Bad failed")
    assert works == f"The collector {module}:Bad works again."


# Metrics of every type


def every_type() -> Iterable[Metric]:
    """Return a metric of each type, as collectors make them and as a registry does."""
    registry = CollectorRegistry()
    Counter("c", "Help.", ["code"], registry=registry).labels("200").inc(2)
    Gauge("g", 'Help \\ \n".', registry=registry).set(-1)
    Histogram("h", "Help.", ["path"], buckets=[0.5, 1], registry=registry).labels("/").observe(0.7)
    Summary("s", "Help.", registry=registry).observe(3)
    Info("i", "Help.", registry=registry).info({"v": "1"})
    Enum("e", "Help.", states=["a", "b"], registry=registry)
    yield from registry.collect()
    yield CounterMetricFamily("made", "Help.", 3)
    yield GaugeMetricFamily("level", "Help.", float("inf"))
    yield UnknownMetricFamily("odd", "Help.", 4)
    yield HistogramMetricFamily("spread", "Help.", [("1.0", 1), ("+Inf", 2)], sum_value=3)
    yield SummaryMetricFamily("times", "Help.", count_value=2, sum_value=3)
    sizes = GaugeHistogramMetricFamily("sizes", "Help.", [("1.0", 1), ("+Inf", 2)], gsum_value=3)
    yield sizes
    quantiles = Metric("quantiles", "Help.", "summary")
    quantiles.add_sample("quantiles", {"quantile": "0.5"}, 9)
    yield quantiles
    old = Metric("old", "Help.", "counter")
    old.add_sample("old", {}, 1)
    yield old
    twice = GaugeMetricFamily("twice", "Help.", labels=["x"])
    twice.add_metric(["1"], 1)
    twice.add_metric(["1"], 2)
    yield twice
    yield GaugeMetricFamily("empty", "Help.", labels=["x"])


EXPECTED = {
    "c_total code=200": 2,
    "g": -1,
    "h_bucket le=0.5 path=/": 0,
    "h_bucket le=1.0 path=/": 1,
    "h_bucket le=+Inf path=/": 1,
    "h_count path=/": 1,
    "h_sum path=/": 0.7,
    "s_count": 1,
    "s_sum": 3,
    "i_info v=1": 1,
    "e e=a": 1,
    "e e=b": 0,
    "made_total": 3,
    "level": float("inf"),
    "odd": 4,
    "spread_bucket le=1.0": 1,
    "spread_bucket le=+Inf": 2,
    "spread_count": 2,
    "spread_sum": 3,
    "times_count": 2,
    "times_sum": 3,
    "sizes_bucket le=1.0": 1,
    "sizes_bucket le=+Inf": 2,
    "sizes_gcount": 2,
    "sizes_gsum": 3,
    "quantiles quantile=0.5": 9,
    "old_total": 1,
    "twice x=1": 1,
}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_type_is_shown_rightly_in_both_formats(openmetrics: bool) -> None:
    """Both parsers, the strict one too, find every sample, of a type that both formats have."""
    families = [family for metric in every_type() for family in families_of(metric)]
    text = render(families, openmetrics=openmetrics).decode()
    parsed = list((parse_openmetrics if openmetrics else parse_text)(text))
    samples = shown(parsed)
    created = {name for name in samples if "_created" in name}
    assert {name: value for name, value in samples.items() if name not in created} == EXPECTED
    assert created == ({"c_created code=200", "h_created path=/", "s_created"} if openmetrics else set())
    types = {metric.name: metric.type for metric in parsed}
    assert types["c"] == types["made"] == types["old"] == "counter"
    assert types["h"] == types["spread"] == "histogram"
    assert types["s"] == types["times"] == types["quantiles"] == "summary"
    assert types["g"] == types["i_info"] == types["e"] == types["odd"] == types["sizes_gcount"] == "gauge"
    assert next(metric for metric in parsed if metric.name == "g").documentation == 'Help \\ \n".'


def test_a_sample_that_its_type_cannot_have_is_an_error() -> None:
    """A histogram has no sample of its own name."""
    metric = Metric("h", "Help.", "histogram")
    metric.add_sample("h", {}, 1)
    with pytest.raises(ValueError, match="a histogram has no sample named h"):
        families_of(metric)


# In the exporter


def test_the_exporters_own_metrics_win(make_module: MakeModule, tmp_path: Path) -> None:
    """No family is there twice, whatever a collector names its metrics."""
    module = make_module(GOOD.replace("answer", "authly_exporter_directory_up"))
    configuration = Configuration(tmp_path, collectors=(f"{module}:made", f"{module}:factory"))
    application = Application(configuration, time.monotonic, pytest.fail)
    application.load_collectors()
    samples = shown(parse_openmetrics(application.exposition(openmetrics=True).decode()))
    assert samples["authly_exporter_directory_up"] == 1
    assert samples[f"{SUCCESS.name} collector=own"] == 1
    assert samples[f"{SUCCESS.name} collector={module}:factory"] == 1


def test_nothing_is_imported_before_it_is_needed(make_module: MakeModule, tmp_path: Path) -> None:
    """A worker, which answers scrapes only where no exporter does, loads no collector before it has to."""
    module = make_module(GOOD)
    application = Application(Configuration(tmp_path, collectors=(f"{module}:made",)), time.monotonic, pytest.fail)
    assert module not in sys.modules
    assert b"answer 42.0" in application.exposition(openmetrics=False)


def test_the_exporter_without_collectors_does_without_prometheus_client() -> None:
    """Custom collectors cost nothing where there are none."""
    code = "import sys, authly.monitoring.exporter.__main__; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


# The setting


@pytest.mark.parametrize(
    ("value", "names"),
    [("", ()), ("a:b", ("a:b",)), (" a.b_1:C , d:e,", ("a.b_1:C", "d:e"))],
)
def test_the_setting_is_a_list_of_import_paths(
    monkeypatch: pytest.MonkeyPatch, value: str, names: tuple[str, ...]
) -> None:
    """Pieces are separated by commas; spaces around them do not matter."""
    monkeypatch.setenv("AUTHLY_METRICS_COLLECTORS", value)
    assert load_settings().metrics_collectors == names


@pytest.mark.parametrize("value", ["a", "a.b", "a:b:c", ":b", "a:", "a..b:c", "1a:b", "a b:c", "a:b,c", "a:b.c"])
def test_what_is_no_import_path_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The message names the variable, what it holds and what it accepts."""
    monkeypatch.setenv("AUTHLY_METRICS_COLLECTORS", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == (
        f"AUTHLY_METRICS_COLLECTORS holds {value!r}, but accepts package.module:name, several of them separated by "
        "commas."
    )


def test_the_families_of_a_real_process_can_be_collected() -> None:
    """A registry of prometheus-client, with the collectors that it has by default, is a collector."""
    name = "prometheus_client:REGISTRY"
    samples = collected(running(name, report=pytest.fail))
    assert samples[f"{SUCCESS.name} collector={name}"] == 1
    assert samples["process_open_fds"] > 0
