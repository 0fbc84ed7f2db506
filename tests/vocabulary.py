"""Which values of labels tests produce, as a pytest plugin: what a test promises has to happen while it runs.

A test that is marked ``@pytest.mark.produces(metric, label=(value, ...))`` promises that the metric rises under each of
these values, in what the test looks at: the scrapes of its instances, the registries among its fixtures, and what it
hands to :func:`observe`. If one does not, the test fails. Arguments are literals, because whoever asks what all tests
promise reads their source: it makes no difference which of them run, and in which process.
"""

import ast
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.catalogue import Section, catalogue
from authly.monitoring.definitions import Definition

TESTS = Path(__file__).parent
MARK = "produces"

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
Sums = Mapping["Value", float]


class Value(NamedTuple):
    """What a label of a metric can be."""

    metric: str
    label: str
    value: str


class Family(Protocol):
    """A family of ``prometheus_client``, or one of the exporter."""

    @property
    def samples(self) -> Iterable[Any]:
        """Each with a name, labels and a value."""


# What there is


@cache
def metrics() -> dict[str, Definition]:
    """Return each metric of the catalogue, by name: those of workers, of the master and of the exporter."""
    return {definition.name: definition for section in catalogue() for definition, _ in section.definitions}


def vocabulary(sections: Iterable[Section] | None = None) -> set[Value]:
    """Return every value that a label can have, of those that are known in advance.

    Args:
        sections: of a catalogue; that of Authly if it is None.
    """
    return {
        Value(definition.name, label, value)
        for section in sections or catalogue()
        for definition, _ in section.definitions
        for label, values in definition.labels.items()
        for value in values.known
    }


# What is seen


def sums(series: Series, names: Collection[str] | None = None) -> Sums:
    """Return how much there is under each value of each label: what was counted, how often, or how a gauge stands.

    Args:
        series: of one moment.
        names: of the metrics that matter; all of the catalogue if it is None.
    """
    wanted = metrics() if names is None else names
    found: dict[Value, float] = {}
    for (sample, labels), number in series.items():
        metric = sample.removesuffix("_count")
        if metric in wanted:
            for each in (Value(metric, label, value) for label, value in labels):
                found[each] = found.get(each, 0.0) + number
    return found


def seen(series: Series) -> set[Value]:
    """Return the values under which something was counted since the beginning, or under which a gauge is not 0."""
    return {value for value, number in sums(series).items() if number}


def series_of(families: Iterable[Family]) -> Series:
    """Return the value of each series of some families."""
    return {
        (sample.name, frozenset(dict(sample.labels).items())): sample.value
        for family in families
        for sample in family.samples
    }


class Watch:
    """Watches one test.

    Args:
        promised: the values that are to rise.
        monotonic: the clock by which sources of series know when they were made.
    """

    def __init__(self, promised: Iterable[Value], monotonic: Callable[[], float] = time.monotonic) -> None:
        self.missing = set(promised)
        self._began = monotonic()
        self._first: dict[object, Sums] = {}

    def see(self, series: Series, source: object, made: float) -> None:
        """Take note of what rose.

        What another test did to something that lives longer than one test does not count: there, the first look is
        where counting begins.
        """
        if not self.missing:
            return
        now = sums(series, {value.metric for value in self.missing})
        before: Sums = {} if made >= self._began else self._first.setdefault(source, now)
        self.missing = {value for value in self.missing if not _rose(value, before, now)}


def _rose(value: Value, before: Sums, now: Sums) -> bool:
    if metrics()[value.metric].type == "gauge":
        return now.get(value, 0.0) != 0
    return now.get(value, 0.0) > before.get(value, 0.0)


_watch: Watch | None = None


def observe(series: Series, source: object = None, made: float = float("inf")) -> None:
    """Let the running test have seen series.

    Args:
        series: as they are now.
        source: whose they are.
        made: when it was made, by :func:`time.monotonic`; by default in the running test, and nobody else counts there.
    """
    if _watch is not None:
        _watch.see(series, source, made)


# What is promised


def promise(metric: str, **labels: Iterable[str]) -> set[Value]:
    """Return the values that a mark names."""
    found = {Value(metric, label, value) for label, values in labels.items() for value in values}
    unknown = found - vocabulary()
    assert found, f"{MARK}({metric!r}) promises nothing"
    assert not unknown, f"no vocabulary has {lines(unknown)}"
    return found


def promised(folder: Path = TESTS) -> set[Value]:
    """Return the values that all the tests of a folder promise to produce."""
    return {value for path in sorted(folder.rglob("test_*.py")) for value in _promises(path.read_text())}


def _promises(source: str) -> Iterator[Value]:
    if f"mark.{MARK}(" not in source:
        return
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name.startswith("test_"):
            for decorator in function.decorator_list:
                for node in ast.walk(decorator):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{MARK}":
                        names = (ast.literal_eval(argument) for argument in node.args)
                        yield from promise(*names, **{str(k.arg): ast.literal_eval(k.value) for k in node.keywords})


def missing(produced: set[Value], sections: Iterable[Section] | None = None, folder: Path = TESTS) -> set[Value]:
    """Return the values that nothing produces.

    Args:
        produced: what was seen.
        sections: whose vocabularies; those of Authly if it is None.
        folder: whose tests promise.
    """
    return vocabulary(sections) - produced - promised(folder)


def lines(values: Iterable[Value]) -> str:
    """Return values for people to read."""
    return "\n".join(" ".join(value) for value in sorted(values))


# The plugin


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{MARK}(metric, label=values): the metric rises under these values")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch a test from before its fixtures are made."""
    global _watch
    before = _watch
    marks = [promise(*mark.args, **mark.kwargs) for mark in item.iter_markers(MARK)]
    _watch = Watch(set[Value]().union(*marks)) if marks else None
    try:
        return (yield)
    finally:
        _watch = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test fail that did not produce what it promised."""
    result = yield
    if _watch is not None:
        for fixture in getattr(item, "funcargs", {}).values():
            if isinstance(fixture, CollectorRegistry):
                observe(series_of(fixture.collect()))
        if _watch.missing:
            pytest.fail(f"promised, and not seen to happen:\n{lines(_watch.missing)}", pytrace=False)
    return result
