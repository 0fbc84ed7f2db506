"""The names and the bytes of metric files: prometheus-client's format, so that either side can be swapped for it.

A file holds::

    int32   used        bytes in use, this header included; 0 in a file that nobody has written yet
    4 bytes padding
    entries, each starting at a multiple of 8:
        int32   length  of the key in bytes
        length  key     UTF-8 JSON [metric name, sample name, {label: value}, help text]
        1..8    spaces  up to a multiple of 8
        float64 value
        float64 timestamp

Entries are only ever appended and never move; only values change. Whoever has read the first ``used`` bytes once
knows where each value is for as long as the file lives.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER_SIZE = 8
INT32 = struct.Struct("i")
_TWO_DOUBLES = struct.Struct("dd")

GAUGE_MODES = ("all", "max", "min", "mostrecent", "sum")
_FILE_NAME = re.compile(
    rf"(?P<prefix>(?P<type>counter|histogram|summary)|gauge_(?P<mode>(?:live)?(?:{'|'.join(GAUGE_MODES)})))"
    r"_(?P<writer>s(?P<slot>\d+)|[^/]+)\.db"
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


def encode_entry(key: str) -> bytes:
    """Return a new entry with the value and the timestamp 0."""
    encoded = key.encode()
    padding = 8 - (len(encoded) + INT32.size) % 8
    return INT32.pack(len(encoded)) + encoded + b" " * padding + bytes(_TWO_DOUBLES.size)


def read_used(data: bytes | memoryview) -> int:
    """Return how many bytes of a file are in use.

    Args:
        data: the whole file.

    Raises:
        CorruptFileError: the header cannot be that of a metric file of this size.
    """
    if len(data) == 0:
        return 0
    if len(data) < HEADER_SIZE:
        raise CorruptFileError(f"only {len(data)} bytes, which is shorter than a header")
    used: int = INT32.unpack_from(data)[0]
    if used == 0:
        return 0
    if used < HEADER_SIZE or used > len(data) or used % 8:
        raise CorruptFileError(f"{used} of {len(data)} bytes said to be in use")
    return used


def iterate_entries(data: bytes | memoryview, used: int) -> Iterator[tuple[bytes, int]]:
    """Yield each entry's key and the offset of its value; the timestamp follows 8 bytes after.

    Raises:
        CorruptFileError: an entry reaches beyond what is in use.
    """
    position = HEADER_SIZE
    while position < used:
        length: int = INT32.unpack_from(data, position)[0]
        value = position + INT32.size + length + 8 - (length + INT32.size) % 8
        if length <= 0 or value + _TWO_DOUBLES.size > used:
            raise CorruptFileError(f"the entry at byte {position} reaches beyond the {used} bytes in use")
        start = position + INT32.size
        yield bytes(data[start : start + length]), value
        position = value + _TWO_DOUBLES.size


def looks_like_metric_file(head: bytes, size: int) -> bool:
    """Tell whether a file is one that this module or prometheus-client wrote.

    Args:
        head: the first bytes of the file, at least a header's if it has them.
        size: the size of the whole file.
    """
    if size == 0:
        return True
    if len(head) < HEADER_SIZE:
        return False
    used: int = INT32.unpack_from(head)[0]
    return head[INT32.size : HEADER_SIZE] == bytes(4) and (used == 0 or HEADER_SIZE <= used <= size) and used % 8 == 0
