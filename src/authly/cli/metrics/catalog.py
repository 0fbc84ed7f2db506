"""``authly metrics catalog``."""

import textwrap

import click

from authly.cli.metrics.common import json_option, print_json


@click.command()
@click.option("--group", metavar="GROUP", help="Show the metrics of one group only.")
@json_option("One JSON array with an object for each metric.")
def catalog(group: str | None, as_json: bool) -> None:
    """Print every metric that an instance can show: name, type, labels and what they can be, meaning, a query.

    Made from the definitions that Authly makes its metrics by, whether an instance runs or not.

    \b
    Examples:
      authly metrics catalog
      authly metrics catalog --group database
      authly metrics catalog --json | jq -r '.[].name'

    \b
    Exit codes:
      0  it was printed
      2  the command line is wrong
    """
    # Not at the top: with it comes prometheus-client, which the help text does not need.
    from authly.monitoring.catalogue import records

    found = list(records())
    groups = dict.fromkeys(record["group"] for record in found)
    if group is not None and group not in groups:
        raise click.BadParameter(f"{group} is none of {', '.join(groups)}", param_hint="--group")
    chosen = [record for record in found if group is None or record["group"] == group]
    if as_json:
        print_json(chosen)
        return
    for record in chosen:
        labels = ", ".join(record["labels"])
        click.echo(f"{record['name']} {record['type']}{labels and f' by {labels}'}")
        for text in (record["help"], record["detail"], record["example"]):
            if text:
                click.echo(textwrap.indent(textwrap.fill(text, 110, break_long_words=False), "    "))
        for label, of in record["labels"].items():
            values = ", ".join(filter(None, [*of["values"], of["others"]]))
            click.echo(textwrap.indent(textwrap.fill(f"{label}: {values}", 110, break_on_hyphens=False), "    "))
