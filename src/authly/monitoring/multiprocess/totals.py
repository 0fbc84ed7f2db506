"""The totals of files whose values are added up.

Owns how to find them with little work: numbers that did not change since the last time are not looked at again. A total
is always the sum of all its numbers in the order of the files, never adjusted by differences: those would add up their
errors from scrape to scrape, and a counter could fall by one of them.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, zip_longest
from operator import itemgetter, ne

from authly.monitoring.multiprocess.dense_file import FRONT as DENSE_FRONT
from authly.monitoring.multiprocess.dense_file import HEADER_SIZE
from authly.monitoring.multiprocess.families import Numbers
from authly.monitoring.multiprocess.reader import File

# The column of an entry that is left out.
ABSENT = -1
# Zeros in front of the numbers of a file, when they are in the order of the columns.
_FRONT = 2
# Files whose numbers are in memory at once, while they are added up.
_AT_ONCE = 8
# Numbers that are compared at once with what they were.
_BLOCK = 64
_BLOCK_SIZE = 8 * _BLOCK
# To find a single total takes longer than one of all: worth it only if less than such a part has changed.
_FEW = 4
# Indices that many files share: each once in memory.
_indices: list[int] = []


class _Source:
    """A file, as a part of the totals: where the number of each column is, and what the numbers were."""

    __slots__ = ("columns", "data", "pick", "wanted")

    def __init__(self, columns: list[int], count: int) -> None:
        _indices.extend(range(len(_indices), DENSE_FRONT + len(columns)))
        wanted = [0] * (_FRONT + count)
        for number, column in enumerate(columns, DENSE_FRONT):
            if column != ABSENT:
                wanted[_FRONT + column] = _indices[number]
        self.columns = columns
        self.wanted = array("I", wanted)
        # With two indices or more a getter returns a tuple, and never a single number.
        self.pick: Callable[[list[float]], Numbers] = itemgetter(*wanted)
        self.data = b""

    def changed_blocks(self, data: bytes) -> list[int]:
        """Return where those blocks of the numbers begin that are not what they were, in bytes."""
        before = self.data
        if data is before:
            return []
        starts = range(HEADER_SIZE, len(data), _BLOCK_SIZE)
        return [start for start in starts if data[start : start + _BLOCK_SIZE] != before[start : start + _BLOCK_SIZE]]

    def changed_columns(self, data: bytes, blocks: Iterable[int]) -> Iterable[int]:
        """Return the columns of the numbers in those blocks that are not what they were."""
        for start in blocks:
            cells = slice(start, start + _BLOCK_SIZE)
            differ = map(ne, array("d", data[cells]), array("d", self.data[cells]))
            first = start // 8 - DENSE_FRONT
            yield from compress(self.columns[first : first + _BLOCK], differ)


class Totals:
    """The totals of the columns of one kind of file."""

    def __init__(self) -> None:
        self._sources: dict[File, _Source] = {}
        self._files: list[File] = []
        self._count = 0
        self.values: list[float] = []

    def place(self, file: File, columns: list[int], count: int) -> None:
        """Take note of where the numbers of a file belong.

        Args:
            file: one that is known, or a new one.
            columns: of each of its entries; :data:`ABSENT` for one that is left out.
            count: how many columns there are.
        """
        self._sources[file] = _Source(columns, count)
        self.forget_values()

    def remove(self, file: File) -> None:
        """Forget a file."""
        self._sources.pop(file, None)
        self.forget_values()

    def forget_values(self) -> None:
        """Find all totals anew the next time."""
        self._files = []

    def update(self, files: list[File], count: int) -> Iterable[int] | None:
        """Find the totals.

        Args:
            files: that count.
            count: how many columns there are.

        Returns:
            The columns whose totals may have changed; None for all of them.
        """
        sources = [self._sources[file] for file in files]
        columns = self._changed(files, sources) if files == self._files and count == self._count else None
        for file, source in zip(files, sources, strict=True):
            source.data = file.data
        self._files, self._count = files, count
        if columns is None:
            self.values = _all(files, sources, count)
        else:
            self._find(columns, files, sources)
        return columns

    @staticmethod
    def _changed(files: list[File], sources: list[_Source]) -> set[int] | None:
        """Return the columns in which a number has changed; None if that is worth no search."""
        blocks = [source.changed_blocks(file.data) for file, source in zip(files, sources, strict=True)]
        if _FEW * sum(map(len, blocks)) > sum(len(file.data) // _BLOCK_SIZE + 1 for file in files):
            return None
        columns: set[int] = set()
        for file, source, changed in zip(files, sources, blocks, strict=True):
            columns.update(source.changed_columns(file.data, changed))
        columns.discard(ABSENT)
        return columns

    def _find(self, columns: Iterable[int], files: list[File], sources: list[_Source]) -> None:
        cells: list[memoryview[float]] = [memoryview(file.data).cast("d") for file in files]
        places = [source.wanted for source in sources]
        for column in columns:
            # A file that has no such column has a number of its header in its place; or was placed before it came.
            at = _FRONT + column
            numbers = [
                numbers[wanted[at]] if at < len(wanted) and wanted[at] else 0.0
                for numbers, wanted in zip(cells, places, strict=True)
            ]
            # In the same steps as all totals: where an addition loses digits, it loses the same ones.
            total = sum(numbers[:_AT_ONCE])
            for start in range(_AT_ONCE, len(numbers), _AT_ONCE):
                total = sum((total, *numbers[start : start + _AT_ONCE]))
            self.values[column] = total


def _all(files: list[File], sources: list[_Source], count: int) -> list[float]:
    totals: list[float] = []
    for start in range(0, len(files), _AT_ONCE):
        rows: list[Sequence[float]] = [totals] if totals else []
        part = slice(start, start + _AT_ONCE)
        rows += [source.pick(file.numbers()) for file, source in zip(files[part], sources[part], strict=True)]
        # Files that were placed before a column was added are shorter.
        alike = len({len(row) for row in rows}) == 1
        totals = list(map(sum, zip(*rows, strict=True) if alike else zip_longest(*rows, fillvalue=0.0)))
    del totals[:_FRONT]
    totals += [0.0] * (count - len(totals))
    return totals
