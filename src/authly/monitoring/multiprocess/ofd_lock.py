"""Open-file-description locks: locks that the kernel ends with the last process that shares the description.

Unlike ``flock`` they can be asked about without being taken, and unlike classic POSIX locks they survive the closing
of an unrelated descriptor of the same file. See fcntl(2), "Open file description locks (non-POSIX)".
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

# struct flock of 64-bit Linux: short l_type, short l_whence, off_t l_start, off_t l_len, pid_t l_pid.
# The native alignment adds the padding; l_pid must be 0 for these locks.
_FLOCK = struct.Struct("@hhqqi4x")


def _whole_file(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)


def open_lock_file(path: Path) -> int:
    """Open, and create where needed, a lock file; return its descriptor, which no executed program inherits."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(fd: int) -> bool:
    """Take the exclusive lock unless somebody else holds one; tell whether it was taken."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def is_locked(fd: int) -> bool:
    """Tell whether another description holds a lock on the file, without taking one for even a moment."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
