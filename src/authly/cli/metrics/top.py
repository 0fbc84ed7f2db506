"""``authly metrics top``."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from authly.cli.metrics.common import Failure, json_option, print_json
from authly.cli.metrics.screen import SORTS, ranked, table
from authly.cli.metrics.sources import source_of, source_options
from authly.cli.metrics.terminal import whole_screen
from authly.monitoring.inspection.snapshot import Snapshot, SnapshotError, parse
from authly.monitoring.inspection.source import Source, SourceError
from authly.monitoring.inspection.traffic import Traffic, traffic

_KEYS = {name[0]: name for name in SORTS}
_PIPE_WIDTH = 132


@click.command()
@source_options
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="requests", show_default=True, help="Order of endpoints."
)
@click.option("--once", is_flag=True, help="Print what was counted since the instance began, and end.")
@json_option("JSON: an object for each time it looks, a line each.")
def top(
    directory: Path | None,
    url: str | None,
    header: tuple[str, ...],
    ca_file: Path | None,
    interval: float,
    sort: str,
    once: bool,
    as_json: bool,
) -> None:
    """Watch an instance work: busiest and slowest endpoints, error rates, workers.

    The numbers are those of the last interval; with --once, and at first, of everything since the instance began to
    count. Quantiles are estimated from the buckets of histograms, as PromQL does. Keys: r, m, p and e order by
    requests, mean, 95th percentile and errors; q ends.

    \b
    Examples:
      authly metrics top
      authly metrics top --sort p95 --interval 5
      authly metrics top --once | head
      authly metrics top --url http://127.0.0.1:9464/metrics --json | jq .per_second

    \b
    Exit codes:
      0  it was told to end
      1  the metrics cannot be read; a line says why and what to do
      2  the command line is wrong
    """
    source = source_of(directory, url, header, ca_file)
    place = url or str(directory or "this instance")
    try:
        if as_json:
            _stream(source, sort, interval, once=once)
        elif once:
            width = shutil.get_terminal_size((_PIPE_WIDTH, 0)).columns if sys.stdout.isatty() else _PIPE_WIDTH
            for line in table(traffic(_taken(source)), f"authly metrics top: {place}", sort, width):
                click.echo(line)
        elif not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise click.UsageError("This is not a terminal: use --once or --json.")
        else:
            _watch(source, place, sort, interval)
    except (SourceError, SnapshotError) as error:
        raise Failure(str(error)) from error
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read the lines has enough of them; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _taken(source: Source) -> Snapshot:
    return parse(source.fetch(), time.monotonic())


def _stream(source: Source, sort: str, interval: float, *, once: bool) -> None:
    before: Snapshot | None = None
    while True:
        after = _taken(source)
        print_json(_record(traffic(after, before), sort))
        if once:
            return
        before = after
        time.sleep(interval)


def _record(work: Traffic, sort: str) -> dict[str, Any]:
    return {
        **work._asdict(),
        "endpoints": [endpoint._asdict() for endpoint in ranked(work.endpoints, sort)],
        "workers": [worker._asdict() for worker in work.workers],
    }


def _watch(source: Source, place: str, sort: str, interval: float) -> None:
    before: Snapshot | None = None
    # Fails before the screen is taken where there is nothing to show.
    after = _taken(source)
    work = traffic(after)
    problem = ""
    due = time.monotonic() + interval
    with whole_screen() as terminal:
        while True:
            columns, lines = terminal.size
            keys = "[r]equests [m]ean [p]95 [e]rrors [q]uit"
            title = f"authly metrics top: {place}, by {sort}, every {interval:g} s   {keys}"
            shown = table(work, title, sort, columns, lines - 1, colour=True)
            terminal.show([*shown, problem[:columns]] if problem else shown)
            key = terminal.key(due - time.monotonic())
            if key in {"q", "Q", "\x1b"}:
                return
            sort = _KEYS.get(key, sort)
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                try:
                    before, after = after, _taken(source)
                    work, problem = traffic(after, before), ""
                except (SourceError, SnapshotError) as error:
                    # The instance may be restarting; what was seen last stays on the screen.
                    problem = f"{time.strftime('%H:%M:%S')} {error}"
