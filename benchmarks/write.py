"""What a write costs: Authly's value class, prometheus_client's mapped one, and its one in memory.

``python -m benchmarks.write VARIANT DIRECTORY`` is the agent for one of them.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from benchmarks.agent import Agent, serve
from benchmarks.scrape import metrics_directory
from benchmarks.timing import USUAL, Progress, Row, compare
from benchmarks.workers import AUTHLY, STOCK, use

IN_MEMORY = "prometheus_client, in memory"
_CALLS = 20_000


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure all of it."""
    progress("write: inc, observe and labels")
    rounds = 5 if quick else 21
    times: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        agents = {
            name: stack.enter_context(closing(Agent("write", name, str(stack.enter_context(metrics_directory())))))
            for name in (AUTHLY, STOCK, IN_MEMORY)
        }
        for _ in range(rounds):
            for name, agent in agents.items():
                for call in ("inc", "observe", "labels"):
                    times.setdefault(call, {}).setdefault(name, []).append(agent.ask(call))
    return [
        compare("write", f"{call}()", USUAL, "µs", (AUTHLY, of[AUTHLY]), (other, of[other]))
        for call, of in times.items()
        for other in (STOCK, IN_MEMORY)
    ]


def main(arguments: list[str]) -> None:
    """Answer the name of a call with microseconds."""
    variant, directory = arguments

    def prepare() -> Callable[[str], Any]:
        if variant != IN_MEMORY:
            use(variant, Path(directory))
        registry = CollectorRegistry()
        counter = Counter("requests_total", "Requests.", ["method", "endpoint", "status"], registry=registry)
        histogram = Histogram("duration_seconds", "Time.", ["method", "endpoint"], registry=registry)
        inc = counter.labels("GET", "/items/{item}", "200").inc
        observe = histogram.labels("GET", "/items/{item}").observe
        calls: dict[str, Callable[[], Any]] = {
            "inc": inc,
            "observe": lambda: observe(0.03),
            "labels": lambda: counter.labels("GET", "/items/{item}", "200"),
        }

        def answer(words: str) -> float:
            call = calls[words]
            started = time.process_time()
            for _ in range(_CALLS):
                call()
            return (time.process_time() - started) / _CALLS * 1e6

        return answer

    serve(prepare)


if __name__ == "__main__":
    main(sys.argv[1:])
