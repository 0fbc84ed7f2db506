"""Runs the collectors of a scrape beside it, each at its own risk, and tells how each of them did.

A collector is other people's code, or reads what may not answer: it can raise, stall, end the thread it runs in or
return more than anybody wants. Each runs in a thread of its own, which stays for the next scrape; a scrape waits until
its deadline and goes on without those that are not done. They take turns all the same, as long as turns are short:
threads that compete for the interpreter cost more than what they do.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from authly.monitoring.definitions import Definition, described
from authly.monitoring.multiprocess.families import Family

_COLLECTOR = {
    "collector": described("a custom collector, by its name as it was configured", "own", "system", "gunicorn")
}

DURATION = Definition(
    "authly_exporter_collector_duration_seconds",
    "gauge",
    "How long a collector took at this scrape.",
    _COLLECTOR,
    detail="Of one that is not done, how long it has been running.",
    example="topk(3, authly_exporter_collector_duration_seconds)",
)
SUCCESS = Definition(
    "authly_exporter_collector_success",
    "gauge",
    "Whether the metrics of a collector are in this scrape.",
    _COLLECTOR,
    example="authly_exporter_collector_success == 0",
)
PARTIAL = Definition(
    "authly_exporter_scrape_partial",
    "gauge",
    "Whether the metrics of a collector are missing from this scrape.",
    example="max_over_time(authly_exporter_scrape_partial[15m]) == 1",
)

MAX_SAMPLES = 10_000
"""How many samples one collector may return: one that returns ever more must not become the whole scrape."""

MAX_CHARACTERS = 4_000_000
"""How many characters the names, labels and help texts of one collector may have."""

TURN_SECONDS = 0.1
"""How long a collector waits for those before it; then it runs beside them."""

_MAX_WORDS = 500


class Collector(Protocol):
    """What is run; with a method ``load``, if there is something to prepare before the first scrape."""

    @property
    def name(self) -> str:
        """The value of the label ``collector``."""

    def collect(self) -> Iterable[Family]:
        """Return the families as they are now; called in a thread, but never in two at once."""


class CollectorError(Exception):
    """Why a collector has no metrics, in words that follow its name in a line of the log."""


class Status(NamedTuple):
    """How a collector did.

    Args:
        name: of the collector.
        seconds: how long it took, or has been taking.
        success: whether its metrics are there.
    """

    name: str
    seconds: float
    success: bool


class Collected(NamedTuple):
    """What a round of all collectors gave.

    Args:
        families: of each collector that was done in time, by its name.
        statuses: of every collector.
    """

    families: dict[str, list[Family]]
    statuses: list[Status]

    @property
    def is_partial(self) -> bool:
        """Whether anything is missing."""
        return not all(status.success for status in self.statuses)


class _Run:
    """One call of a collector."""

    __slots__ = ("began", "ended", "families", "given_up", "problem", "seconds", "wakes")

    def __init__(self, began: float) -> None:
        self.began = began
        self.seconds = 0.0
        self.families: list[Family] = []
        self.problem = ""
        # Whether a scrape has waited for it in vain.
        self.given_up = False
        self.wakes: list[Callable[[], None]] = []
        self.ended = threading.Event()


class Round:
    """The collectors of one scrape."""

    def __init__(self, runner: "Runner", runs: Sequence[tuple[Collector, _Run]]) -> None:
        self._runner = runner
        self._runs = runs
        # One for which an earlier scrape has waited in vain holds up no other, and what it measured is not of now.
        self._awaited = [run for _, run in runs if not run.given_up]

    @property
    def ready(self) -> bool:
        """Whether there is nothing left to wait for."""
        return all(run.ended.is_set() for run in self._awaited)

    def notify(self, wake: Callable[[], None]) -> None:
        """Have something called, in any thread, whenever ``ready`` may have become true."""

        # The list first and then the flag, in the thread the other way round: one of both sees the other.
        def wake_at_the_end() -> None:
            if self.ready:
                wake()

        for run in self._awaited:
            run.wakes.append(wake_at_the_end)

    def wait(self, until: float) -> None:
        """Wait until it is ready.

        Args:
            until: on the runner's clock, when to wait no longer.
        """
        for run in self._awaited:
            run.ended.wait(max(0.0, until - self._runner.clock()))

    def peek(self) -> dict[str, list[Family]]:
        """Return the families of each collector that is done, by its name, without waiting or giving any up.

        For those who only look on: what they miss is no failure, and costs no scrape that shares the run anything.
        """
        return {
            collector.name: run.families
            for collector, run in self._runs
            if run in self._awaited and run.ended.is_set() and not run.problem
        }

    def finish(self) -> Collected:
        """Return what there is, without waiting."""
        collected = Collected({}, [])
        for collector, run in self._runs:
            in_time = run in self._awaited and run.ended.is_set()
            if in_time:
                families, seconds, problem = run.families, run.seconds, run.problem
            else:
                run.given_up = True
                families, seconds = [], self._runner.clock() - run.began
                problem = f"did not answer within {seconds:.1f} s, and its metrics are missing until it does"
            self._runner.note(collector.name, problem)
            collected.statuses.append(Status(collector.name, seconds, not problem))
            collected.families[collector.name] = families
        return collected


class Runner:
    """Runs collectors. To be called by one thread at a time.

    Args:
        collectors: what to run; their names are different.
        clock: monotonic, in seconds.
        report: takes a line about something an operator should know.
    """

    def __init__(
        self, collectors: Sequence[Collector], clock: Callable[[], float], report: Callable[[str], None]
    ) -> None:
        self.clock = clock
        self._collectors = tuple(collectors)
        self._report = report
        self._runs: dict[str, _Run] = {}
        # What wakes the thread of each collector: a run, and the lock that its turn is.
        self._orders: dict[str, SimpleQueue[tuple[_Run, threading.Lock]]] = {}
        self._failing: set[str] = set()

    def load(self) -> None:
        """Let each collector that has to prepare itself begin with it."""
        for collector in self._collectors:
            load = getattr(collector, "load", None)
            if load is not None:
                with contextlib.suppress(RuntimeError):  # no more threads; then at the first scrape
                    threading.Thread(target=load, name=f"load {collector.name}", daemon=True).start()

    def begin(self, collectors: Sequence[Collector] | None = None) -> Round:
        """Begin to run collectors.

        One that is still running is not run a second time: two scrapes at the same moment share what it returns.

        Args:
            collectors: which of them; all if it is None.
        """
        runs = []
        # Of this round alone: one that an earlier round left behind keeps nobody waiting.
        turn = threading.Lock()
        for collector in self._collectors if collectors is None else collectors:
            run = self._runs.get(collector.name)
            if run is None or run.ended.is_set():
                run = self._runs[collector.name] = _Run(self.clock())
                self._start(collector, run, turn)
            runs.append((collector, run))
        return Round(self, runs)

    def note(self, name: str, problem: str) -> None:
        """Report when a collector begins to fail and when it works again, not at every scrape."""
        if problem and name not in self._failing:
            self._failing.add(name)
            self._report(f"The collector {name} {problem}.")
        elif not problem and name in self._failing:
            self._failing.remove(name)
            self._report(f"The collector {name} works again.")

    def _start(self, collector: Collector, run: _Run, turn: threading.Lock) -> None:
        orders = self._orders.get(collector.name)
        if orders is None:
            orders = SimpleQueue()
            # A daemon, because a stalled collector must not keep the process from ending.
            thread = threading.Thread(target=self._work, args=(collector, orders), name=collector.name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads for this process
                run.problem = _failed(error)
                run.ended.set()
                return
            self._orders[collector.name] = orders
        orders.put((run, turn))

    def _work(self, collector: Collector, orders: "SimpleQueue[tuple[_Run, threading.Lock]]") -> None:
        while True:
            self._run(collector, *orders.get())

    def _run(self, collector: Collector, run: _Run, turn: threading.Lock) -> None:
        is_alone = turn.acquire(timeout=TURN_SECONDS)
        run.began = self.clock()
        try:
            run.families = bounded(collector.collect())
        except CollectorError as error:
            run.problem = str(error)
        # One that wants to end the process (SystemExit) costs no more than one that fails.
        except BaseException as error:  # noqa: BLE001
            run.problem = _failed(error)
        finally:
            run.seconds = self.clock() - run.began
            if is_alone:
                turn.release()
            run.ended.set()
            for wake in run.wakes:
                wake()


def bounded(families: Iterable[Family]) -> list[Family]:
    """Return families of which there may be ever more.

    Raises:
        CollectorError: there are more than :data:`MAX_SAMPLES` samples or :data:`MAX_CHARACTERS` characters.
    """
    found = []
    samples = characters = 0
    for family in families:
        characters += len(family.name) + len(family.help)
        for child in family.children:
            samples += len(child.names)
            for name, labels in child.names:
                characters += len(name) + sum(len(label) + len(value) for label, value in labels)
        if samples > MAX_SAMPLES:
            raise CollectorError(f"gave more than {MAX_SAMPLES:,} samples, and its metrics are missing")
        if characters > MAX_CHARACTERS:
            raise CollectorError(f"gave more than {MAX_CHARACTERS:,} characters, and its metrics are missing")
        found.append(family)
    return found


def families_of(statuses: Sequence[Status]) -> list[Family]:
    """Return how the collectors did as metrics."""
    ordered = sorted(statuses)
    return [
        Family.defined(DURATION, [((("collector", status.name),), status.seconds) for status in ordered]),
        Family.defined(SUCCESS, [((("collector", status.name),), status.success) for status in ordered]),
        Family.defined(PARTIAL, [((), not all(status.success for status in ordered))]),
    ]


def words(error: BaseException) -> str:
    """Return an exception in one line that is not too long."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception is other people's code too
        text = "it has no words for itself"
    line = " ".join(f"{type(error).__name__}: {text}".split()).removesuffix(".")
    return line if len(line) <= _MAX_WORDS else f"{line[:_MAX_WORDS]}..."


def _failed(error: BaseException) -> str:
    return f"failed, and its metrics are missing: {words(error)}"
