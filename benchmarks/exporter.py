"""What the exporter costs beside its workers: memory, processor time, and the time of their requests."""

import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.agent import Agent, AgentError
from benchmarks.latency import QUIET, gunicorn, latencies_of
from benchmarks.reader import pss
from benchmarks.scrape import metrics_directory
from benchmarks.timing import USUAL, Progress, Row, alone, compare

WORKERS = 4
SCRAPED = "scraped at 1 Hz"
_LOAD = "200 requests a second"


def run(progress: Progress, *, quick: bool) -> list[Row]:
    """Measure an instance whose exporter has all of its collectors, and asks whoever scrapes for TLS and a password."""
    rounds, seconds = (2, 1.0) if quick else (5, 6.0)
    progress(f"exporter: Gunicorn with {WORKERS} workers, {_LOAD}, {SCRAPED}")
    percentiles: dict[str, dict[str, list[float]]] = {
        "p50": {SCRAPED: [], QUIET: []},
        "p99": {SCRAPED: [], QUIET: []},
    }
    memory, shares = [], []
    with (
        metrics_directory() as directory,
        tempfile.TemporaryDirectory(prefix="authly-") as folder,
        gunicorn(directory, workers=WORKERS, folder=Path(folder)) as instance,
        closing(Agent("latency", instance.metrics_address, "1", folder)) as scraper,
    ):
        exporter = _exporter(instance.master)
        latencies_of(instance.address, 0.5, 0.005)
        for number in range(rounds):
            # Whatever drifts meets both sides alike.
            for name in (SCRAPED, QUIET) if number % 2 else (QUIET, SCRAPED):
                used, started = processor_time(exporter), time.monotonic()
                if name == SCRAPED:
                    scraper.send(str(seconds))
                latencies = latencies_of(instance.address, seconds, 0.005)
                if name == SCRAPED:
                    scraper.receive()
                    shares.append(100 * (processor_time(exporter) - used) / (time.monotonic() - started))
                    memory.append(pss(exporter))
                hundredths = statistics.quantiles(latencies, n=100, method="inclusive")
                percentiles["p50"][name].append(hundredths[49] * 1e3)
                percentiles["p99"][name].append(hundredths[98] * 1e3)
    case = f"{WORKERS} workers, {SCRAPED}"
    rows = [
        alone("exporter", f"{case}, memory", USUAL, "MB", ("Authly", memory)),
        alone("exporter", f"{case}, share of a processor", USUAL, "%", ("Authly", shares)),
    ]
    for percentile, of in percentiles.items():
        load = f"{WORKERS} workers, {_LOAD}, {percentile}"
        rows.append(compare("latency", load, USUAL, "ms", (SCRAPED, of[SCRAPED]), (QUIET, of[QUIET])))
    return rows


def _exporter(master: int) -> int:
    """Return the process id of a master's exporter."""
    for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        if b"authly.monitoring.exporter" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    raise AgentError("there is no exporter")


def processor_time(pid: int) -> float:
    """Return the seconds that a process has used, with the threads of it that have ended.

    /proc shows hundredths of a second, and in most seconds the exporter takes less than one. The clock of another
    process has its id for a name (clock_getcpuclockid(3), for which Python has no call).
    """
    return time.clock_gettime(~pid << 3 | 2)
