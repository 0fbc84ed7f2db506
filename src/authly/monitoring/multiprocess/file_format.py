"""The names and the bytes of metric files: prometheus-client's format, so that either side can be swapped for it.

A file holds::

    int32   used        bytes in use, this header included; 0 in a file that nobody has written yet
    uint16  unused      0
    uint16  removals    how often a series was removed, modulo 65536         (padding to prometheus-client)
    entries, each starting at a multiple of 8:
        int32   length  of the key in bytes
        length  key     UTF-8 JSON [metric name, sample name, {label: value}, help text]
        1..8    spaces  up to a multiple of 8
        float64 value
        float64 timestamp

Entries are only ever appended and never move; only numbers change. Whoever has read the first ``used`` bytes once
knows where each number is for as long as the file lives.

The timestamp is, in seconds since the epoch: for the gauge modes that keep the most recent value, when it was set; for
any other gauge of Authly's, 0 as long as it has not been set; for counters, histograms and summaries of Authly's, when
the series came into being. A negative one says that the series was removed. prometheus-client writes 0 wherever it
does not need one, and reads it for the most recent value alone.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER_SIZE = 8
# The header and the length of the first key.
HEAD_SIZE = 12
INT32 = struct.Struct("i")
# The index of the count of removals among the 16-bit cells of a file.
REMOVALS = 3
REMOVED = -1.0
_MAX_SIZE = 1 << 30
_REMOVALS = struct.Struct("H")
_TWO_DOUBLES = struct.Struct("dd")

GAUGE_MODES = ("all", "max", "min", "mostrecent", "sum")
_FILE_NAME = re.compile(
    rf"(?P<prefix>(?P<type>counter|histogram|summary)|gauge_(?P<mode>(?:live)?(?:{'|'.join(GAUGE_MODES)})))"
    r"_(?P<writer>s(?P<slot>0|[1-9][0-9]*)|[^/]+)\.db"
)


class CorruptFileError(ValueError):
    """A file's bytes are not those of a metric file; the message says what is wrong with them."""


class FileName(NamedTuple):
    """What the name of a metric file says.

    Args:
        type: counter, gauge, histogram or summary.
        mode: the multiprocess mode of a gauge, else empty.
        writer: ``s`` and the slot, or the process id (or other identifier) of a foreign writer.
        slot: the number of the slot; None for a foreign writer.
    """

    type: str
    mode: str
    writer: str
    slot: int | None

    @property
    def is_live(self) -> bool:
        """Whether the file counts only while its writer lives."""
        return self.mode.startswith("live")


def parse_name(name: str) -> FileName | None:
    """Return what a file's name says, or None for a name that is not a metric file's."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        return None
    slot = match["slot"]
    return FileName(match["type"] or "gauge", match["mode"] or "", match["writer"], int(slot) if slot else None)


def file_name(prefix: str, slot: int) -> str:
    """Return the name of a slot's file; the ``s`` keeps slot 7 apart from a foreign process whose pid is 7."""
    return f"{prefix}_s{slot}.db"


def encode_entry(key: bytes, timestamp: float) -> bytes:
    """Return a new entry with the value 0."""
    padding = 8 - (len(key) + INT32.size) % 8
    return INT32.pack(len(key)) + key + b" " * padding + _TWO_DOUBLES.pack(0.0, timestamp)


def used_bytes(header: bytes, size: int) -> int:
    """Return how many bytes of a file are in use.

    Args:
        header: the first bytes of the file; fewer than a header has if the file does.
        size: the size of the file.

    Raises:
        CorruptFileError: the header cannot be that of a metric file of this size.
    """
    if size == 0:
        return 0
    if len(header) < HEADER_SIZE:
        raise CorruptFileError(f"only {len(header)} bytes, which is shorter than a header")
    used: int = INT32.unpack_from(header)[0]
    if used == 0 and size <= _MAX_SIZE:
        return 0
    if used < HEADER_SIZE or used > size or used % 8 or size > _MAX_SIZE:
        raise CorruptFileError(f"{used} of {size} bytes said to be in use")
    return used


def header(used: int) -> bytes:
    """Return the header of a file that has not changed yet."""
    return INT32.pack(used) + bytes(HEADER_SIZE - INT32.size)


def timestamp(data: bytes, value: int) -> float:
    """Return the timestamp of the entry whose value is at an offset."""
    return float(_TWO_DOUBLES.unpack_from(data, value)[1])


def removals(header: bytes) -> int:
    """Return how often series were removed, as the header counts them."""
    return int(_REMOVALS.unpack_from(header, 2 * REMOVALS)[0])


def iterate_entries(
    data: bytes | bytearray | memoryview, used: int, position: int = HEADER_SIZE
) -> Iterator[tuple[bytes, int]]:
    """Yield each entry's key and the offset of its value; the timestamp follows 8 bytes after.

    Args:
        data: the file, at least as far as it is in use.
        used: how many bytes are in use.
        position: the first entry's.

    Raises:
        CorruptFileError: an entry reaches beyond what is in use.
    """
    view = memoryview(data)
    unpack = INT32.unpack_from
    while position < used:
        length: int = unpack(view, position)[0]
        value = position + 4 + length + 8 - (length + 4) % 8
        if length <= 0 or value + _TWO_DOUBLES.size > used:
            raise CorruptFileError(f"the entry at byte {position} reaches beyond the {used} bytes in use")
        start = position + 4
        yield view[start : start + length].tobytes(), value
        position = value + _TWO_DOUBLES.size


def looks_like_metric_file(head: bytes, size: int) -> bool:
    """Tell whether a file is one that this module or prometheus-client wrote.

    Args:
        head: the first :data:`HEAD_SIZE` bytes of the file, if it has so many.
        size: the size of the whole file.
    """
    try:
        used = used_bytes(head[:HEADER_SIZE], size)
    except CorruptFileError:
        return False
    if used <= HEADER_SIZE:
        return True
    length: int = INT32.unpack_from(head, HEADER_SIZE)[0]
    return 0 < length <= used - HEADER_SIZE - INT32.size - _TWO_DOUBLES.size
