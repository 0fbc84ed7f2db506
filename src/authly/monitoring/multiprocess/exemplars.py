"""Exemplars: for a counter or a bucket the trace of one request that it counted.

They are in a file of each slot beside its metric files, under a name that prometheus-client's reader passes over. Both
sides are here. An exemplar is worth no failure: one that cannot be written is dropped, one that cannot be read is not
there.

A file holds, in the byte order of the machine::

    8 bytes  magic       b"AUTHLYX1"; zeros in a file that nobody has written yet
    uint32   used        records in use
    uint32   changes     how often a record was written, modulo 2**32
    records of 640 bytes each:
        uint32   sequence   goes up with each write; odd while the record is being written
        uint32   checksum   CRC-32 of all that follows, begun with the sequence
        uint32   kind       of metric file: 1 counter, 2 histogram
        uint32   position   of the value in the slot's file of that kind, in bytes
        uint32   key        CRC-32 of the key that is in front of that value
        uint32   length     of the labels in bytes
        float64  value
        float64  timestamp  seconds since the epoch
        length   labels     UTF-8 name, value, name, value, ..., with a byte 0xFF, which UTF-8 has not, between them

A value has one record, which its latest exemplar takes. The next holder of a slot goes on with its files, and so a
position says as much after a process died as before. Where a metric file has been replaced or compacted meanwhile, the
key at that position is another, and the record means nothing until it is written again.

A reader copies the file while it may be written. It takes a record whose sequence is even and whose checksum is right,
and so never one of which it has seen two halves.
"""

import contextlib
import mmap
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Final, NamedTuple

MAGIC: Final = b"AUTHLYX1"
HEADER_SIZE: Final = 16
RECORD_SIZE: Final = 640
MAX_RECORDS: Final = 4096
MAX_SIZE: Final = HEADER_SIZE + MAX_RECORDS * RECORD_SIZE
# OpenMetrics: of the names and values of an exemplar's labels together.
MAX_CHARACTERS: Final = 128
_INITIAL_SIZE: Final = 1 << 14
_RETRY_SECONDS: Final = 1.0
_KINDS: Final = {"counter": 1, "histogram": 2}
_PREFIXES: Final = {kind: prefix for prefix, kind in _KINDS.items()}
_COUNTS: Final = struct.Struct("II")
_UINT32: Final = struct.Struct("I")
_BODY: Final = struct.Struct("IIIIdd")
_RECORD: Final = struct.Struct("IIIIIIdd")
_BODY_OFFSET: Final = _RECORD.size - _BODY.size
_SEPARATOR: Final = b"\xff"
_FILE_NAME: Final = re.compile(r"exemplars_s(0|[1-9][0-9]*)\.bin")


class Exemplar(NamedTuple):
    """What a sample is an example of.

    Args:
        labels: names and values, of which there is at least one.
        value: what was observed.
        timestamp: when, in seconds since the epoch.
    """

    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp: float


class Record(NamedTuple):
    """A record that was whole.

    Args:
        version: what tells it from an earlier or a later one in its place.
        prefix: the kind of metric file that the value is in.
        position: the value's, in bytes.
        key: the checksum of the value's key.
        exemplar: what it holds.
    """

    version: tuple[int, int]
    prefix: str
    position: int
    key: int
    exemplar: Exemplar


def file_name(slot: int) -> str:
    """Return the name of a slot's file."""
    return f"exemplars_s{slot}.bin"


def parse_name(name: str) -> int | None:
    """Return the slot that a file's name says, or None for a name that is not an exemplar file's."""
    match = _FILE_NAME.fullmatch(name)
    return int(match[1]) if match else None


def looks_like_exemplar_file(head: bytes, _: int) -> bool:
    """Tell whether a file is one that this module wrote, or has only reserved.

    Args:
        head: the first bytes of the file, at least as many as the magic number has if the file does.
    """
    return head.startswith(MAGIC) or not head.strip(b"\0")


def checksum_of_key(key: bytes) -> int:
    """Return what a record says of its value's key."""
    return zlib.crc32(key)


def _record(data: bytes | mmap.mmap, at: int, known: Record | None = None) -> Record | None:
    """Return the record at an offset; None if it is empty, half written or broken.

    Args:
        data: the file.
        at: where the record begins.
        known: what was there before, which is returned if it still is.
    """
    sequence, checksum, kind, position, key, length, value, timestamp = _RECORD.unpack_from(data, at)
    version = sequence, checksum
    if known is not None and known.version == version:
        return known
    prefix = _PREFIXES.get(kind)
    if sequence % 2 or prefix is None or length > RECORD_SIZE - _RECORD.size or not isfinite(timestamp):
        return None
    end = at + _RECORD.size + length
    if zlib.crc32(data[at + _BODY_OFFSET : end], sequence) != checksum:
        return None
    try:
        parts = [part.decode() for part in data[at + _RECORD.size : end].split(_SEPARATOR)]
        labels = tuple(zip(parts[::2], parts[1::2], strict=True))
    except ValueError:
        return None
    if sum(map(len, parts)) > MAX_CHARACTERS:
        return None
    return Record(version, prefix, position, key, Exemplar(labels, value, timestamp))


def _records_in(size: int) -> int:
    return min((size - HEADER_SIZE) // RECORD_SIZE, MAX_RECORDS)


class ExemplarFile:
    """The exemplars of one slot, for the holder of the slot to write; made when there is the first one.

    Args:
        path: where it is.
        allow: asked before bytes are reserved; raises OSError where they would be too many.
        monotonic: the clock that spaces out new attempts after a failure.
    """

    def __init__(self, path: Path, allow: Callable[[int], None], monotonic: Callable[[], float]) -> None:
        self._path = path
        self._allow = allow
        self._monotonic = monotonic
        self.size = 0
        self._fd = -1
        self._mapping: mmap.mmap | None = None
        self._used = 0
        self._changes = 0
        # The record of each value, by kind and checksum of its key, and those that a dead holder left half written.
        self._numbers: dict[tuple[int, int], int] = {}
        self._free: list[int] = []
        self._retry_at = 0.0

    def write(
        self, prefix: str, key: bytes, position: int, labels: Mapping[str, str], value: float, timestamp: float
    ) -> None:
        """Keep an exemplar in the place of the value's last one, or drop it.

        Args:
            prefix: the kind of metric file that the value is in.
            key: the value's.
            position: the value's in that file, in bytes.
            labels: at most :data:`MAX_CHARACTERS` long.
            value: what was observed.
            timestamp: when, in seconds since the epoch.
        """
        # Whatever it is: nobody can be helped by an error about an exemplar.
        with contextlib.suppress(Exception):
            kind = _KINDS[prefix]
            text = _SEPARATOR.join(part.encode() for label in labels.items() for part in label)
            checksum = checksum_of_key(key)
            body = _BODY.pack(kind, position, checksum, len(text), value, timestamp) + text
            if _BODY_OFFSET + len(body) > RECORD_SIZE:
                return
            mapping, number = self._place((kind, checksum))
            at = HEADER_SIZE + number * RECORD_SIZE
            writing = (_UINT32.unpack_from(mapping, at)[0] + 1) | 1
            written = (writing + 1) & 0xFFFFFFFF
            _UINT32.pack_into(mapping, at, writing)
            mapping[at + _BODY_OFFSET : at + _BODY_OFFSET + len(body)] = body
            _UINT32.pack_into(mapping, at + _UINT32.size, zlib.crc32(body, written))
            _UINT32.pack_into(mapping, at, written)
            self._changes = (self._changes + 1) & 0xFFFFFFFF
            _COUNTS.pack_into(mapping, len(MAGIC), self._used, self._changes)

    def read(self, prefix: str, key: bytes, position: int) -> Exemplar | None:
        """Return the exemplar of a value, if this process has written one for any."""
        number = self._numbers.get((_KINDS.get(prefix, 0), checksum_of_key(key)))
        if self._mapping is None or number is None:
            return None
        record = _record(self._mapping, HEADER_SIZE + number * RECORD_SIZE)
        return record.exemplar if record and record.position == position else None

    def close(self) -> None:
        """Let go of the file."""
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.size = 0

    def _place(self, name: tuple[int, int]) -> tuple[mmap.mmap, int]:
        """Return the mapping, and the number in it of the record of a value.

        Raises:
            OSError: there is no room.
        """
        mapping = self._mapping or self._try(self._open)
        number = self._numbers.get(name)
        if number is None:
            if self._free:
                number = self._free.pop()
            else:
                if self._used == _records_in(self.size):
                    mapping = self._try(self._grow)
                number = self._used
                self._used += 1
            self._numbers[name] = number
        return mapping, number

    def _try(self, attempt: Callable[[], mmap.mmap]) -> mmap.mmap:
        """Return what an attempt to find room returns; make none soon after one that failed."""
        if self._monotonic() < self._retry_at:
            raise OSError("there was no room a moment ago")
        self._retry_at = self._monotonic() + _RETRY_SECONDS
        mapping = attempt()
        self._retry_at = 0.0
        return mapping

    def _open(self) -> mmap.mmap:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(self._fd).st_size
            if not looks_like_exemplar_file(os.pread(self._fd, HEADER_SIZE, 0), size):
                # As with a metric file that nobody can read: kept, out of the way.
                self._path.replace(self._path.with_suffix(".corrupt"))
                self.close()
                return self._open()
            mapping = self._reserve(min(max(size, _INITIAL_SIZE), MAX_SIZE))
        except BaseException:
            self.close()
            raise
        used, self._changes = _COUNTS.unpack_from(mapping, len(MAGIC))
        self._used = min(used, _records_in(self.size))
        for number in range(self._used):
            record = _record(mapping, HEADER_SIZE + number * RECORD_SIZE)
            if record is None:
                self._free.append(number)
            else:
                self._numbers[_KINDS[record.prefix], record.key] = number
        mapping[: len(MAGIC)] = MAGIC
        return mapping

    def _grow(self) -> mmap.mmap:
        if self.size >= MAX_SIZE:
            raise OSError("as many exemplars as there may be")
        return self._reserve(min(2 * self.size, MAX_SIZE))

    def _reserve(self, size: int) -> mmap.mmap:
        self._allow(size - self.size)
        # Reserved, not merely truncated: a write to a hole of a full disk is a SIGBUS, which kills the process.
        os.posix_fallocate(self._fd, 0, size)
        mapping = mmap.mmap(self._fd, size)
        if self._mapping is not None:
            self._mapping.close()
        self.size = size
        self._mapping = mapping
        return mapping


class _Seen(NamedTuple):
    """What was in a file at the last reading."""

    inode: int
    header: bytes
    # Whether the header was the same at the reading before.
    quiet: bool
    records: list[Record | None]


class ExemplarReader:
    """Reads the exemplars of a directory.

    Args:
        directory: where the files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[int, _Seen] = {}

    def read(self, slots: Iterable[int]) -> dict[int, list[Record]]:
        """Return the records of those slots that have any; never fail.

        Args:
            slots: whose exemplars are wanted.
        """
        before, self._seen = self._seen, {}
        found = {}
        for slot in slots:
            # There is no file, most often; or nothing in the place of one that can be read.
            with contextlib.suppress(OSError):
                seen = self._seen[slot] = self._read(slot, before.get(slot))
                found[slot] = [record for record in seen.records if record is not None]
        return found

    def _read(self, slot: int, before: _Seen | None) -> _Seen:
        # O_NONBLOCK: opening a FIFO would wait for a writer, for ever if there is none.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self._directory / file_name(slot), flags)
        try:
            inode = os.fstat(fd).st_ino
            header = os.pread(fd, HEADER_SIZE, 0)
            if not header.startswith(MAGIC) or len(header) < HEADER_SIZE:
                return _Seen(inode, header, False, [])
            same = before is not None and before.inode == inode and before.header == header
            # Not on every processor does a record become visible before the count of changes does: a file is left
            # alone only after one more reading that found no change.
            if same and before is not None and before.quiet:
                return before
            used, _ = _COUNTS.unpack_from(header, len(MAGIC))
            data = os.pread(fd, min(used, MAX_RECORDS) * RECORD_SIZE, HEADER_SIZE)
        finally:
            os.close(fd)
        count = len(data) // RECORD_SIZE
        known = before.records[:count] if before is not None and before.inode == inode else []
        known += [None] * (count - len(known))
        records = [_record(data, number * RECORD_SIZE, record) for number, record in enumerate(known)]
        return _Seen(inode, header, same, records)
