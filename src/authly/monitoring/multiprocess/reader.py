"""From a directory to the numbers in its files, incrementally.

Owns which files count (live gauges only while their writer lives), what has changed since the last time, and what
happens to a file that cannot be read: it is left out, counted by reason, and costs nothing else.

A key is parsed once, when its entry first appears; after that a file is the few bytes of its header, and the numbers of
the dense file beside it. Where there is none, because another library wrote the file, all of it is copied and the
numbers are gathered from it.
"""

import contextlib
import os
import stat
from array import array
from pathlib import Path
from typing import NamedTuple, Protocol

from authly.monitoring.multiprocess import dense_file, file_format, lease
from authly.monitoring.multiprocess.dense_file import FRONT
from authly.monitoring.multiprocess.file_format import CorruptFileError, FileName

SKIP_REASONS = ("corrupt", "not_a_file", "unreadable")
_FIRST_BUFFER = 1 << 16
_NO_HEADER = bytes(dense_file.HEADER_SIZE)


class File:
    """A metric file that is read again and again.

    Args:
        name: what its name says.
        fd: open for reading, for as long as the file is known.
        inode: what tells it from another file of the same name.
    """

    __slots__ = (
        "data",
        "dense_fd",
        "dense_inode",
        "fd",
        "header",
        "inode",
        "name",
        "parsed",
        "positions",
        "removals",
        "size",
        "stamps",
        "width",
    )

    def __init__(self, name: FileName, fd: int, inode: int) -> None:
        self.name = name
        self.fd = fd
        self.inode = inode
        # The dense file: open for reading, or -1; and the inode of the one that was looked at last.
        self.dense_fd = -1
        self.dense_inode = 0
        # The header when the file was read last, or None; and its size in bytes.
        self.header: bytes | None = None
        self.size = 0
        # The index of each entry's value among the cells of the file, in the order of the file, and its timestamp when
        # entries were last added or removed.
        self.positions = array("I")
        self.stamps = array("d")
        # The numbers as a dense file has them, behind a header; another object whenever one of them has changed.
        self.data = b""
        # How many numbers each entry has there.
        self.width = dense_file.width(name)
        # Up to where the entries are known, and how many removals the header counted then.
        self.parsed = file_format.HEADER_SIZE
        self.removals = 0

    def numbers(self) -> list[float]:
        """Return the numbers, in the order of the file, behind :data:`~.dense_file.FRONT` zeros."""
        numbers = array("d", self.data).tolist()
        numbers[:FRONT] = [0.0] * FRONT
        return numbers


class Plan(Protocol):
    """Who must know what the files hold."""

    def add_entries(self, file: File, keys: list[bytes]) -> None:
        """Take note of new entries of a file, the last of its positions."""

    def update_stamps(self, file: File) -> None:
        """Take note that series of a file were removed, or came back."""

    def remove_file(self, file: File) -> None:
        """Take note that a file is gone, or is no longer the same."""


class Reading(NamedTuple):
    """What a directory held at one moment.

    Args:
        files: the files that count.
        skipped: how many files were left out, by reason; every reason is there.
        left_out: the name and the reason of each of them.
    """

    files: list[File]
    skipped: dict[str, int]
    left_out: tuple[tuple[str, str], ...] = ()


class _SkippedError(Exception):
    """A file is left out, for the reason given."""


class Reader:
    """Reads the metric files of a directory.

    Args:
        directory: where they are.
        plan: told of what the files hold.
    """

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._directory = directory
        self._plan = plan
        self._files: dict[str, File] = {}
        self._buffer = bytearray(_FIRST_BUFFER)
        # The bytes that were last copied.
        self._copied = 0

    def read(self) -> Reading:
        """Read what has changed.

        Raises:
            OSError: the directory itself cannot be read.
        """
        found: dict[str, int] = {}
        dense: dict[str, int] = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".db"):
                    found[name] = entry.inode()
                elif name.endswith(".dense"):
                    dense[name] = entry.inode()
        for path in [path for path, file in self._files.items() if found.get(path) != file.inode]:
            self._forget(path)

        files: list[File] = []
        left_out: list[tuple[str, str]] = []
        held: dict[int, bool] = {}
        self._copied = 0
        for path in sorted(found):
            try:
                file = self._files.get(path) or self._open(path)
                if file is None:
                    continue
                if file.name.is_live and file.name.slot is not None and not self._is_held(file.name.slot, held):
                    continue
                if file.name.slot is not None:
                    self._find_dense(file, path, dense)
                self._refresh(file)
                files.append(file)
            except FileNotFoundError:
                continue  # deleted since the listing: the next holder of a slot deletes the last one's live gauges
            except _SkippedError as reason:
                left_out.append((path, str(reason)))
                self._forget(path)
        if self._copied <= _FIRST_BUFFER < len(self._buffer):
            self._buffer = bytearray(_FIRST_BUFFER)
        skipped = dict.fromkeys(SKIP_REASONS, 0)
        for _, why in left_out:
            skipped[why] += 1
        return Reading(files, skipped, tuple(left_out))

    def close(self) -> None:
        """Let go of all files."""
        for path in list(self._files):
            self._forget(path)

    def __del__(self) -> None:
        # Descriptors are mere numbers: nobody else closes those of a reader that was dropped.
        for file in self._files.values():
            _close(file)

    def _forget(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            self._plan.remove_file(file)
            _close(file)

    def _is_held(self, slot: int, held: dict[int, bool]) -> bool:
        if slot not in held:
            # A lock file that cannot be asked must not hide the values of a process that may well be alive.
            held[slot] = True
            with contextlib.suppress(OSError):
                held[slot] = lease.is_held(self._directory, slot)
        return held[slot]

    def _open(self, path: str) -> File | None:
        name = file_format.parse_name(path)
        if name is None:
            return None
        try:
            # O_NONBLOCK: opening a FIFO would wait for a writer, for ever if there is none.
            fd = os.open(self._directory / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _SkippedError(_why_not(self._directory / path)) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise _SkippedError("not_a_file")
        file = self._files[path] = File(name, fd, status.st_ino)
        return file

    def _find_dense(self, file: File, path: str, dense: dict[str, int]) -> None:
        """Open the dense file beside a metric file, if it is another one than the last time."""
        name = dense_file.file_name(path)
        inode = dense.get(name, 0)
        if inode == file.dense_inode:
            return
        if file.dense_fd >= 0:
            os.close(file.dense_fd)
            file.dense_fd = -1
        file.dense_inode = inode
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            file.dense_fd = os.open(self._directory / name, flags)

    def _refresh(self, file: File) -> None:
        try:
            header = os.pread(file.fd, file_format.HEADER_SIZE, 0)
            size = os.fstat(file.fd).st_size
            cells: memoryview[float] | None = None
            if header != file.header or size != file.size:
                file.size = size
                used = file_format.used_bytes(header, size)
                if used < file.parsed:
                    if file.positions:
                        raise CorruptFileError("shorter than it was")
                    return
                removals = file_format.removals(header)
                if used > file.parsed:
                    cells = self._copy(file, used)
                    self._parse(file, used, cells)
                elif removals != file.removals and file.positions:
                    cells = self._copy(file, used)
                    file.stamps = _stamps(file, cells)
                    self._plan.update_stamps(file)
                file.removals = removals
                file.header = header
            data = _dense(file) or _gathered(file, cells or self._copy(file, file.parsed))
        except CorruptFileError as error:
            raise _SkippedError("corrupt") from error
        except OSError as error:
            raise _SkippedError("unreadable") from error
        if data != file.data:
            file.data = data

    def _copy(self, file: File, used: int) -> "memoryview[float]":
        """Copy what is in use, and return it as cells that the next copy overwrites.

        Read rather than mapped: a mapped file that is cut short under the reader is a SIGBUS.
        """
        if used > len(self._buffer):
            self._buffer = bytearray(used)
        self._copied = max(self._copied, used)
        target = memoryview(self._buffer)[:used]
        if os.preadv(file.fd, [target], 0) < used:
            raise CorruptFileError("cut short while it was read")
        return target.cast("d")

    def _parse(self, file: File, used: int, cells: "memoryview[float]") -> None:
        """Parse the entries that were appended since the last time."""
        keys = []
        positions = array("I")
        for key, position in file_format.iterate_entries(self._buffer, used, file.parsed):
            keys.append(key)
            positions.append(position // 8)
        file.positions.extend(positions)
        file.parsed = used
        file.stamps = _stamps(file, cells)
        self._plan.add_entries(file, keys)


def _dense(file: File) -> bytes | None:
    """Return the numbers as the dense file has them; None if it has not all of them, or is another file's."""
    if file.dense_fd < 0:
        return None
    size = dense_file.HEADER_SIZE + 8 * file.width * len(file.positions)
    try:
        data = os.pread(file.dense_fd, size, 0)
    except OSError:
        return None
    return data if len(data) == size and data.startswith(dense_file.header(file.inode)) else None


def _gathered(file: File, cells: "memoryview[float]") -> bytes:
    """Return the numbers that a dense file would have, from the cells of the metric file."""
    if file.width == 1:
        numbers = array("d", map(cells.__getitem__, file.positions))
    else:
        numbers = array("d", (cells[at + more] for at in file.positions for more in range(file.width)))
    return _NO_HEADER + numbers.tobytes()


def _stamps(file: File, cells: "memoryview[float]") -> "array[float]":
    return array("d", [cells[at + 1] for at in file.positions])


def _close(file: File) -> None:
    os.close(file.fd)
    if file.dense_fd >= 0:
        os.close(file.dense_fd)


def _why_not(path: Path) -> str:
    try:
        return "unreadable" if stat.S_ISREG(path.lstat().st_mode) else "not_a_file"
    except OSError:
        return "unreadable"
