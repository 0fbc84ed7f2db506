"""The value class: where a metric of prometheus-client keeps each of its numbers.

``install`` puts it at the seam that prometheus-client documents for process identifiers of one's own
(``prometheus_client.values.ValueClass``), so that every metric constructed afterwards goes through it, those of
third-party libraries too.

A value is one aligned 8-byte cell of a mapped file, and one of the dense file beside it; writing it is one store to
each. What can go wrong, a full disk first of all, goes wrong when a series first appears: its value then lives in
memory, the loss is counted, and the request goes on.
"""

import contextlib
import errno
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import prometheus_client.metrics
import prometheus_client.registry
import prometheus_client.values
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.samples import Exemplar

from authly.monitoring.definitions import Definition, closed
from authly.monitoring.multiprocess import dense_file, exemplars, file_format, retention
from authly.monitoring.multiprocess.exemplars import ExemplarFile
from authly.monitoring.multiprocess.lease import Lease
from authly.monitoring.multiprocess.value_file import ValueFile, compact

_RETRY_SECONDS: Final = 1.0
DROP_REASONS: Final = (
    "budget",
    "corrupt_file",
    "disk_full",
    "io_error",
    "no_permission",
    "quota",
    "read_only",
    "too_many_files",
)
DROPPED: Final = Definition(
    "authly_metrics_dropped_series_total",
    "counter",
    "Series kept out of the exposition because their values could not be stored.",
    {"reason": closed(DROP_REASONS)},
    detail="`budget` is `AUTHLY_METRICS_MAX_BYTES`.",
    example="increase(authly_metrics_dropped_series_total[1h]) > 0",
)
DROPPED_SERIES: Final = DROPPED.family
_REASON_OF_ERRNO: Final = {
    errno.EACCES: "no_permission",
    errno.EPERM: "no_permission",
    errno.EDQUOT: "quota",
    errno.EMFILE: "too_many_files",
    errno.ENFILE: "too_many_files",
    errno.ENOSPC: "disk_full",
    errno.EROFS: "read_only",
}


class BudgetExceededError(OSError):
    """The files of this process would take more bytes than they may."""


class Cells(Protocol):
    """Numbers by index: a mapped file, or memory standing in for one."""

    def __getitem__(self, index: int, /) -> float: ...

    def __setitem__(self, index: int, value: float, /) -> None: ...


Place = tuple[Cells, int, Cells, int]
# Of memory that stands in for a cell: the index of what takes the place of the dense file.
_WRITTEN: Final = 2


class _Stand:
    """Memory in the place of a cell that could not be stored; the value moves to the file once there is room again."""

    __slots__ = ("_generation", "_owner", "_store", "numbers")

    def __init__(self, owner: "StoredValue", store: "Store") -> None:
        self._owner = owner
        self._store = store
        self._generation = store.generation
        # Value and timestamp; behind them what would be in the dense file, to which each write comes last.
        self.numbers = [0.0, 0.0, 0.0, 0.0]

    def __getitem__(self, index: int) -> float:
        if self._generation != self._store.generation:
            raise ValueError("these numbers are of the parent process")
        return self.numbers[index]

    def __setitem__(self, index: int, value: float) -> None:
        if self._generation != self._store.generation:
            raise ValueError("these numbers are of the parent process")
        self.numbers[index] = value
        if index == _WRITTEN:
            self._owner.settle()


class Store:
    """The metric files of this process: one slot, one file for each type of metric.

    Args:
        directory: the directory of the instance.
        max_bytes: how many bytes of it this process may take; 0 sets no limit.
        clock: the time, in seconds since the epoch.
        monotonic: the clock that spaces out new attempts after a failure.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int = 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        # Reentrant: a signal handler or a finalizer may count something while this thread is counting.
        self.lock = threading.RLock()
        self._max_bytes = max_bytes
        self._clock = clock
        self._monotonic = monotonic
        self._lease: Lease | None = None
        self._files: dict[str, ValueFile] = {}
        self._exemplars: ExemplarFile | None = None
        # For each type of metric why its last attempt to find room failed, and when to try again.
        self._failures: dict[str, tuple[OSError | file_format.CorruptFileError, float]] = {}
        # Values for which memory stands in.
        self._homeless: weakref.WeakSet[StoredValue] = weakref.WeakSet()
        # Counts how often all places were given up, so that memory standing in for a cell can tell it is the parent's.
        self.generation = 0
        self._dropped: dict[str, StoredValue] = {}
        # For each kind of file the keys that may be dropped from it before it is opened.
        self._expired: dict[str, frozenset[bytes]] = {}
        # How many values of this process there are for each key; a series goes with the last.
        self._references: dict[tuple[str, bytes], int] = {}
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    @property
    def slot(self) -> int | None:
        """The slot that this process holds, if it has written anything."""
        return self._lease.slot if self._lease else None

    def _after_fork_in_child(self) -> None:
        # Another thread of the parent may have held it, and what it was doing does not matter here. Not taken before
        # the fork instead: threads would wait for it with locks of their metrics in their hands, for the child to find.
        _renew(self.lock)
        self.close()

    def close(self) -> None:
        """Let go of slot and files; each value finds its place again at its next use.

        The work is the same for ten metrics and for ten thousand: cells of closed files raise ValueError, and that
        is how a value notices.
        """
        with self.lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            if self._exemplars is not None:
                self._exemplars.close()
                self._exemplars = None
            self._dropped.clear()
            self._failures.clear()
            self._homeless.clear()
            self.generation += 1
            if self._lease is not None:
                self._lease.close()
                self._lease = None

    def place(self, prefix: str, key: bytes) -> Place:
        """Return where the value of a key is, leasing, creating and growing what it takes.

        Raises:
            OSError: there is no room, no permission, no descriptor.
            CorruptFileError: the file is not a metric file; it has been put aside.
        """
        failure, retry_at = self._failures.get(prefix, (None, 0.0))
        # Asking a full disk again for each series of each request would be slow, and would change nothing.
        if failure is not None and self._monotonic() < retry_at:
            # Each raise of one exception makes its traceback longer.
            raise failure.with_traceback(None)
        try:
            place: Place = self._file(prefix).place(key)
        except (OSError, file_format.CorruptFileError) as error:
            self._failures[prefix] = error.with_traceback(None), self._monotonic() + _RETRY_SECONDS
            raise
        if failure is not None:
            self._failures.pop(prefix, None)
            # There is room again: for what waits for its next write too, which may never come.
            for value in list(self._homeless):
                value.settle()
        return place

    def shelter(self, value: "StoredValue") -> Place:
        """Return memory to stand in for the cell of a value."""
        self._homeless.add(value)
        stand = _Stand(value, self)
        return stand, 0, stand, _WRITTEN

    def house(self, value: "StoredValue") -> None:
        """Note that a value has found its cell."""
        self._homeless.discard(value)

    def refer(self, prefix: str, key: bytes) -> None:
        """Note that there is one more value for a key."""
        self._references[prefix, key] = self._references.get((prefix, key), 0) + 1

    def release(self, prefix: str, key: bytes) -> None:
        """Note that there is one value less for a key; with the last, its series leaves the exposition."""
        left = self._references.get((prefix, key), 1) - 1
        if left:
            self._references[prefix, key] = left
            return
        self._references.pop((prefix, key), None)
        file = self._files.get(prefix)
        if file is not None:
            file.remove(key)

    def _file(self, prefix: str) -> ValueFile:
        file = self._files.get(prefix)
        if file is None:
            slot = self._leased().slot
            # To lease is to prepare the counters of drops, which are in a file too.
            if prefix in self._files:
                return self._files[prefix]
            path = self.directory / file_format.file_name(prefix, slot)
            _, _, mode = prefix.partition("_")
            clock = None if mode else self._clock
            width = dense_file.width_of_mode(mode)
            try:
                with contextlib.suppress(OSError):
                    compact(path, self._expired.get(prefix, frozenset()))
                file = ValueFile(path, clock, self._allow, width)
            except file_format.CorruptFileError:
                # What it holds cannot be read by anybody. Kept for whoever wants to know why, out of the way.
                path.replace(path.with_suffix(".corrupt"))
                file = self._files[prefix] = ValueFile(path, clock, self._allow, width)
                self.drop("corrupt_file")
            self._files[prefix] = file
        return file

    def _allow(self, more: int) -> None:
        taken = sum(file.size for file in self._files.values())
        taken += self._exemplars.size if self._exemplars else 0
        if self._max_bytes and taken + more > self._max_bytes:
            raise BudgetExceededError(errno.EDQUOT, f"{taken} of {self._max_bytes} bytes are taken")

    def take_slot(self) -> None:
        """Lease a slot now rather than at the first write; what stands against it is met again then."""
        with self.lock, contextlib.suppress(OSError):
            self._leased()

    def _leased(self) -> Lease:
        if self._lease is None:
            self._lease = Lease.acquire(self.directory)
            self._expired = retention.read(self.directory)
            self._delete_live_files(self._lease.slot)
            self._prepare_drop_counters()
        return self._lease

    def _delete_live_files(self, slot: int) -> None:
        """Delete the live gauges of the slot's last holder: they are about a process that is no more."""
        for mode in file_format.GAUGE_MODES:
            # What cannot be deleted will be found unfit when it is opened.
            with contextlib.suppress(OSError):
                path = self.directory / file_format.file_name(f"gauge_live{mode}", slot)
                path.unlink()
                path.with_name(dense_file.file_name(path.name)).unlink()

    def _prepare_drop_counters(self) -> None:
        # Now, while there may be room: on a full disk there is none left to say so.
        for reason in DROP_REASONS:
            self._dropped[reason] = StoredValue(
                self, "counter", DROPPED_SERIES, DROPPED.name, ("reason",), (reason,), DROPPED.help
            )

    @property
    def exemplars(self) -> ExemplarFile | None:
        """Where this process keeps its exemplars, if it has written anything."""
        if self._exemplars is None and self._lease is not None:
            path = self.directory / exemplars.file_name(self._lease.slot)
            self._exemplars = ExemplarFile(path, self._allow, self._monotonic)
        return self._exemplars

    def drop(self, reason: str) -> None:
        """Count a series that could not be stored."""
        counter = self._dropped.get(reason)
        if counter is not None:
            counter.inc(1)


def _reason(error: OSError | file_format.CorruptFileError) -> str:
    if isinstance(error, BudgetExceededError):
        return "budget"
    if isinstance(error, OSError):
        return _REASON_OF_ERRNO.get(error.errno or 0, "io_error")
    return "corrupt_file"


class StoredValue:
    """One number of a metric, in a cell of a mapped file.

    The signature after ``store`` is the one that prometheus-client's metrics call their value class with.
    """

    __slots__ = (
        "__weakref__",
        "_cells",
        "_counted_as_dropped",
        "_dense",
        "_dense_index",
        "_index",
        "_key",
        "_lock",
        "_prefix",
        "_store",
    )

    _multiprocess = True
    # Whether the dense file has the timestamp too.
    _is_timed = False

    def __init__(
        self,
        store: Store,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._store = store
        self._lock = store.lock
        self._prefix = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text).encode()
        self._counted_as_dropped = False
        self._cells: Cells
        self._dense: Cells
        self._index = self._dense_index = 0
        with self._lock:
            store.refer(self._prefix, self._key)
            self._place()

    def __del__(self) -> None:
        # A value that nothing refers to any more belongs to a series that was removed. At the end of the process
        # everything is let go of, and nothing is removed.
        if not sys.is_finalizing():
            with self._lock:
                self._store.release(self._prefix, self._key)

    @property
    def place(self) -> Place | None:
        """Where the value is, in files that this process has open; None while memory stands in for it.

        It stays there until the files are closed, and raises ValueError from then on.
        """
        with self._lock:
            if isinstance(self._cells, _Stand):
                return None
            return self._cells, self._index, self._dense, self._dense_index

    def _place(self) -> None:
        """Find the cell of this value, or let memory stand in for it."""
        try:
            self._cells, self._index, self._dense, self._dense_index = self._store.place(self._prefix, self._key)
        except (OSError, file_format.CorruptFileError) as error:
            self._cells, self._index, self._dense, self._dense_index = self._store.shelter(self)
            if not self._counted_as_dropped:
                self._counted_as_dropped = True
                self._store.drop(_reason(error))

    def settle(self) -> None:
        """Move what was kept in memory to a cell, if there is room for it by now."""
        if not isinstance(self._cells, _Stand):
            return
        value, timestamp, *_ = self._cells.numbers
        try:
            place = self._store.place(self._prefix, self._key)
        except (OSError, file_format.CorruptFileError):
            return
        if not isinstance(self._cells, _Stand):
            return  # the store, finding that there is room, has settled this value among all others
        cells, index, dense, dense_index = place
        # A gauge's last value replaces what an earlier holder of the slot left; a counter adds to it. Before the value
        # moves: from then on others write to the cell without asking for the lock (``bound``).
        if not self._prefix.startswith("gauge"):
            value += cells[index]
        cells[index] = dense[dense_index] = value
        self._cells, self._index, self._dense, self._dense_index = place
        if timestamp:
            self._write(value, timestamp)
        self._store.house(self)

    def _write(self, value: float, timestamp: float | None) -> None:
        # The metric file first: it is the truth, and the dense file is made from it.
        self._cells[self._index] = value
        if timestamp:
            self._cells[self._index + 1] = timestamp
            if self._is_timed:
                self._dense[self._dense_index + 1] = timestamp
        self._dense[self._dense_index] = value

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with self._lock:
            try:
                value = self._cells[self._index] + amount
            except ValueError:  # the cells were of a file that is closed: this is a forked child
                self._place()
                value = self._cells[self._index] + amount
            self._cells[self._index] = value
            self._dense[self._dense_index] = value

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value.

        Args:
            value: the new value.
            timestamp: seconds since the epoch, for the gauge modes that keep the most recent value.
        """
        with self._lock:
            try:
                self._write(value, timestamp)
            except ValueError:
                self._place()
                self._write(value, timestamp)

    def get(self) -> float:
        """Return the value as this process's slot has it."""
        with self._lock:
            try:
                return self._cells[self._index]
            except ValueError:
                self._place()
                return self._cells[self._index]

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """Keep the exemplar in the place of the last one; drop it where there is no room, for it or for the value."""
        with self._lock:
            self.get()  # a forked child has another place
            kept = self._store.exemplars
            if kept is not None and not isinstance(self._cells, _Stand):
                labels, value, timestamp = exemplar
                kept.write(self._prefix, self._key, 8 * self._index, labels, value, float(timestamp or 0.0))

    def get_exemplar(self) -> Exemplar | None:
        """Return the exemplar that this process has kept, if it has."""
        with self._lock:
            self.get()
            kept = self._store.exemplars
            found = kept.read(self._prefix, self._key, 8 * self._index) if kept else None
            return Exemplar(dict(found.labels), found.value, found.timestamp) if found else None


class ExtremeValue(StoredValue):
    """The number of a gauge of which the least or the greatest counts: it takes part once it has been set."""

    __slots__ = ()
    _is_timed = True

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with self._lock:
            self.set(self.get() + amount)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value."""
        super().set(value, timestamp or 1.0)


class RecentValue(StoredValue):
    """The number of a gauge of which the most recent counts."""

    __slots__ = ()
    _is_timed = True


_CLASSES: Final = {"max": ExtremeValue, "min": ExtremeValue, "mostrecent": RecentValue}


def value_class(store: Store) -> Callable[..., StoredValue]:
    """Return what prometheus-client is to call for each new value."""

    def value(*arguments: Any, **keywords: Any) -> StoredValue:
        mode = str(keywords.get("multiprocess_mode", "")).removeprefix("live")
        return _CLASSES.get(mode, StoredValue)(store, *arguments, **keywords)

    value._multiprocess = True  # type: ignore[attr-defined]  # as on prometheus-client's own classes
    return value


def _renew(lock: Any) -> None:
    """Make a lock free in a forked child, whoever held it in the parent, as the standard library does with its own."""
    lock._at_fork_reinit()


def _renew_locks_after_fork() -> None:
    """Let a forked child find every lock of prometheus-client's free.

    A metric holds its lock while it makes a new child, and a thread may be doing that at the moment of a fork. See
    docs/decisions/0010.
    """
    locks: weakref.WeakSet[Any] = weakref.WeakSet([prometheus_client.REGISTRY._lock])

    def lock() -> Any:
        made = threading.Lock()
        locks.add(made)
        return made

    def renew() -> None:
        for each in list(locks):
            _renew(each)

    prometheus_client.metrics.Lock = lock  # type: ignore[assignment, attr-defined]
    prometheus_client.registry.Lock = lock  # type: ignore[assignment, attr-defined]
    os.register_at_fork(after_in_child=renew)


_decided = False
_store: Store | None = None


def install(directory: Path | None, max_bytes: int = 0) -> Store | None:
    """Let every metric that this process constructs from now on keep its values in a directory.

    The first call decides; later ones change nothing, because metrics exist by then.

    Args:
        directory: the directory of the instance, or None to keep values in the memory of the process.
        max_bytes: how many bytes of it this process may take; 0 sets no limit.

    Returns:
        The store of this process, or None where values are kept in memory.
    """
    global _decided, _store
    if not _decided:
        _decided = True
        if directory is None:
            # Not what prometheus-client chose: it looks at PROMETHEUS_MULTIPROC_DIR alone, and raises where that
            # directory cannot be written.
            prometheus_client.values.ValueClass = prometheus_client.values.MutexValue
        else:
            _store = Store(directory, max_bytes)
            prometheus_client.values.ValueClass = value_class(_store)
            _renew_locks_after_fork()
            # Said of prometheus-client's own value class; this one can.
            warnings.filterwarnings("ignore", message="(Removal of|Clearing) labels has not been implemented")
    return _store


def is_installed() -> bool:
    """Tell whether it has been decided where this process keeps its values."""
    return _decided
