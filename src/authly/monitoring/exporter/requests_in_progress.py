"""How many requests each worker is answering: from the gauge that its application keeps, whichever that is."""

import json
import os
from pathlib import Path
from typing import Final

from authly.monitoring.multiprocess import file_format
from authly.monitoring.multiprocess.file_format import CorruptFileError

# The gauges of Authly, of its middlewares, of starlette_exporter and of prometheus-fastapi-instrumentator end so.
_SUFFIXES: Final = ("requests_in_progress", "requests_inprogress")


class RequestsInProgress:
    """Reads the gauges of the slots, one by one.

    Args:
        directory: where the metric files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # For each file, by inode and bytes in use, which cells have the numbers of each gauge.
        self._known: dict[int, tuple[tuple[int, int], dict[str, list[int]]]] = {}

    def of(self, slot: int) -> float | None:
        """Return the number for the holder of a slot; None if its application keeps no such gauge.

        Of several gauges the greatest counts: two middlewares that count the same requests are one number.
        """
        try:
            inode, data = _read(f"{self._directory}/{file_format.file_name('gauge_livesum', slot)}")
            used = file_format.used_bytes(data[: file_format.HEADER_SIZE], len(data))
            if used == 0:
                return None
            places = self._places(slot, (inode, used), data)
        except (OSError, CorruptFileError, ValueError):
            return None
        cells = memoryview(data)[:used].cast("d")
        numbers = [sum([max(0.0, cells[place]) for place in gauge]) for gauge in places.values()]
        return max(numbers, default=None)

    def _places(self, slot: int, version: tuple[int, int], data: bytes) -> dict[str, list[int]]:
        known = self._known.get(slot)
        if known is None or known[0] != version:
            places: dict[str, list[int]] = {}
            for key, position in file_format.iterate_entries(data, version[1]):
                name = str(json.loads(key)[0])
                if name.endswith(_SUFFIXES):
                    places.setdefault(name, []).append(position // 8)
            known = self._known[slot] = version, places
        return known[1]


def _read(path: str) -> tuple[int, bytes]:
    """Return the inode of a file, and what it holds."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        return status.st_ino, os.read(fd, status.st_size)
    finally:
        os.close(fd)
