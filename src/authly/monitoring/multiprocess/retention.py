"""Series that nobody updates any more: what the reading side found out, for the writing side to act on.

The reading side leaves such series out, and writes their keys down. Whoever leases a slot next, and has not opened its
files yet, drops them from there: the one moment at which entries of a file may go.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE_NAME = "expired.json"


def write(directory: Path, keys: Mapping[str, list[str]]) -> None:
    """Write down the keys of series to be dropped.

    Args:
        directory: the directory of the instance.
        keys: for each kind of file (``counter``, ``gauge_max``, ...) the keys.

    Raises:
        OSError: there is no room for it, or no permission.
    """
    path = directory / FILE_NAME
    beside = path.with_name(f"{FILE_NAME}.{os.getpid()}")
    beside.write_text(json.dumps(keys))
    beside.replace(path)


def read(directory: Path) -> dict[str, frozenset[bytes]]:
    """Return the keys of series to be dropped; none where nothing, or nothing readable, was written down."""
    try:
        record = json.loads((directory / FILE_NAME).read_bytes())
        return {str(kind): frozenset(str(key).encode() for key in keys) for kind, keys in record.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
