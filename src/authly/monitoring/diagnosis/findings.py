"""What a check reports."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from authly.monitoring.diagnosis.subject import Subject

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """Something that is wrong.

    Args:
        code: a stable name, for scripts and for the documentation.
        severity: error where metrics are lost, wrong or at the mercy of others; warning where they may come to be.
        what: what was found, as a sentence.
        why: why it matters.
        remedy: what to do.
    """

    code: str
    severity: Severity
    what: str
    why: str
    remedy: str


Check = Callable[[Subject], Iterator[Finding]]


def error(code: str, what: str, why: str, remedy: str) -> Finding:
    """Return a finding that costs metrics."""
    return Finding(code, "error", what, why, remedy)


def warning(code: str, what: str, why: str, remedy: str) -> Finding:
    """Return a finding that may come to cost metrics."""
    return Finding(code, "warning", what, why, remedy)
