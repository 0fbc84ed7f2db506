"""The header ``traceparent`` of W3C Trace Context: which trace a request is part of."""

import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

# As ASGI has it: in lower case.
TRACEPARENT: Final = b"traceparent"
# A later version may add fields behind a hyphen; version 00 has none, and ff is no version. Identifiers are in lower
# case, and never all zeros.
_VALUE = re.compile(
    rb"(?:(?P<first>00)|(?!00|ff)[0-9a-f]{2})"
    rb"-(?P<trace>(?!0{32})[0-9a-f]{32})"
    rb"-(?!0{16})[0-9a-f]{16}"
    rb"-[0-9a-f]{2}"
    rb"(?(first)|(?:-.*)?)",
    re.DOTALL,
)

# The trace that what runs now is part of; empty where it is part of none.
CURRENT_TRACE: Final[ContextVar[str]] = ContextVar("authly_current_trace", default="")


def trace_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the trace id that a request came with; empty if it has none, or none that is valid.

    Args:
        headers: as ASGI has them, names in lower case.
    """
    found = None
    for header in headers:
        if header[0] == TRACEPARENT:
            if found is not None:
                return ""  # there may be one; which of two is meant, nobody can know
            found = header[1]
    match = _VALUE.fullmatch(found.strip(b" \t")) if found else None
    return match["trace"].decode("ascii") if match else ""
