"""The soak: load and mishaps, drawn from a seed, and invariants that have to hold meanwhile.

Owns what must hold; :mod:`loadtests.chaos` owns what goes wrong.
"""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.timing import Progress
from loadtests import books, load, report, valkey
from loadtests.chaos import CORRUPT_FILES, KILL, Chaos
from loadtests.disk import small_disk
from loadtests.masters import Masters
from loadtests.sides import Side, side

HELD, BROKEN = 0, 1
_LOOK_INTERVAL = 0.5
# The exporter that is started after one was killed answers what waits in the backlog; nobody is refused.
_SCRAPE_PATIENCE = 10.0
# By what memory may have grown at the end: as many workers overlap then or now as a reload happens to leave.
_MEMORY_GROWTH = 1.5
# Generations of workers that may live at once: two reloads after each other, while the next master has its own.
_GENERATIONS = 4
# After the last mishap.
_RECOVERY_SECONDS = 60.0
# What needs the database, and is asked for often enough: without it for so long, something does not come back.
_TOKENS = books.Kind("POST", "/oauth2/token", 200)
_LONGEST_WITHOUT = 45.0
# What an exporter says of itself begins anew with the next one, and what is read of processes ends with them.
_OF_PROCESSES = ("authly_exporter_", "authly_cpu_", "authly_context_switches", "gunicorn_worker_cpu", "process_")

Series = dict[str, float]


class Plan(NamedTuple):
    """What is done.

    Args:
        seconds: how long.
        every: seconds from one mishap to the next, on average.
        users: of the closed loop.
        mix: of the flows, as in LOAD_MIX; empty for the usual one.
        workers: how many.
        seed: what all choices follow from.
    """

    seconds: float
    every: float
    users: int
    mix: str
    workers: int
    seed: int


class Look(NamedTuple):
    """What was seen at a moment.

    Args:
        at: seconds from the start.
        memory: megabytes of master, workers and exporter.
        files: of metrics.
        scrape: milliseconds that it took.
    """

    at: float
    memory: float
    files: int
    scrape: float


@dataclass
class Soaked:
    """What came of it."""

    plan: Plan
    log: list[tuple[float, str]] = field(default_factory=list)
    mishaps: Counter[str] = field(default_factory=Counter)
    samples: list[Look] = field(default_factory=list)
    entries: list[books.Entry] = field(default_factory=list)
    requests: list[tuple[float, int]] = field(default_factory=list)
    invariants: dict[str, list[str]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                "no counter falls",
                "bookkeeping is exact",
                "/metrics is up",
                "memory is bounded",
                "files are bounded",
                "tokens are issued again",
                "all workers are back at the end",
            )
        }
    )

    @property
    def problems(self) -> list[str]:
        """Everything that did not hold."""
        return [f"{name}: {what}" for name, found in self.invariants.items() for what in found]

    @property
    def facts(self) -> dict[str, float]:
        """Some figures."""
        return {
            "scrapes": len(self.samples),
            "longest_scrape_ms": max((one.scrape for one in self.samples), default=0.0),
            "largest_memory_mb": max((one.memory for one in self.samples), default=0.0),
            "most_files": max((one.files for one in self.samples), default=0),
            "worker_deaths": self.mishaps[KILL],
        }

    def line(self) -> str:
        """Return it in a line."""
        done = ", ".join(f"{count} x {name}" for name, count in self.mishaps.most_common())
        facts = self.facts
        return (
            f"Seed {self.plan.seed}: {done}; {facts['scrapes']} scrapes, longest {facts['longest_scrape_ms']:.0f} ms"
            f"; at most {facts['largest_memory_mb']:.0f} MB and {facts['most_files']:.0f} files; "
            f"books: {books.summary(self.entries)}"
        )

    def per_second(self, wanted: Callable[[int], bool]) -> list[tuple[float, float]]:
        """Return how many requests with wanted statuses ended in each second."""
        counts = Counter(int(at) for at, status in self.requests if wanted(status))
        return [(second, counts[second]) for second in range(int(self.requests[-1][0]) + 1)] if self.requests else []

    def broken(self, invariant: str, what: str) -> None:
        """Note that an invariant does not hold; the first few times are enough."""
        if len(self.invariants[invariant]) < 5:
            self.invariants[invariant].append(what)


class Observer(threading.Thread):
    """Looks at everything that has to hold, twice a second.

    Args:
        one: the instance.
        masters: who is in charge of it.
        soaked: where to note what is seen.
        started: when the run began, by time.monotonic.
    """

    def __init__(self, one: Side, masters: Masters, soaked: Soaked, started: float) -> None:
        super().__init__(daemon=True)
        self._side = one
        self._masters = masters
        self._soaked = soaked
        self._began = started
        self._over = threading.Event()
        self._last: Series = {}
        self._series_seen = 0

    def stop(self) -> None:
        """End, after a last look."""
        self._over.set()
        self.join()
        self._look()

    def run(self) -> None:
        """Look until it is over."""
        while not self._over.wait(_LOOK_INTERVAL):
            self._look()

    def _look(self) -> None:
        began = time.monotonic()
        try:
            exposition = _scrape(self._side.metrics_url)
        except (OSError, http.client.HTTPException) as error:
            self._soaked.broken("/metrics is up", f"{began - self._began:.1f} s: {error!r}")
            return
        took = (time.monotonic() - began) * 1e3
        series = counters(exposition)
        for name, value in self._last.items():
            if series.get(name, -1.0) < value:
                now = series.get(name, "gone")
                self._soaked.broken("no counter falls", f"{began - self._began:.1f} s: {name} was {value}, is {now}")
        self._last = series
        memory = self._masters.memory()
        files = sum(entry.suffix == ".db" for entry in self._side.directory.iterdir())
        self._soaked.samples.append(Look(began - self._began, memory, files, took))


def _scrape(url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_SCRAPE_PATIENCE)
    try:
        try:
            return _ask(connection, parts.path)
        except (ConnectionResetError, BrokenPipeError, http.client.IncompleteRead):
            # The exporter was killed while it answered. Nobody is refused: the next connection waits for the next one.
            connection.close()
            return _ask(connection, parts.path)
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        raise http.client.HTTPException(f"answered {answer.status}")
    return text


def counters(exposition: str) -> Series:
    """Return the counters of an exposition, those of histograms too, that must never fall."""
    kinds: dict[str, str] = {}
    found: Series = {}
    for line in exposition.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            kinds[name] = kind
        elif line and not line.startswith(("#", *_OF_PROCESSES)):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
            if kinds.get(name) == "counter" or kinds.get(family) == "histogram":
                found[series] = float(value)
    return found


def run(plan: Plan, output: Path, progress: Progress) -> int:
    """Load, break and watch; report, and return the exit status."""
    load.python()
    soaked = Soaked(plan)
    progress(f"starting {plan.workers} workers")
    with small_disk() as disk, valkey.running() as store:
        settings = {"AUTHLY_GRACEFUL_TIMEOUT": "5", "AUTHLY_REDIS_URL": store.url}
        if disk is None:
            progress("a disk cannot be mounted here, so none will be full: that takes root")
        else:
            settings["PROMETHEUS_MULTIPROC_DIR"] = str(disk.path / "metrics")
        with side({}, metrics=True, workers=plan.workers, **settings) as one:
            masters = Masters(one.instance.master, plan.workers)
            try:
                _soak(soaked, one, masters, Chaos(one, masters, store, disk, Random(plan.seed)), progress)
            finally:
                masters.end()
    report.write_soak(soaked, output)
    return BROKEN if soaked.problems else HELD


def _soak(soaked: Soaked, one: Side, masters: Masters, chaos: Chaos, progress: Progress) -> None:
    plan = soaked.plan
    # When mishaps happen is drawn apart from which: what can happen does not change when.
    moments = Random(f"moments {plan.seed}")
    before = books.counted(one.metrics_url)
    files_before = sum(1 for _ in one.directory.glob("*.db"))
    started = time.monotonic()
    observer = Observer(one, masters, soaked, started)
    mix = {"mix": plan.mix} if plan.mix else {}
    with load.running(
        one.instance.address, one.seeds, plan.seconds, users=plan.users, think=0, random_seed=plan.seed, **mix
    ) as traffic:
        observer.start()
        told = started
        try:
            while time.monotonic() - started < plan.seconds - 2 and not traffic.is_over():
                time.sleep(min(moments.expovariate(1 / plan.every), 4 * plan.every))
                at = time.monotonic() - started
                if name := chaos.act():
                    soaked.mishaps[name] += 1
                    soaked.log.append((at, name))
                if time.monotonic() > told + 10:
                    told = time.monotonic()
                    done = ", ".join(f"{count} x {name}" for name, count in soaked.mishaps.items())
                    progress(f"{at:.0f} of {plan.seconds:.0f} s: {done}; {len(soaked.problems)} problems")
            chaos.stop()
            found = traffic.result()
            _wait_for_workers(soaked, masters)
        finally:
            chaos.stop()
            observer.stop()
    soaked.requests = [(at, kind.status) for at, kind, _ in found.requests]
    try:
        after = books.counted(one.metrics_url)
    except OSError as error:
        soaked.broken("/metrics is up", f"at the end: {error}")
        return
    soaked.entries = books.compare(
        (kind for _, kind, _ in found.requests),
        before,
        after,
        (kind for at, kind, _ in found.requests if chaos.was_full(found.started + at)),
    )
    for entry in soaked.entries:
        for problem in entry.problems():
            soaked.broken("bookkeeping is exact", problem)
    if not found.requests:
        soaked.broken("bookkeeping is exact", "nothing was sent")
    issued = [0.0, *(at for at, kind, _ in found.requests if kind == _TOKENS), plan.seconds]
    for earlier, later in itertools.pairwise(issued):
        if later - earlier > _LONGEST_WITHOUT:
            soaked.broken("tokens are issued again", f"none from {earlier:.0f} to {later:.0f} s")
    _judge_bounds(soaked, files_before)


def _wait_for_workers(soaked: Soaked, masters: Masters) -> None:
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while not masters.are_complete():
        masters.settle()
        if time.monotonic() > deadline:
            there = len(masters.workers())
            soaked.broken("all workers are back at the end", f"{there} of {soaked.plan.workers}")
            return
        time.sleep(0.1)


def _judge_bounds(soaked: Soaked, files_before: int) -> None:
    """Hold memory and files against what they may be."""
    most = max((one.files for one in soaked.samples), default=0)
    may = _GENERATIONS * files_before + CORRUPT_FILES
    if most > may:
        soaked.broken("files are bounded", f"{most} files, where {may} can be needed")
    quarter = max(1, len(soaked.samples) // 4)
    early = sorted(one.memory for one in soaked.samples[:quarter])
    late = sorted(one.memory for one in soaked.samples[-quarter:])
    if early and late and late[len(late) // 2] > _MEMORY_GROWTH * early[len(early) // 2]:
        grew = f"from {early[len(early) // 2]:.0f} to {late[len(late) // 2]:.0f} MB"
        soaked.broken("memory is bounded", grew)
