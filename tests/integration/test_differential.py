"""Our reading side against prometheus-client's own, after histories that real processes wrote.

Real processes construct metrics, write to them, fork, are killed and are replaced, all on one directory. After each
history, and in the middle of it, ``MultiProcessCollector`` and ``DirectoryCollector`` must give the same samples, and
no count may be lost. The processes are forked from one that has everything imported, so that a history takes
milliseconds.
"""

import contextlib
import dataclasses
import json
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.exposition import generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from authly.monitoring.multiprocess import exposition, file_format, lease
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.values import DROPPED_SERIES, Store, value_class

# How many histories; the default takes less than a minute on a slow machine.
HISTORIES = int(os.environ.get("AUTHLY_TEST_HISTORIES", "200"))
MODES = ("all", "max", "min", "mostrecent", "sum", "liveall", "livemax", "livemin", "livemostrecent", "livesum")
Series = dict[tuple[str, tuple[tuple[str, str], ...]], str]


# What happens in the processes. They are told by lines of JSON, each with a connection where a fork is asked for.


class Writer:
    """A process that is told what to do: the one that others are forked from, or one that writes metrics."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.registry = CollectorRegistry()
        self.metrics: dict[str, Any] = {}

    def serve(self) -> None:
        """Do what is asked for until nobody asks any more."""
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.connection, 1 << 16, 1)
            if not message:
                os._exit(0)
            command, arguments = json.loads(message)
            reply: object = None
            if command != "fork":
                reply = getattr(self, command)(*arguments)
            elif reply := os.fork():
                os.close(descriptors[0])
            else:
                # Says that it is there: until now it may have shared its parent's lease.
                self.connection.close()
                self.connection = socket.socket(fileno=descriptors[0])
            self.connection.sendall(json.dumps(reply).encode())

    def install(self, directory: str) -> None:
        """Keep all values in a directory from now on; the parent's metrics stay as they are."""
        # Not install(): the process that all are forked from outlives many directories.
        setattr(values, "ValueClass", value_class(Store(Path(directory))))  # noqa: B010

    def construct(self, name: str, type_: str, mode: str, help_: str, labels: list[str]) -> None:
        """Construct a metric, if this process has not inherited it."""
        if name in self.metrics:
            return
        keywords: dict[str, Any] = {"registry": self.registry, "labelnames": labels}
        if type_ == "gauge":
            self.metrics[name] = Gauge(name, help_, multiprocess_mode=mode, **keywords)  # type: ignore[arg-type]
        elif type_ == "histogram":
            self.metrics[name] = Histogram(name, help_, buckets=(0.5, 2, 10), **keywords)
        elif type_ == "summary":
            self.metrics[name] = Summary(name, help_, **keywords)
        else:
            self.metrics[name] = Counter(name, help_, **keywords)

    def write(self, name: str, method: str, value: float, labels: list[str]) -> None:
        """Write to a metric."""
        metric = self.metrics[name]
        getattr(metric.labels(*labels) if labels else metric, method)(value)


# What the test does.


class Process:
    """A writer, as the test sees it.

    Args:
        parent: the writer to fork it from.
    """

    def __init__(self, parent: "Process | None") -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            if parent is None:
                self.started: subprocess.Popen[bytes] | None = subprocess.Popen(
                    [sys.executable, "-m", "tests.integration.test_differential", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    cwd=Path(__file__).parents[2],
                )
                self.pid = self.started.pid
            else:
                self.started = None
                socket.send_fds(parent.connection, [json.dumps(["fork", []]).encode()], [theirs.fileno()])
                self.pid = int(parent.answer())
                self.answer()
        self.handle = os.pidfd_open(self.pid)
        self.metrics: dict[str, Definition] = dict(parent.metrics) if parent else {}

    def answer(self) -> Any:
        """Return what the process answers."""
        reply = self.connection.recv(1 << 16)
        assert reply, "the process has died"
        return json.loads(reply)

    def tell(self, command: str, *arguments: object) -> None:
        """Let the process do something, and wait until it is done."""
        self.connection.sendall(json.dumps([command, arguments]).encode())
        self.answer()

    def end(self, *, kill: bool) -> None:
        """End the process, by SIGKILL or by telling it that nothing more comes, and wait until it is dead."""
        if kill:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        self.connection.close()
        assert select.select([self.handle], [], [], 20)[0], "the process does not end"
        os.close(self.handle)
        if self.started:
            self.started.wait()


@pytest.fixture(scope="module")
def template() -> Iterator[Process]:
    """Start the process that all others are forked from."""
    process = Process(None)
    try:
        yield process
    finally:
        process.end(kill=False)


@dataclasses.dataclass(frozen=True)
class Definition:
    """A metric that processes of a history may construct."""

    name: str
    type: str
    mode: str = ""
    labels: tuple[str, ...] = ()


DEFINITIONS = [
    Definition("requests", "counter", labels=("method", "route")),
    Definition("starts", "counter"),
    Definition("odd.name-of counter", "counter", labels=("x",)),
    Definition("seconds", "histogram", labels=("route",)),
    Definition("sizes", "histogram"),
    Definition("waits", "summary", labels=("a", "b", "c")),
    Definition("rests", "summary"),
    *(Definition(f"gauge_{mode}", "gauge", mode) for mode in MODES),
    *(Definition(f"labelled_{mode}", "gauge", mode, ("room",)) for mode in MODES),
]
LABEL_VALUES = ["", "GET", "/a/{b}", 'quo"te', "back\\slash", "two\nlines", "größe ☃ 🎉", "a,b}=", "s1", " "]
# Sums of these are exact in any order: the two sides need not read files in the same one.
AMOUNTS = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0, 10.0, 64.0, 4096.0, float(2**40)]
# What some modes make of a number depends on the order of the files, with either side: which of 0.0 and -0.0 is less,
# or of a number and no number; and whether a tiny number is lost beside a large one that another takes away again.
ORDINARY = [*AMOUNTS, -1.0, -2.5, float("inf"), float("-inf")]
GAUGE_VALUES = {
    "all": [*ORDINARY, -0.0, 1e308, 5e-324, float("nan")],
    "mostrecent": [*ORDINARY, -0.0, 1e308, 5e-324, float("nan")],
    "sum": [*ORDINARY, -0.0, float("nan")],
    "max": [*ORDINARY, 1e308, 5e-324],
    "min": [*ORDINARY, 1e308, 5e-324],
}


@dataclasses.dataclass(frozen=True)
class Write:
    """One write by one of the running processes."""

    process: int
    metric: int
    labels: tuple[int, ...]
    value: int
    help: bool


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happens to the processes."""

    kind: str
    process: int


NUMBER = st.integers(0, 59)  # taken modulo the number of what there is
WRITES = st.builds(Write, NUMBER, NUMBER, st.tuples(NUMBER, NUMBER, NUMBER), NUMBER, st.booleans())
EVENTS = st.builds(Event, st.sampled_from(["start", "fork", "kill", "end", "recycle", "compare"]), NUMBER)
# Three writes for each event, so that there is something to lose.
HISTORY = st.lists(st.one_of(WRITES, WRITES, WRITES, EVENTS), min_size=5, max_size=60)


class World:
    """One directory, the processes that write to it, and what they must have counted."""

    def __init__(self, template: Process, directory: Path) -> None:
        self.template = template
        self.directory = directory
        self.collector = DirectoryCollector(directory, time.monotonic)
        self.running: list[Process] = []
        self.counted: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.most = 0

    def start(self, parent: Process | None = None) -> None:
        """Start another process, unless there are many."""
        if len(self.running) >= 5:
            return
        process = Process(parent or self.template)
        if parent is None:
            process.tell("install", str(self.directory))
        self.running.append(process)
        self.most = max(self.most, len(self.running))

    def write(self, write: Write) -> None:
        """Let a process write to a metric, which it constructs if it has none of that name."""
        process = self.running[write.process % len(self.running)]
        definition = DEFINITIONS[write.metric % len(DEFINITIONS)]
        if definition.name not in process.metrics:
            # While a new version is rolled out, help texts differ from one process to another.
            help_ = f'The "help" of\n{definition.name}{", changed" if write.help else ""}.'
            process.tell("construct", definition.name, definition.type, definition.mode, help_, list(definition.labels))
            process.metrics[definition.name] = definition
        labels = [LABEL_VALUES[number % len(LABEL_VALUES)] for number in write.labels[: len(definition.labels)]]
        mode = definition.mode.removeprefix("live")
        amounts = GAUGE_VALUES.get(mode, AMOUNTS)
        value = amounts[write.value % len(amounts)]
        method = {"counter": "inc", "gauge": "set"}.get(definition.type, "observe")
        # A most recent gauge can only be set; and two infinities added may be no number.
        if definition.type == "gauge" and write.help and mode != "mostrecent" and math.isfinite(value):
            method = "inc"
        process.tell("write", definition.name, method, value, labels)
        shown = tuple(sorted(zip(definition.labels, labels, strict=True)))
        if definition.type == "counter":
            self.count(f"{exposition.metric_name(definition.name)}_total", shown, value)
        elif definition.type != "gauge":
            self.count(f"{definition.name}_count", shown, 1.0)
            self.count(f"{definition.name}_sum", shown, value)

    def count(self, sample: str, labels: tuple[tuple[str, str], ...], amount: float) -> None:
        """Note what must be in every exposition from now on."""
        self.counted[sample, labels] = self.counted.get((sample, labels), 0.0) + amount

    def happen(self, event: Event) -> None:
        """Let something happen to a process."""
        index = event.process % len(self.running)
        if event.kind == "start":
            self.start()
        elif event.kind == "fork":
            self.start(self.running[index])
        elif event.kind == "compare":
            self.compare()
        else:
            self.running.pop(index).end(kill=event.kind == "kill")
            if event.kind == "recycle" or not self.running:
                self.start()

    def compare(self) -> None:
        """Compare what both sides make of the directory as it is, and what was counted with it."""
        collection = self.collector.collect()
        assert collection.conflicts == 0
        assert not any(collection.reading.skipped.values())
        text = exposition.render(collection.families, openmetrics=False).decode()
        found = samples(text_string_to_metric_families(text))
        strict: Any = openmetrics_parser.text_string_to_metric_families
        assert samples(strict(exposition.render(collection.families, openmetrics=True).decode())) == found
        # The difference that is meant: live gauges of slots that nobody holds. The next holder would delete them.
        for path in self.directory.glob("gauge_live*.db"):
            name = file_format.parse_name(path.name)
            assert name
            assert name.slot is not None
            if not lease.is_held(self.directory, name.slot):
                path.unlink()
        registry = CollectorRegistry()
        stock: Any = MultiProcessCollector
        stock(registry, str(self.directory))
        expected = samples(text_string_to_metric_families(generate_latest(registry).decode()))
        # The other difference: a gauge that a process never set takes no part in the least and the greatest.
        expected.update(self.extremes())
        assert found == expected
        for series, value in self.counted.items():
            assert found.get(series) == repr(value), series

    def extremes(self) -> Series:
        """Return the least and the greatest of what was set, read with prometheus-client's own reader of files."""
        candidates: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[bool, float]]] = {}
        chosen = {}
        for choose in (min, max):
            for path in self.directory.glob(f"gauge_*{choose.__name__}_s*.db"):
                read: Any = MmapedDict.read_all_values_from_file
                for key, value, timestamp, _ in read(path):
                    _, name, labels, _ = json.loads(key)
                    series = exposition.metric_name(name), tuple(sorted(labels.items()))
                    candidates.setdefault(series, []).append((timestamp > 0, value))
                    chosen[series] = choose
        return {
            series: repr(chosen[series]([value for was_set, value in found if was_set] or [found[0][1]]))
            for series, found in candidates.items()
        }

    def end(self) -> None:
        """End what still runs, and check what is left."""
        for process in self.running:
            process.end(kill=True)
        self.collector.close()
        slots = [path for path in self.directory.iterdir() if path.suffix == ".lock"]
        assert len(slots) <= self.most


def samples(metrics: Any) -> Series:
    """Return all samples; numbers as text, so that NaN equals NaN and -0.0 is not 0.0."""
    found: Series = {}
    for metric in metrics:
        for sample in metric.samples:
            # When a series came into being is said in OpenMetrics alone, and not by prometheus-client.
            if not sample.name.startswith(DROPPED_SERIES) and not sample.name.endswith("_created"):
                series = (sample.name, tuple(sorted(sample.labels.items())))
                assert series not in found, f"twice: {series}"
                found[series] = repr(float(sample.value))
    return found


@settings(max_examples=HISTORIES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(history=HISTORY)
def test_both_sides_give_the_same_after_any_history(template: Process, history: list[Write | Event]) -> None:
    """Whatever processes did, prometheus-client's collector and ours show the same, and no count is lost."""
    directory = Path(tempfile.mkdtemp(prefix="authly-differential-"))
    world = World(template, directory)
    try:
        world.start()
        for step in history:
            if isinstance(step, Write):
                world.write(step)
            else:
                world.happen(step)
        world.compare()
    finally:
        world.end()
        shutil.rmtree(directory)
    assert not directory.exists()


if __name__ == "__main__":
    # Nobody waits for those that are forked here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    Writer(socket.socket(fileno=int(sys.argv[1]))).serve()
