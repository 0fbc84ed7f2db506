"""A file mapped for writing, its blocks reserved first."""

import contextlib
import mmap
import os


class Mapping:
    """The cells of a mapped file, in the widths in which they are written.

    Args:
        fd: the file.
        size: how many bytes of it; they must be there.
    """

    __slots__ = ("_mapping", "bytes", "doubles", "integers")

    def __init__(self, fd: int, size: int) -> None:
        self._mapping = mmap.mmap(fd, size)
        # A multiple of 8 in any case: a foreign file may have any length.
        self.bytes = memoryview(self._mapping)[: size - size % 8]
        self.doubles: memoryview[float] = self.bytes.cast("d")
        self.integers: memoryview[int] = self.bytes.cast("i")

    @classmethod
    def reserve(cls, fd: int, size: int) -> "Mapping":
        """Reserve blocks up to a size, and map them.

        Not merely truncated: a write to a hole of a full disk is a SIGBUS, which kills the process.

        Raises:
            OSError: there is no room.
        """
        os.posix_fallocate(fd, 0, size)
        return cls(fd, size)

    def close(self) -> None:
        """Let go; whoever has the cells gets a ValueError from now on."""
        for view in (self.doubles, self.integers, self.bytes):
            view.release()
        # Another thread may be between two bytecodes of a write; its view keeps the mapping a moment longer.
        with contextlib.suppress(BufferError):
            self._mapping.close()
