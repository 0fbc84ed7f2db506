"""From a directory to the entries of its files.

Owns which files count (live gauges only while their writer lives) and what happens to one that cannot be read: it is
left out, counted by reason, and costs nothing else.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.multiprocess import file_format, lease
from authly.monitoring.multiprocess.file_format import CorruptFileError, FileName

SKIP_REASONS = ("corrupt", "not_a_file", "unreadable")
_MAX_FILE_SIZE = 1 << 30


class File(NamedTuple):
    """A metric file as it was at one moment.

    Args:
        name: what its name says.
        entries: for each entry the key, the value and the timestamp.
        size: the size of the file in bytes.
    """

    name: FileName
    entries: list[tuple[bytes, float, float]]
    size: int


class Snapshot(NamedTuple):
    """What a directory held at one moment.

    Args:
        files: the files that count, in the order of their names.
        skipped: how many files were left out, by reason; every reason is there.
    """

    files: list[File]
    skipped: dict[str, int]


class _SkippedError(Exception):
    """A file is left out, for the reason given."""


def read(directory: Path) -> Snapshot:
    """Read every metric file of a directory.

    Raises:
        OSError: the directory itself cannot be read.
    """
    files: list[File] = []
    skipped = dict.fromkeys(SKIP_REASONS, 0)
    held: dict[int, bool] = {}
    for entry in sorted(os.listdir(directory)):
        name = file_format.parse_name(entry)
        if name is None:
            continue
        if name.is_live and name.slot is not None:
            if name.slot not in held:
                held[name.slot] = _is_held(directory, name.slot)
            if not held[name.slot]:
                continue
        try:
            files.append(_read_file(directory / entry, name))
        except FileNotFoundError:
            continue  # deleted since the listing: the next holder of a slot deletes the last one's live gauges
        except _SkippedError as reason:
            skipped[str(reason)] += 1
    return Snapshot(files, skipped)


def _is_held(directory: Path, slot: int) -> bool:
    # A lock file that cannot be asked must not hide the values of a process that may well be alive.
    with contextlib.suppress(OSError):
        return lease.is_held(directory, slot)
    return True


def _read_file(path: Path, name: FileName) -> File:
    data = _contents(path)
    try:
        used = file_format.read_used(data)
        positions = list(file_format.iterate_entries(data, used))
    except CorruptFileError as error:
        raise _SkippedError("corrupt") from error
    # The bytes are a copy, and aligned: one view gives every number without unpacking.
    numbers = memoryview(data)[: len(data) - len(data) % 8].cast("d")
    entries = [(key, numbers[at // 8], numbers[at // 8 + 1]) for key, at in positions]
    return File(name, entries, len(data))


def _contents(path: Path) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer, for ever if there is none.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _SkippedError("not_a_file" if error.errno in {errno.ELOOP, errno.ENXIO} else "unreadable") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _SkippedError("not_a_file")
        if status.st_size > _MAX_FILE_SIZE:
            raise _SkippedError("corrupt")
        # Read rather than mapped: a mapped file that is cut short under the reader is a SIGBUS.
        return os.pread(fd, status.st_size, 0)
    except OSError as error:
        raise _SkippedError("unreadable") from error
    finally:
        os.close(fd)
