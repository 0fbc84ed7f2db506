"""The overhead gate: the same load with metrics and without, in pairs, held against budgets."""

import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.timing import Progress
from loadtests import books, handicap, load, report, watch
from loadtests.judgement import Measure, Verdict, availability
from loadtests.sides import Side, side

ON, OFF, CONTROL = "metrics on", "metrics off", "with a handicap"
KEPT, EXCEEDED, INCONCLUSIVE = 0, 1, 3
# Connections, caches and keys of a side that nobody has asked yet.
_WARM_UP = 8.0
_BUSY_USERS = 8
# The first requests of a load open its connections and log its users in, and others wait for them; without a pause
# there are few users, and none that waits.
_SETTLING, _BUSY_SETTLING = 3.0, 1.0
# Processor time is counted in hundredths of a second, and a scrape costs as much as many requests: less says nothing.
_LONG_ENOUGH = 10.0
# A disk holds up one database and not the other, and for longer than anything that is looked for. In memory they take a
# few hundred megabytes; containers often have less.
_SHARED_MEMORY, _ROOM = "/dev/shm", 2**30  # noqa: S108


class Plan(NamedTuple):
    """What is measured.

    Args:
        blocks: how often both sides are started anew.
        pairs: measurements of each side in a block.
        seconds: that each takes.
        arrivals: flows that begin in a second on each side.
        scrapes: that availability is judged by.
        scrape_interval: seconds from one scrape to the next.
        busy_seconds: for which throughput is measured, without a pause; 0 leaves it out.
        workers: of each side.
        seed: what all choices follow from.
        control: whether a third side, with metrics and a handicap, has to be found out.
    """

    blocks: int
    pairs: int
    seconds: float
    arrivals: float
    scrapes: int
    scrape_interval: float
    busy_seconds: float
    workers: int
    seed: int
    control: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """What is compared."""
        return (ON, OFF, CONTROL) if self.control else (ON, OFF)


@dataclass
class Window:
    """One measurement of one side.

    Args:
        side: with metrics or without.
        latencies: milliseconds of each request, without those of the first seconds.
        memory: megabytes, the median of its samples.
        cost: processor time of a request in milliseconds, likewise without the first seconds.
        samples: seconds from the start of the run, megabytes, and processors used since the sample before.
        per_second: requests answered in each second.
    """

    side: str
    latencies: list[float]
    memory: float
    cost: float
    samples: list[tuple[float, float, float]]
    per_second: list[tuple[float, int]]

    def percentile(self, hundredth: int) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[hundredth - 1]


@dataclass
class Measured:
    """Everything that a run has measured."""

    plan: Plan
    started: float = field(default_factory=time.time)
    pairs: list[dict[str, Window]] = field(default_factory=list)
    throughput: list[dict[str, float]] = field(default_factory=list)
    scrapes: list[tuple[float, int, float, int]] = field(default_factory=list)
    entries: list[books.Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def differences(self, of: str, side: str = ON) -> list[float]:
        """Return with minus without, pair by pair."""
        return [_number(pair[side], of) - _number(pair[OFF], of) for pair in self.pairs]


def _number(window: Window, of: str) -> float:
    return window.memory if of == "memory" else window.percentile(int(of.removeprefix("p")))


def run(plan: Plan, output: Path, progress: Progress) -> int:
    """Measure, judge and report; return the exit status."""
    measured = measure(plan, progress)
    measures = judge(measured)
    control = judge_control(measured)
    status = status_of(measures, measured.problems, control)
    report.write_gate(measured, measures, control, status, output)
    return status


def measure(plan: Plan, progress: Progress) -> Measured:
    """Measure all sides, as planned."""
    load.python()
    measured = Measured(plan)
    random = Random(plan.seed)
    for block in range(plan.blocks):
        progress(f"block {block + 1} of {plan.blocks}: starting {', '.join(plan.sides)}")
        with ExitStack() as stack:
            sides = _start(stack, plan)
            with ThreadPoolExecutor(len(sides)) as threads:
                list(threads.map(lambda one: _warm_up(measured, one), sides.values()))
            for number in range(plan.pairs):
                pair = _pair(measured, sides, random)
                told = " ".join(f"p{p} {_difference(pair, f'p{p}'):+.2f} ms" for p in (50, 95, 99))
                progress(f"pair {number + 1} of {plan.pairs}: {told}, memory {_difference(pair, 'memory'):+.1f} MB")
            if block == plan.blocks - 1 and plan.scrapes:
                _ask_for_availability(measured, sides[ON], progress)
    return measured


def _warm_up(measured: Measured, one: Side) -> None:
    # As it is measured, and so in all workers: each has connections and caches of its own.
    _note(measured, one, "", _WARM_UP, arrivals=measured.plan.arrivals, random_seed=measured.plan.seed)


def _start(stack: ExitStack, plan: Plan) -> dict[str, Side]:
    """Start all sides at once."""
    handicaps = {ON: handicap.chosen(), OFF: {}, CONTROL: handicap.BEYOND_BUDGETS}
    memory = _SHARED_MEMORY if _has_room(_SHARED_MEMORY) else None
    with ThreadPoolExecutor(len(plan.sides)) as threads:
        starting = {
            name: threads.submit(
                stack.enter_context,
                side(
                    handicaps[name],
                    metrics=name != OFF,
                    workers=plan.workers,
                    AUTHLY_STATE_DIR=stack.enter_context(tempfile.TemporaryDirectory(prefix="authly-", dir=memory)),
                ),
            )
            for name in plan.sides
        }
    return {name: one.result() for name, one in starting.items()}


def _has_room(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _ROOM


def _difference(pair: dict[str, Window], of: str) -> float:
    return _number(pair[ON], of) - _number(pair[OFF], of)


def _pair(measured: Measured, sides: dict[str, Side], random: Random) -> dict[str, Window]:
    """Measure the sides under the same load.

    All at once: what else the machine does slows requests by more than metrics do, and like this it meets all alike.
    Only what a side answers without a pause is measured in turn, in an order that is drawn.
    """
    plan = measured.plan
    seed = random.randrange(1_000_000)
    with ThreadPoolExecutor(len(sides)) as threads:
        windows = threads.map(lambda name: _window(measured, name, sides[name], seed), sides)
        pair = dict(zip(sides, windows, strict=True))
    measured.pairs.append(pair)
    if plan.busy_seconds:
        order = random.sample((ON, OFF), 2)
        measured.throughput.append({name: _throughput(measured, sides[name], seed) for name in order})
    return pair


def _throughput(measured: Measured, one: Side, seed: int) -> float:
    """Return the requests in a second that are answered where nobody pauses."""
    seconds = measured.plan.busy_seconds
    found = _note(measured, one, "", seconds, users=_BUSY_USERS, think=0, random_seed=seed)
    return sum(_BUSY_SETTLING < at <= seconds for at, _, _ in found.requests) / (seconds - _BUSY_SETTLING)


def _window(measured: Measured, name: str, one: Side, seed: int) -> Window:
    plan = measured.plan
    with watch.Watch(one.instance.master, 0.5) as watching:
        found = _note(
            measured,
            one,
            one.metrics_url,
            plan.seconds,
            arrivals=plan.arrivals,
            random_seed=seed,
            scrape_interval=plan.scrape_interval,
        )
    samples = watching.samples
    per_second: dict[int, int] = {}
    for at, _, _ in found.requests:
        # What ends after the load is the rest of a second.
        if at < plan.seconds:
            per_second[int(at)] = per_second.get(int(at), 0) + 1
    offset = found.started - measured.started
    return Window(
        name,
        [took for at, _, took in found.requests if at > _SETTLING],
        statistics.median(sample.memory for sample in samples),
        _cost(found, samples, plan.seconds),
        [
            (
                later.at - measured.started,
                later.memory,
                (later.processor_seconds - earlier.processor_seconds) / max(1e-3, later.at - earlier.at),
            )
            for earlier, later in itertools.pairwise(samples)
        ],
        [(offset + second, count) for second, count in sorted(per_second.items())],
    )


def _cost(found: load.Run, samples: Sequence[watch.Sample], seconds: float) -> float:
    """Return the processor time of a request in milliseconds, while the load was steady."""
    steady = [one for one in samples if _SETTLING < one.at - found.started < seconds] or [samples[0], samples[-1]]
    first, last = steady[0], steady[-1]
    requests = sum(first.at < found.started + at <= last.at for at, _, _ in found.requests)
    return 1e3 * (last.processor_seconds - first.processor_seconds) / max(1, requests)


def _note(
    measured: Measured, one: Side, scraped: str, seconds: float, *, users: int = 1, **options: object
) -> load.Run:
    """Run a load, and keep its books and its scrapes."""
    before = books.counted(one.metrics_url) if one.metrics_url else {}
    if scraped:
        options["metrics_url"] = scraped
    found = load.run(one.instance.address, one.seeds, seconds, users=users, **options)
    offset = found.started - measured.started
    measured.scrapes += [(offset + at, *rest) for at, *rest in found.scrapes]  # type: ignore[misc]
    sent = [kind for _, kind, _ in found.requests]
    if not sent:
        measured.problems.append("A load sent nothing.")
    if one.metrics_url:
        entries = books.compare(sent, before, books.counted(one.metrics_url))
        measured.entries += entries
        for entry in entries:
            measured.problems += entry.problems()
    # Nobody is killed here: whatever is not answered as it should be is wrong by itself.
    wrong = [kind for kind in sent if kind.status not in {200, 303}]
    if wrong:
        measured.problems.append(
            f"{len(wrong)} requests were answered otherwise than they should be, such as {wrong[0]}."
        )
    return found


def _ask_for_availability(measured: Measured, one: Side, progress: Progress) -> None:
    """Scrape often enough under load to know the share of scrapes that are answered."""
    plan = measured.plan
    left = plan.scrapes - len(measured.scrapes)
    interval = 0.008
    if left > 0:
        progress(f"availability: {left} scrapes more")
    for _ in range(4):
        left = plan.scrapes - len(measured.scrapes)
        if left <= 0:
            return
        seconds = min(60.0, left * interval * 1.15 + 1)
        _note(measured, one, one.metrics_url, seconds, arrivals=plan.arrivals / 4, scrape_interval=interval)


def judge(measured: Measured) -> list[Measure]:
    """Return all measures, budgets and goals."""
    costs = [100 * (pair[ON].cost - pair[OFF].cost) / pair[OFF].cost for pair in measured.pairs]
    losses = [100 * (busy[OFF] - busy[ON]) / busy[OFF] for busy in measured.throughput]
    measures = _times_and_memory(measured, ON)
    if measured.plan.seconds >= _LONG_ENOUGH:
        measures.append(Measure.of("processor time", "%", 5.0, 1.0, costs))
    if losses:
        measures.append(Measure.of("throughput loss", "%", None, 1.0, losses))
    if measured.plan.scrapes:
        answered = sum(status == 200 for _, status, _, _ in measured.scrapes)
        share = availability(answered, len(measured.scrapes))
        measures.append(Measure("/metrics availability", "%", 99.9, None, share, lower_is_better=False))
    return measures


def judge_control(measured: Measured) -> list[Measure]:
    """Return what the handicapped side adds: the median of request times and the memory, which exceed their budgets."""
    if not measured.plan.control:
        return []
    return [one for one in _times_and_memory(measured, CONTROL) if one.name in {"request time, p50", "memory"}]


def _times_and_memory(measured: Measured, side: str) -> list[Measure]:
    return [
        *(
            Measure.of(f"request time, {p}", "ms", 5.0, 0.1, measured.differences(p, side))
            for p in ("p50", "p95", "p99")
        ),
        Measure.of("memory", "MB", 50.0, 20.0, measured.differences("memory", side)),
    ]


def status_of(measures: Sequence[Measure], problems: Sequence[str], control: Sequence[Measure] = ()) -> int:
    """Return the exit status; where the control was not found out, nothing is known."""
    verdicts = {measure.verdict for measure in measures}
    if problems or Verdict.EXCEEDED in verdicts:
        return EXCEEDED
    is_awake = all(measure.verdict == Verdict.EXCEEDED for measure in control)
    return INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts or not is_awake else KEPT
