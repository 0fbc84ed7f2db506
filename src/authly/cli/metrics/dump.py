"""``authly metrics dump``."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from authly.cli.metrics.common import Failure, json_option, print_json
from authly.cli.metrics.sources import source_of, source_options
from authly.monitoring.inspection.difference import Change, difference
from authly.monitoring.inspection.snapshot import Labels, Snapshot, SnapshotError, parse
from authly.monitoring.inspection.source import Source, SourceError
from authly.monitoring.multiprocess.decoding import DecodedFile, Entry, decode
from authly.monitoring.multiprocess.file_format import CorruptFileError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@source_options
@click.option(
    "--format", "format_", type=click.Choice(["text", "openmetrics"]), default="text", help="Of the exposition."
)
@click.option("--file", type=click.Path(path_type=Path), metavar="FILE", help="Show what one metric file holds.")
@click.option(
    "--diff",
    type=click.FloatRange(min=0.01, max=86400),
    metavar="SECONDS",
    help="Show what changes within so many seconds.",
)
@click.option(
    "--compare",
    nargs=2,
    type=_FILE,
    metavar="OLD NEW",
    help="Show what changed between two expositions that were saved.",
)
@click.option("--buckets", is_flag=True, help="Let a difference show the buckets of histograms too.")
@json_option("JSON: an object for each line that there would be, in one array.")
def dump(
    directory: Path | None,
    url: str | None,
    header: tuple[str, ...],
    ca_file: Path | None,
    format_: str,
    file: Path | None,
    diff: float | None,
    compare: tuple[Path, Path] | None,
    buckets: bool,
    as_json: bool,
) -> None:
    """Print the exposition, what one file holds, or what changed between two moments.

    Without --url the exporter of the directory is asked over its socket, which needs no password; where none answers,
    the files are merged here, and what only the exporter knows is missing.

    \b
    Examples:
      authly metrics dump
      authly metrics dump --format openmetrics > before
      authly metrics dump --url http://127.0.0.1:9464/metrics
      authly metrics dump --file /run/authly/metrics/counter_s0.db
      authly metrics dump --diff 10
      authly metrics dump --compare before after --json

    A difference has a line for each series that changed: what it was, what it is, and for what only grows how much in
    a second.

    \b
    Exit codes:
      0  it was printed
      1  it cannot be read; a line says why and what to do
      2  the command line is wrong
    """
    if sum(choice is not None for choice in (file, diff, compare)) > 1:
        raise click.UsageError("Choose one of --file, --diff and --compare.")
    try:
        if file is not None:
            _print_file(_decode(file), as_json)
        elif compare is not None:
            before, after = (_saved(path) for path in compare)
            _print_changes(difference(before, after), buckets, as_json)
        else:
            source = source_of(directory, url, header, ca_file)
            if diff is not None:
                before = _taken(source)
                time.sleep(diff)
                _print_changes(difference(before, _taken(source)), buckets, as_json)
            elif as_json:
                print_json(_samples(_taken(source)))
            else:
                click.echo(source.fetch(openmetrics=format_ == "openmetrics"), nl=False)
    except (SourceError, SnapshotError) as error:
        raise Failure(str(error)) from error


def _decode(path: Path) -> DecodedFile:
    try:
        return decode(path)
    except CorruptFileError as error:
        raise Failure(f"{path} is not a metric file, or a corrupt one: {error}") from error
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror or error}") from error


def _taken(source: Source) -> Snapshot:
    return parse(source.fetch(), time.monotonic())


def _saved(path: Path) -> Snapshot:
    """Read a saved exposition; it is of the moment when its file was written last."""
    try:
        return parse(path.read_bytes(), path.stat().st_mtime)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    except SnapshotError as error:
        raise Failure(f"{path} is {error}") from error


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if value != value:
        return "NaN"
    if abs(value) == float("inf"):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def _series(name: str, labels: Labels) -> str:
    inside = ",".join(f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in labels)
    return f"{name}{{{inside}}}" if inside else name


def _samples(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [{"name": name, "labels": dict(labels), "value": value} for (name, labels), value in snapshot.values.items()]


def _print_changes(changes: list[Change], buckets: bool, as_json: bool) -> None:
    if not buckets:
        # One observation changes a dozen of them, and nobody can see what else did.
        changes = [change for change in changes if "le" not in dict(change.labels)]
    if as_json:
        print_json([{**change._asdict(), "labels": dict(change.labels)} for change in changes])
        return
    for change in changes:
        rate = "" if change.per_second is None else f"  {_shown(change.per_second)}/s"
        reset = "  (began anew)" if change.reset else ""
        click.echo(
            f"{_series(change.name, change.labels)}  {_shown(change.before)} -> {_shown(change.after)}{rate}{reset}"
        )


def _print_file(file: DecodedFile, as_json: bool) -> None:
    name = file.name
    if as_json:
        record = {
            "path": str(file.path),
            "type": name.type if name else None,
            "mode": (name.mode or None) if name else None,
            "writer": name.writer if name else None,
            "slot": name.slot if name else None,
            "size": file.size,
            "used": file.used,
            "removals": file.removals,
            "entries": [entry._asdict() for entry in file.entries],
        }
        print_json(record)
        return
    kind = f"{name.type} {name.mode}".strip() if name else "not the name of a metric file"
    writer = f"slot {name.slot}" if name and name.slot is not None else f"writer {name.writer}" if name else "no slot"
    click.echo(
        f"# {file.path}: {kind}, {writer}, {file.used} of {file.size} bytes in use, {len(file.entries)} entries, "
        f"{file.removals} removals"
    )
    for entry in file.entries:
        click.echo(_line(entry))


def _line(entry: Entry) -> str:
    if entry.problem:
        return f"{entry.sample!r}  {_shown(entry.value)}  ({entry.problem})"
    if entry.removed:
        when = "  removed"
    elif entry.timestamp > 1:
        # 1 only says of a gauge that it has been set.
        when = f"  {_moment(entry.timestamp)}"
    else:
        when = ""
    return f"{_series(entry.sample, tuple(sorted(entry.labels.items())))}  {_shown(entry.value)}{when}"


def _moment(timestamp: float) -> str:
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"timestamp {timestamp:g}"
