"""What commands print: tables for people, JSON for scripts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click

as_json = click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")
limit = click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="How many to list at most."
)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], *, json_wanted: bool, most: int) -> None:
    """Print a list.

    Args:
        rows: what was found, one more than asked for if there is more.
        columns: those of the table.
        json_wanted: print all of each row instead.
        most: how many were asked for.
    """
    shown = rows[:most]
    if json_wanted:
        click.echo(json.dumps(list(shown), default=_plain, indent=2))
    else:
        click.echo(table(list(columns), [[_cell(row[column]) for column in columns] for row in shown]))
    if len(rows) > most:
        click.echo(f"There are more than {most}; see --limit.", err=True)


def print_one(facts: Mapping[str, Any], *, json_wanted: bool) -> None:
    """Print what is known of one thing."""
    if json_wanted:
        click.echo(json.dumps(facts, default=_plain, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {_cell(value)}".rstrip())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, or that there is nothing to show."""
    if not rows:
        return "none"
    lines = [[column.replace("_", " ").upper() for column in columns], *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S%z")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value)) or "-"
    if isinstance(value, Mapping):
        return json.dumps(value, default=_plain) if value else "-"
    # Control characters of a terminal have no place in a table, whoever wrote them into a name.
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be printed")
