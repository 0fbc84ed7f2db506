"""One metric file taken apart, for people: what its header says, and each entry with all that is stored of it.

Reads a file once and completely. Scrapes read incrementally, and know nothing of this module.
"""

import json
import os
import stat
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.multiprocess import file_format
from authly.monitoring.multiprocess.file_format import CorruptFileError, FileName


class Entry(NamedTuple):
    """What a file holds of one sample.

    Args:
        metric: the name of the metric.
        sample: the name of the sample, with its suffix.
        labels: by name.
        help: the help text.
        value: the number.
        timestamp: in seconds since the epoch; what it means depends on the type, see :mod:`.file_format`.
        removed: whether the series was removed.
        problem: why the key cannot be understood; empty if it can. The key then stands in the place of the sample.
    """

    metric: str
    sample: str
    labels: dict[str, str]
    help: str
    value: float
    timestamp: float
    removed: bool
    problem: str = ""


class DecodedFile(NamedTuple):
    """What a file holds.

    Args:
        path: where it is.
        name: what its name says; None where the name is not that of a metric file.
        size: in bytes.
        used: how many of them are in use.
        removals: how often a series was removed, modulo 65536.
        uid: the user it belongs to.
        mode: its permissions.
        entries: in the order of the file.
    """

    path: Path
    name: FileName | None
    size: int
    used: int
    removals: int
    uid: int
    mode: int
    entries: list[Entry]


def decode(path: Path) -> DecodedFile:
    """Read a metric file.

    Raises:
        CorruptFileError: its bytes are not those of a metric file.
        OSError: it cannot be read, or is no regular file.
    """
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        header = file.read(file_format.HEADER_SIZE)
        used = file_format.used_bytes(header, status.st_size)
        data = header + file.read(max(0, used - len(header)))
    if len(data) < used:
        raise CorruptFileError(f"{len(data)} of {used} bytes said to be in use are there")
    entries = [_entry(data, key, value) for key, value in file_format.iterate_entries(data, used)]
    return DecodedFile(
        path,
        file_format.parse_name(path.name),
        status.st_size,
        used,
        file_format.removals(header) if used else 0,
        status.st_uid,
        stat.S_IMODE(status.st_mode),
        entries,
    )


def _entry(data: bytes, key: bytes, value: int) -> Entry:
    number, timestamp = memoryview(data)[value : value + 16].cast("d")
    removed = timestamp < 0
    try:
        metric, sample, labels, help_ = json.loads(key)
        if not all(isinstance(text, str) for text in (metric, sample, help_, *labels, *labels.values())):
            raise TypeError("not only texts")
    except (ValueError, TypeError, AttributeError, RecursionError):
        shown = key.decode(errors="replace")
        return Entry("", shown, {}, "", number, timestamp, removed, "not a key that prometheus-client writes")
    return Entry(metric, sample, labels, help_, number, timestamp, removed)
