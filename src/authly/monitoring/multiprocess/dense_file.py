"""The numbers of a metric file once more, close together: what readers read instead of the keys between them.

In a metric file a number of 8 bytes follows a key of a hundred, and a reader has to copy all of it to get at one.
Beside each metric file of a slot lies a dense file with the numbers alone, in the order of the entries. The metric file
is the truth, for Authly's writers as for prometheus-client's readers; a dense file that is missing, or does not belong
to the metric file beside it, costs a reader nothing but time.

A file holds, in the byte order of the machine::

    8 bytes  magic    b"AUTHLYD1"
    uint64   inode    of the metric file that it belongs to
    float64  numbers  of each entry its value; for the modes of gauges that choose among values, and therefore need it,
                      each followed by its timestamp

A dense file is made anew whenever a holder of the slot opens the metric file, and takes its name when it is complete.
A writer stores each number in the metric file first: if it dies between the two stores, the dense file is behind by one
write that nobody was told of, until the next holder makes it anew.
"""

import os
import re
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final

from authly.monitoring.multiprocess.file_format import FileName
from authly.monitoring.multiprocess.mapping import Mapping

MAGIC: Final = b"AUTHLYD1"
HEADER_SIZE: Final = 16
# How many cells the header takes the place of.
FRONT: Final = HEADER_SIZE // 8
_INITIAL_SIZE: Final = 1 << 12
_INODE: Final = struct.Struct("Q")
_SUFFIX: Final = ".dense"
_FILE_NAME: Final = re.compile(r"(?:counter|gauge_[a-z]+|histogram|summary)_s(0|[1-9][0-9]*)\.dense(?:\.new)?")


def file_name(metric_file: str) -> str:
    """Return the name of the dense file that lies beside a metric file."""
    return metric_file.removesuffix(".db") + _SUFFIX


def parse_name(name: str) -> int | None:
    """Return the slot that a file's name says, or None for a name that is not a dense file's."""
    match = _FILE_NAME.fullmatch(name)
    return int(match[1]) if match else None


def looks_like_dense_file(head: bytes, _: int) -> bool:
    """Tell whether a file is one that this module wrote, or has only reserved.

    Args:
        head: the first bytes of the file, at least as many as the magic number has if the file does.
    """
    return head.startswith(MAGIC) or not head.strip(b"\0")


def header(inode: int) -> bytes:
    """Return the first bytes of the dense file of a metric file."""
    return MAGIC + _INODE.pack(inode)


def width(name: FileName) -> int:
    """Return how many numbers each entry of a metric file has."""
    return width_of_mode(name.mode)


def width_of_mode(mode: str) -> int:
    """Return how many numbers each entry has where gauges are of that mode; the mode of other types is empty."""
    return 2 if mode.removeprefix("live") in {"max", "min", "mostrecent"} else 1


class DenseFile:
    """The dense file of one metric file, for the holder of the slot to write.

    Args:
        path: where it is.
        inode: of the metric file.
        numbers: of the entries that the metric file has.
        allow: asked before bytes are reserved; raises OSError where they would be too many.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, path: Path, inode: int, numbers: "array[float]", allow: Callable[[int], None]) -> None:
        self._allow = allow
        self._mappings: list[Mapping] = []
        self.size = 0
        self._used = FRONT + len(numbers)
        beside = path.with_name(path.name + ".new")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(beside, flags, 0o600)
        try:
            self._reserve(max(_INITIAL_SIZE, 2 * 8 * self._used))
            mapping = self._mappings[-1]
            mapping.bytes[:HEADER_SIZE] = header(inode)
            mapping.doubles[FRONT : self._used] = memoryview(numbers)
            beside.replace(path)
        except BaseException:
            self.close()
            raise

    def append(self, count: int) -> None:
        """Make room for as many numbers, all of them 0.

        Raises:
            OSError: there is none.
        """
        if 8 * (self._used + count) > self.size:
            self._reserve(2 * self.size)
        self._used += count

    @property
    def cells(self) -> "memoryview[float]":
        """The numbers by index, the header's among them; those handed out before stay valid."""
        return self._mappings[-1].doubles

    def close(self) -> None:
        """Let go of the file; cells handed out raise ValueError from now on."""
        for mapping in self._mappings:
            mapping.close()
        self._mappings.clear()
        os.close(self._fd)

    def _reserve(self, size: int) -> None:
        self._allow(size - self.size)
        self._mappings.append(Mapping.reserve(self._fd, size))
        self.size = size
