"""One metric file, open for writing by the holder of its slot.

Owns the mapping of the file, its growth, and the order of the stores by which a new entry becomes visible. Does not
know whose slot it is, nor what to do when there is no room.
"""

import contextlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from authly.monitoring.multiprocess import file_format

INITIAL_SIZE: Final = 1 << 14


class _Mapping:
    """The cells of a mapped file, in the three widths in which they are written.

    Args:
        fd: the file.
        size: how many bytes of it.
    """

    __slots__ = ("_mapping", "bytes", "counts", "doubles", "integers")

    def __init__(self, fd: int, size: int) -> None:
        self._mapping = mmap.mmap(fd, size)
        # A multiple of 8 in any case: a foreign file may have any length.
        self.bytes = memoryview(self._mapping)[: size - size % 8]
        self.doubles: memoryview[float] = self.bytes.cast("d")
        self.integers: memoryview[int] = self.bytes.cast("i")
        self.counts: memoryview[int] = self.bytes.cast("H")

    def close(self) -> None:
        """Let go; whoever has the cells gets a ValueError from now on."""
        for view in (self.doubles, self.integers, self.counts, self.bytes):
            view.release()
        # Another thread may be between two bytecodes of a write; its view keeps the mapping a moment longer.
        with contextlib.suppress(BufferError):
            self._mapping.close()


class ValueFile:
    """One slot's file for one type of metric, open for writing.

    Growing maps the longer file a second time; cells handed out before stay valid, because both mappings are of the
    same pages.

    Args:
        path: where it is.
        clock: the time, in seconds since the epoch.
        allow: asked before bytes are reserved; raises OSError where they would be too many.
    """

    def __init__(self, path: Path, clock: Callable[[], float] | None, allow: Callable[[int], None]) -> None:
        self._clock = clock
        self._allow = allow
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._mappings: list[_Mapping] = []
        self._positions: dict[bytes, int] = {}
        try:
            self.size = os.fstat(self._fd).st_size
            # Before it is made longer, which could turn a file that was cut short into one that seems intact.
            file_format.used_bytes(os.pread(self._fd, file_format.HEADER_SIZE, 0), self.size)
            if self.size < INITIAL_SIZE:
                self._reserve(INITIAL_SIZE)
            else:
                self._mappings.append(_Mapping(self._fd, self.size))
            self._used = self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> int:
        mapping = self._mappings[-1]
        used = file_format.used_bytes(bytes(mapping.bytes[: file_format.HEADER_SIZE]), self.size)
        for key, position in file_format.iterate_entries(mapping.bytes, used):
            self._positions[key] = position
        if used == 0:
            used = file_format.HEADER_SIZE
            mapping.integers[0] = used
        return used

    def _reserve(self, size: int) -> None:
        self._allow(size - self.size)
        # Reserved, not merely truncated: a write to a hole of a full disk is a SIGBUS, which kills the process.
        os.posix_fallocate(self._fd, 0, size)
        self.size = size
        self._mappings.append(_Mapping(self._fd, size))

    def cell(self, key: bytes) -> tuple["memoryview[float]", "memoryview[int]", int]:
        """Return where the value of a key is, with a new entry if it has none: cells, counts, and the index."""
        position = self._positions.get(key)
        if position is None:
            position = self._append(key)
        mapping = self._mappings[-1]
        index = position // 8
        if mapping.doubles[index + 1] < 0:
            # The series was removed, and begins anew.
            mapping.doubles[index] = 0.0
            mapping.doubles[index + 1] = self._clock() if self._clock else 0.0
            self._count(mapping, file_format.REMOVALS)
        return mapping.doubles, mapping.counts, index

    def remove(self, key: bytes) -> None:
        """Mark a series as removed; its entry stays, because no entry ever moves."""
        position = self._positions.get(key)
        if position is not None:
            mapping = self._mappings[-1]
            mapping.doubles[position // 8] = 0.0
            mapping.doubles[position // 8 + 1] = file_format.REMOVED
            self._count(mapping, file_format.REMOVALS)

    @staticmethod
    def _count(mapping: _Mapping, which: int) -> None:
        mapping.counts[which] = (mapping.counts[which] + 1) & 0xFFFF

    def _append(self, key: bytes) -> int:
        entry = file_format.encode_entry(key, self._clock() if self._clock else 0.0)
        end = self._used + len(entry)
        if end > self.size:
            size = self.size
            while size < end:
                size *= 2
            self._reserve(size)
        mapping = self._mappings[-1]
        mapping.bytes[self._used : end] = entry
        self._used = end
        # One store, after the entry: a reader sees all of the entry or none of it.
        mapping.integers[0] = end
        position = end - 16
        self._positions[key] = position
        return position

    def close(self) -> None:
        """Let go of the file; cells handed out raise ValueError from now on."""
        for mapping in self._mappings:
            mapping.close()
        self._mappings.clear()
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
