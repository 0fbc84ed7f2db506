"""A small disk in memory, which can be filled."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE = "32m"


class Disk:
    """A file system of its own.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def is_full(self) -> bool:
        """Whether it was filled."""
        return self._ballast.exists()

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("wb") as ballast:
            # What others free meanwhile is taken too, block by block.
            with contextlib.suppress(OSError):
                disk = os.statvfs(self.path)
                os.posix_fallocate(ballast.fileno(), 0, disk.f_bavail * disk.f_frsize)
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, 4096)

    def free(self) -> None:
        """Leave room again."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk() -> Iterator[Disk | None]:
    """Mount one for the length of a block; None where that is not allowed (it takes root)."""
    folder = Path(tempfile.mkdtemp(prefix="authly-disk-"))
    mounted = _succeeds("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "tmpfs", str(folder))
    try:
        yield Disk(folder) if mounted else None
    finally:
        # A process that is just ending may still be there.
        for _ in range(50 if mounted else 0):
            if _succeeds("umount", str(folder)):
                break
            time.sleep(0.1)
        folder.rmdir()


def _succeeds(program: str, *arguments: str) -> bool:
    path = shutil.which(program)
    return path is not None and subprocess.run([path, *arguments], check=False, capture_output=True).returncode == 0
