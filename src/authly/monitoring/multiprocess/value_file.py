"""One metric file, open for writing by the holder of its slot.

Owns the mapping of the file, its growth, the dense file beside it, and the order of the stores by which a new entry
becomes visible. Does not know whose slot it is, nor what to do when there is no room.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final

from authly.monitoring.multiprocess import dense_file, file_format
from authly.monitoring.multiprocess.dense_file import DenseFile
from authly.monitoring.multiprocess.mapping import Mapping

INITIAL_SIZE: Final = 1 << 14


# Cells of the metric file, the index of the value among them (its timestamp follows), and the same of the dense file.
Place = tuple["memoryview[float]", int, "memoryview[float]", int]


class ValueFile:
    """One slot's file for one type of metric, open for writing, and the dense file beside it.

    Growing maps the longer file a second time; cells handed out before stay valid, because both mappings are of the
    same pages.

    Args:
        path: where it is.
        clock: the time, in seconds since the epoch; None where timestamps are not those of a series' beginning.
        allow: asked before bytes are reserved; raises OSError where they would be too many.
        width: how many numbers of each entry the dense file has.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] | None, allow: Callable[[int], None], width: int = 1
    ) -> None:
        self._clock = clock
        self._allow = allow
        self._width = width
        self._mappings: list[Mapping] = []
        # The number of each entry in the order of the file, and for each entry the index of its value.
        self._numbers: dict[bytes, int] = {}
        self._indices = array("I")
        self._dense: DenseFile | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            status = os.fstat(self._fd)
            self._size = status.st_size
            # Before it is made longer, which could turn a file that was cut short into one that seems intact.
            file_format.used_bytes(os.pread(self._fd, file_format.HEADER_SIZE, 0), self._size)
            if self._size < INITIAL_SIZE:
                self._reserve(INITIAL_SIZE)
            else:
                self._mappings.append(Mapping(self._fd, self._size))
            self._used = self._read()
            beside = path.with_name(dense_file.file_name(path.name))
            self._dense = DenseFile(beside, status.st_ino, self._dense_numbers(), allow)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """The bytes that both files take."""
        return self._size + (self._dense.size if self._dense else 0)

    def _read(self) -> int:
        mapping = self._mappings[-1]
        used = file_format.used_bytes(bytes(mapping.bytes[: file_format.HEADER_SIZE]), self._size)
        for key, position in file_format.iterate_entries(mapping.bytes, used):
            self._numbers[key] = len(self._indices)
            self._indices.append(position // 8)
        if used == 0:
            used = file_format.HEADER_SIZE
            mapping.integers[0] = used
        return used

    def _dense_numbers(self) -> "array[float]":
        cells = self._mappings[-1].doubles
        return array("d", (cells[index + more] for index in self._indices for more in range(self._width)))

    def _reserve(self, size: int) -> None:
        self._allow(size - self._size)
        self._mappings.append(Mapping.reserve(self._fd, size))
        self._size = size

    def place(self, key: bytes) -> Place:
        """Return where the value of a key is, with a new entry if it has none.

        Raises:
            OSError: there is no room for one.
        """
        assert self._dense is not None
        number = self._numbers.get(key)
        if number is None:
            number = self._append(key, self._dense)
        cells = self._mappings[-1].doubles
        index = self._indices[number]
        if cells[index + 1] < 0:
            # The series was removed, and begins anew.
            self._write(number, 0.0, self._clock() if self._clock else 0.0)
            self._count_removal()
        return cells, index, self._dense.cells, dense_file.FRONT + self._width * number

    def remove(self, key: bytes) -> None:
        """Mark a series as removed; its entry stays, because no entry ever moves."""
        number = self._numbers.get(key)
        if number is not None:
            self._write(number, 0.0, file_format.REMOVED)
            self._count_removal()

    def _write(self, number: int, *numbers: float) -> None:
        assert self._dense is not None
        cells, index = self._mappings[-1].doubles, self._indices[number]
        for more, value in enumerate(numbers):
            cells[index + more] = value
            if more < self._width:
                self._dense.cells[dense_file.FRONT + self._width * number + more] = value

    def _count_removal(self) -> None:
        with self._mappings[-1].bytes.cast("H") as counts:
            counts[file_format.REMOVALS] = (counts[file_format.REMOVALS] + 1) & 0xFFFF

    def _append(self, key: bytes, dense: DenseFile) -> int:
        entry = file_format.encode_entry(key, self._clock() if self._clock else 0.0)
        end = self._used + len(entry)
        if end > self._size:
            size = self._size
            while size < end:
                size *= 2
            self._reserve(size)
        # Before the entry becomes visible: a reader that knows of it looks for its number there.
        dense.append(self._width)
        mapping = self._mappings[-1]
        mapping.bytes[self._used : end] = entry
        self._used = end
        # One store, after the entry: a reader sees all of the entry or none of it.
        mapping.integers[0] = end
        number = len(self._indices)
        self._indices.append((end - 16) // 8)
        self._numbers[key] = number
        return number

    def close(self) -> None:
        """Let go of the files; cells handed out raise ValueError from now on."""
        for mapping in self._mappings:
            mapping.close()
        self._mappings.clear()
        if self._dense is not None:
            self._dense.close()
            self._dense = None
        os.close(self._fd)


def compact(path: Path, unwanted: frozenset[bytes]) -> None:
    """Write a file anew without the entries that are not wanted any more, and those that were removed.

    Only for whoever holds the slot and has not opened the file yet: nobody else writes to it, and readers notice that
    another file has taken its place.

    Args:
        path: the file; nothing is done where there is none.
        unwanted: keys.

    Raises:
        OSError: there is no room for the new file; the old one stays.
        CorruptFileError: the file is not a metric file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    used = file_format.used_bytes(data[: file_format.HEADER_SIZE], len(data))
    if not unwanted and (used == 0 or not file_format.removals(data[: file_format.HEADER_SIZE])):
        return
    kept = []
    dropped = False
    start = file_format.HEADER_SIZE
    for key, position in file_format.iterate_entries(data, used):
        end = position + 16
        if key in unwanted or file_format.timestamp(data, position) < 0:
            dropped = True
        else:
            kept.append(data[start:end])
        start = end
    if not dropped:
        return
    body = b"".join(kept)
    beside = path.with_suffix(".new")
    beside.write_bytes(file_format.header(file_format.HEADER_SIZE + len(body)) + body)
    beside.replace(path)
