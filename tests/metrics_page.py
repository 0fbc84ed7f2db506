"""Writes docs/metrics.md: the catalogue, with a few words around it. ``make metrics-page`` calls this."""

from collections.abc import Iterator
from pathlib import Path

from authly.monitoring.catalogue import Section, catalogue
from authly.monitoring.definitions import Definition, Values
from tests.instance import REPOSITORY

PAGE = REPOSITORY / "docs/metrics.md"

_HEAD = """\
# Metrics

Names are `authly_<subsystem>_<noun>_<unit>`, seconds and bytes throughout. A label's values come from a closed
vocabulary: nothing that a client can choose freely becomes one. What is outside its vocabulary becomes `other` and
counts in `authly_metrics_label_overflow_total`. Series whose labels are known in advance exist from the start, with 0.

This page is made from the definitions that Authly makes its metrics by (`make metrics-page`);
[`authly metrics catalog`](cli.md#authly-metrics-catalog) prints them, and with `--json` for programs. The word behind a
title is the group that `AUTHLY_METRICS_GROUPS` knows it by; what has none cannot be switched off by itself. A gauge is
followed by how the values of several workers become one. `AUTHLY_METRICS_CONST_LABELS` adds labels to everything, and
`AUTHLY_METRICS_RESOLUTION` changes the edges of the workers' histograms.
"""

_EXEMPLARS = "A request with a valid `traceparent` leaves its trace id as an exemplar."

# By section: its title, and what stands before its table.
_WORDS = {
    "http": (
        "Requests",
        """\
Other applications than Authly have these without `authly_` in front (`authly.monitoring.request_metrics`), or with a
name of their own there.""",
    ),
    "oauth": ("OAuth", ""),
    "auth": ("Authentication", ""),
    "oidc": ("OpenID Connect", ""),
    "levels": ("How much there is", ""),
    "database": ("Database", ""),
    "cache": ("Caches", ""),
    "ratelimit": ("Rate limits", ""),
    "security": ("Security", ""),
    "admin": ("Administration", ""),
    "cleanup": ("Periodic jobs", ""),
    "runtime": ("Workers from within", ""),
    "lifecycle": ("The application", ""),
    "foundation": ("The metrics themselves", "There as soon as any group is on."),
    "gunicorn": (
        "Gunicorn",
        "What Gunicorn is doing, for any application and any class of workers.",
    ),
    "processes": (
        "Processes and container",
        """\
The exporter reads these at each scrape, by role: `master` (Gunicorn's), `worker` (all that it forked), `exporter`.
Processes that the master starts as programs of their own (PostgreSQL, a master that takes over) have no role.""",
    ),
    "exporter": (
        "The exporter",
        "These are about the exporter's own process and begin anew with each exporter.",
    ),
}


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(part for section in catalogue() for part in _section(section))])


def _section(section: Section) -> Iterator[str]:
    title, words = _WORDS[section.name]
    definitions = [definition for definition, _ in section.definitions]
    switched = any(process == "worker" for _, process in section.definitions) and section.name != "foundation"
    yield f"## {title}{f' (`{section.name}`)' if switched else ''}\n"
    if words:
        yield f"{words}\n"
    yield "| metric | type | labels | meaning |\n|---|---|---|---|"
    yield from map(_row, definitions)
    vocabulary = _vocabulary(definitions)
    if vocabulary:
        yield "\n| label | values |\n|---|---|"
        for label, values in vocabulary:
            yield f"| {label} | {_values(values)} |"
    edges = {definition.buckets: definition.name for definition in definitions if definition.buckets}
    for buckets in edges:
        names = ", ".join(f"`{definition.name}`" for definition in definitions if definition.buckets == buckets)
        yield "\n" + _filled(f"Edges of {names}: {', '.join(f'{edge:g}' for edge in buckets)} s.")
    yield "\n```promql"
    for definition in definitions:
        yield definition.example
    yield "```\n"


def _row(definition: Definition) -> str:
    type_ = f"{definition.type} ({definition.mode})" if definition.mode else definition.type
    labels = ", ".join(f"`{label}`" for label in definition.labels)
    exemplars = _EXEMPLARS if definition.exemplars else ""
    meaning = " ".join(filter(None, [definition.help, definition.detail, exemplars]))
    return f"| `{definition.name}` | {type_} | {labels} | {meaning} |"


def _vocabulary(definitions: list[Definition]) -> list[tuple[str, Values]]:
    """Return what each label can be; a label that is not the same everywhere, with where it is what."""
    found: dict[str, dict[Values, list[str]]] = {}
    for definition in definitions:
        for label, values in definition.labels.items():
            found.setdefault(label, {}).setdefault(values, []).append(definition.name)
    return [
        (f"`{label}`" if len(meanings) == 1 else f"`{label}` of {', '.join(f'`{name}`' for name in names)}", values)
        for label, meanings in found.items()
        for values, names in meanings.items()
    ]


def _values(values: Values) -> str:
    known = [f"`{value}`" if value else "empty" for value in values.known]
    return ", ".join(known) + ("; " if known and values.others else "") + values.others


def _filled(text: str) -> str:
    """Break a paragraph where lines of this repository end."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > 120:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".lstrip()
    return "\n".join([*lines, line])


def main(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page())


if __name__ == "__main__":
    main()
