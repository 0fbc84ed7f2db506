"""The agent that scrapes: ``python -m benchmarks.reader STACK DIRECTORY``.

Imports nothing but the stack it measures, so that the memory of the process is that stack's.
"""

import gc
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.agent import serve


def pss(pid: int | str = "self") -> float:
    """Return the proportional set size of a process in megabytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no memory of its own")


def _authly(directory: Path) -> dict[str, Callable[[], bytes]]:
    from authly.monitoring.multiprocess.collector import DirectoryCollector
    from authly.monitoring.multiprocess.exposition import render

    kept = DirectoryCollector(directory, time.perf_counter)

    def cold() -> bytes:
        collector = DirectoryCollector(directory, time.perf_counter)
        body = render(collector.collect().families, openmetrics=False)
        collector.close()
        return body

    return {"cold": cold, "warm": lambda: render(kept.collect().families, openmetrics=False)}


def _stock(directory: Path) -> dict[str, Callable[[], bytes]]:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    def scrape() -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    # It remembers nothing, and so each scrape is like the first.
    return {"cold": scrape, "warm": scrape}


def main(arguments: list[str]) -> None:
    """Answer ``cold`` and ``warm`` with milliseconds, ``pss`` with megabytes, ``series`` with what identifies them."""
    stack, directory = arguments

    def prepare() -> Callable[[str], Any]:
        scrapes = (_authly if stack == "Authly" else _stock)(Path(directory))

        def answer(words: str) -> float:
            if words == "pss":
                return pss()
            if words == "series":
                lines = scrapes["warm"]().splitlines()
                return zlib.crc32(b"\n".join(sorted(line.rpartition(b" ")[0] for line in lines if line[:1] != b"#")))
            # What the last scrape left behind is not this one's to clear away.
            gc.collect()
            started = time.perf_counter()
            scrapes[words]()
            return (time.perf_counter() - started) * 1e3

        return answer

    serve(prepare)


if __name__ == "__main__":
    main(sys.argv[1:])
