"""How a scrape grows with the number of workers: up to 128 of them, with 10,000 series each.

Not among what ``make bench`` measures by itself: it takes two minutes, and some gigabytes of memory for its workers.
"""

from contextlib import ExitStack, closing

from benchmarks.agent import Agent, AgentError
from benchmarks.scrape import ALL, COLD, NOTHING, ONE_PERCENT, metrics_directory, name_of
from benchmarks.timing import BEST, USUAL, WORST, Progress, Row, compare
from benchmarks.workers import AUTHLY, STOCK, Workers

# 50 entries for each, and so 10,000 series in each worker.
_ENDPOINTS = 200
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure one size after the other; workers are added, none is replaced."""
    sizes, endpoints, rounds = ((1, 2), 20, 2) if quick else (_SIZES, _ENDPOINTS, 3)
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = stack.enter_context(metrics_directory())
        writers: list[Workers] = []
        count = 0
        for size in sizes:
            progress(f"growth: {name_of(size, endpoints)} (workers x endpoints)")
            added = Workers(AUTHLY, directory, size - count, endpoints)
            stack.callback(added.kill)
            writers.append(added)
            count = size
            with (
                closing(Agent("reader", AUTHLY, str(directory))) as ours,
                closing(Agent("reader", STOCK, str(directory))) as stock,
            ):
                rows += _size(name_of(size, endpoints), ours, stock, writers, rounds)
    return rows


def _size(name: str, ours: Agent, stock: Agent, writers: list[Workers], rounds: int) -> list[Row]:
    """Compare both stacks on the same files."""
    if ours.ask("series") != stock.ask("series"):
        raise AgentError("the two stacks do not expose the same series")
    kinds = {COLD: WORST, NOTHING: BEST, ONE_PERCENT: USUAL, ALL: WORST}
    times: dict[str, list[float]] = {case: [] for case in kinds}
    # It reads everything each time, whatever has changed.
    reference: list[float] = []
    for _ in range(rounds):
        times[COLD].append(ours.ask("cold"))
        # Twice: a file is left alone only after a second reading that found no change.
        ours.ask("warm")
        ours.ask("warm")
        times[NOTHING].append(ours.ask("warm"))
        for case, share in ((ONE_PERCENT, 0.01), (ALL, 1.0)):
            for group in writers:
                group.write(share)
            times[case].append(ours.ask("warm"))
        reference.append(stock.ask("cold"))
    rows = [
        compare("growth", f"{name}, {case}", kinds[case], "ms", (AUTHLY, numbers), (STOCK, reference))
        for case, numbers in times.items()
    ]
    memory = [ours.ask("pss")]
    rows.append(
        compare("growth", f"{name}, reading process", USUAL, "MB", (AUTHLY, memory), (STOCK, [stock.ask("pss")]))
    )
    return rows
