"""From a directory to the numbers in its files, incrementally.

Owns which files count (live gauges only while their writer lives), what has changed since the last time, and what
happens to a file that cannot be read: it is left out, counted by reason, and costs nothing else.

A key is parsed once, when its entry first appears; after that a file is one copy of its bytes and one gathering of its
numbers. A file in which nothing was written since costs a read of its header.
"""

import contextlib
import os
import stat
from array import array
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from authly.monitoring.multiprocess import file_format, lease
from authly.monitoring.multiprocess.file_format import CorruptFileError, FileName

SKIP_REASONS = ("corrupt", "not_a_file", "unreadable")
_FIRST_BUFFER = 1 << 16
# The last cell of the buffer is always 0: the number of a series that a file does not have.
ABSENT = -1

Numbers = tuple[float, ...]


class File:
    """A metric file that is read again and again.

    Args:
        name: what its name says.
        fd: open for reading, for as long as the file is known.
        inode: what tells it from another file of the same name.
    """

    __slots__ = ("fd", "inode", "name", "numbers", "parsed", "picker", "positions", "quiet", "seen", "size", "stamps")

    def __init__(self, name: FileName, fd: int, inode: int) -> None:
        self.name = name
        self.fd = fd
        self.inode = inode
        # In bytes.
        self.size = 0
        # The index of each entry's value among the cells of the file, in the order of the file, and its timestamp when
        # entries were last added or removed.
        self.positions = array("I")
        self.stamps = array("d")
        # What was picked from the cells at the last change; another tuple at each change.
        self.numbers: Numbers = ()
        self.picker: Callable[[memoryview[float]], Numbers] | None = None
        # Up to where the entries are known.
        self.parsed = file_format.HEADER_SIZE
        # The header at the last reading, and whether it was the same then as at the reading before.
        self.seen = b""
        self.quiet = False

    def pick(self, indices: Iterable[int]) -> None:
        """Choose which cells :attr:`numbers` holds behind two that mean nothing, and in which order.

        Args:
            indices: of cells, or :data:`ABSENT` for a 0.
        """
        # With two indices or more a getter returns a tuple, and never a single number.
        self.picker = itemgetter(ABSENT, ABSENT, *indices)


class Plan(Protocol):
    """Who decides, for each file, which numbers are wanted."""

    def add_entries(self, file: File, keys: list[bytes]) -> None:
        """Take note of new entries of a file, the last of its positions; call :meth:`File.pick`."""

    def update_stamps(self, file: File) -> None:
        """Take note that series of a file were removed, or came back."""

    def remove_file(self, file: File) -> None:
        """Take note that a file is gone, or is no longer the same."""


class Reading(NamedTuple):
    """What a directory held at one moment.

    Args:
        files: the files that count.
        skipped: how many files were left out, by reason; every reason is there.
    """

    files: list[File]
    skipped: dict[str, int]


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
        self._buffer = bytearray()
        self._cells: memoryview[float] = memoryview(b"").cast("d")
        self._allocate(_FIRST_BUFFER)

    def read(self) -> Reading:
        """Read what has changed.

        Raises:
            OSError: the directory itself cannot be read.
        """
        found: dict[str, int] = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(".db"):
                    found[entry.name] = entry.inode()
        for path in [path for path, file in self._files.items() if found.get(path) != file.inode]:
            self._forget(path)

        files: list[File] = []
        skipped = dict.fromkeys(SKIP_REASONS, 0)
        held: dict[int, bool] = {}
        for path in sorted(found):
            try:
                file = self._files.get(path) or self._open(path)
                if file is None:
                    continue
                if file.name.is_live and file.name.slot is not None and not self._is_held(file.name.slot, held):
                    continue
                self._refresh(file)
                files.append(file)
            except FileNotFoundError:
                continue  # deleted since the listing: the next holder of a slot deletes the last one's live gauges
            except _SkippedError as reason:
                skipped[str(reason)] += 1
                self._forget(path)
        return Reading(files, skipped)

    def close(self) -> None:
        """Let go of all files."""
        for path in list(self._files):
            self._forget(path)

    def __del__(self) -> None:
        # Descriptors are mere numbers: nobody else closes those of a reader that was dropped.
        for file in self._files.values():
            os.close(file.fd)

    def _forget(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            self._plan.remove_file(file)
            os.close(file.fd)

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

    def _refresh(self, file: File) -> None:
        try:
            header = os.pread(file.fd, file_format.HEADER_SIZE, 0)
            if file.quiet and header == file.seen:
                return
            # Only Authly's own files count their changes. And not on every processor does a number become visible
            # before the count of changes does: a file is left alone only after one more reading that found no change.
            quiet = header == file.seen and file.name.slot is not None
            file.size = os.fstat(file.fd).st_size
            used = file_format.used_bytes(header, file.size)
            if used < file.parsed:
                if file.positions:
                    raise CorruptFileError("shorter than it was")
                return
            self._copy(file, used)
            if used > file.parsed:
                self._parse(file, used)
            elif file.seen and file_format.removals(header) != file_format.removals(file.seen):
                file.stamps = array("d", [self._cells[at + 1] for at in file.positions])
                self._plan.update_stamps(file)
            file.seen, file.quiet = header, quiet
        except CorruptFileError as error:
            raise _SkippedError("corrupt") from error
        except OSError as error:
            raise _SkippedError("unreadable") from error
        if file.picker is not None:
            numbers = file.picker(self._cells)
            if numbers != file.numbers:
                file.numbers = numbers

    def _copy(self, file: File, used: int) -> None:
        """Copy what is in use to the buffer.

        Read rather than mapped: a mapped file that is cut short under the reader is a SIGBUS. The buffer stays in the
        processor's cache, and so a copy costs no more than mapping the file for the moment would.
        """
        if used + 8 > len(self._buffer):
            self._allocate(used + 8)
        with memoryview(self._buffer)[:used] as target:
            if os.preadv(file.fd, [target], 0) < used:
                raise CorruptFileError("cut short while it was read")

    def _parse(self, file: File, used: int) -> None:
        """Parse the entries that were appended since the last time."""
        keys = []
        positions = array("I")
        for key, position in file_format.iterate_entries(self._buffer, used, file.parsed):
            keys.append(key)
            positions.append(position // 8)
        file.positions.extend(positions)
        file.parsed = used
        file.stamps = array("d", [self._cells[at + 1] for at in file.positions])
        self._plan.add_entries(file, keys)

    def _allocate(self, size: int) -> None:
        size = max(2 * len(self._buffer), size + -size % 8)
        self._cells.release()
        self._buffer = bytearray(size)
        self._cells = memoryview(self._buffer).cast("d")


def _why_not(path: Path) -> str:
    try:
        return "unreadable" if stat.S_ISREG(path.lstat().st_mode) else "not_a_file"
    except OSError:
        return "unreadable"
