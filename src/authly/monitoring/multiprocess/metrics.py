"""The types of prometheus-client's metrics that its multiprocess mode does without, as drop-in subclasses.

Owns what ``Info``, ``Enum`` and ``Gauge.set_function`` mean where many processes keep their values in files: which
series each of them writes, and when functions are evaluated. Reaches the files through
``prometheus_client.values.ValueClass`` alone; in a process that keeps its values in memory the classes behave as
those they are made from.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import prometheus_client
from prometheus_client import values
from prometheus_client.samples import Sample

# When a state was set that nobody set: before any that somebody did, and yet at some time.
_BY_DEFAULT = 1.0

_log = logging.getLogger(__name__)


class Info(prometheus_client.Info):
    """Says what something is like: a series of value 1 whose labels can be replaced."""

    def _metric_init(self) -> None:
        super()._metric_init()  # type: ignore[no-untyped-call]
        self._series: tuple[dict[str, str], Any] | None = None

    def info(self, val: dict[str, str]) -> None:
        """Replace the labels."""
        super().info(val)
        with self._lock:
            shown = {name: str(value) for name, value in self._value.items()}
            # A second value for the same series would be removed with the first.
            if self._series is None or self._series[0] != shown:
                self._series = shown, _mostrecent(self, f"{self._name}_info", shown)
            self._series[1].set(1.0, timestamp=time.time())


class Enum(prometheus_client.Enum):
    """Says in which of its states something is: a series for each of them."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if self._is_observable():  # type: ignore[no-untyped-call]
            self._series = [_mostrecent(self, self._name, {self._name: state}) for state in self._states]
            # What an earlier holder of the slot set is not forgotten for a default.
            if not any(series.get() for series in self._series):
                self._write(_BY_DEFAULT)

    def state(self, state: str) -> None:
        """Set the state."""
        super().state(state)
        with self._lock:
            self._write(time.time())

    def _write(self, timestamp: float) -> None:
        # One time for all: the most recent value of each series is then that of one and the same process.
        for index, series in enumerate(self._series):
            series.set(float(index == self._value), timestamp=timestamp)


class Gauge(prometheus_client.Gauge):
    """A gauge that can take its value from a function."""

    _function: Callable[[], float] | None = None
    _failed = False

    def set_function(self, f: Callable[[], float]) -> None:
        """Take the value from a function from now on; see :func:`sample_functions`."""
        self._raise_if_not_observable()  # type: ignore[no-untyped-call]
        if self._function is None:
            # The other methods do nothing from now on, as prometheus-client has it: they write where nobody looks.
            nowhere: Any = values.MutexValue
            self._sampled, self._value = self._value, nowhere("gauge", self._name, self._name, (), (), "")
        self._failed = False
        self._function = f
        if getattr(self._sampled, "_multiprocess", False):
            _sampler.add(self)

    def sample(self) -> None:
        """Evaluate the function and write its value; say once that it failed."""
        if self._function is None:
            return
        try:
            value = float(self._function())
        except Exception:  # noqa: BLE001 - whatever it is, the other functions are evaluated
            if not self._failed:
                self._failed = True
                _log.exception("The function of the gauge %s failed; this is said once", self._name)
        else:
            self._sampled.set(value, timestamp=time.time() if self._is_most_recent else None)

    def _child_samples(self) -> Iterable[Sample]:
        # Not set on the object, as prometheus-client does: it would refer to itself, and outlive its removal.
        if self._function is None:
            return super()._child_samples()
        return (Sample("", {}, float(self._function()), None, None),)


class _Sampler:
    """The functions of this process, and the thread that evaluates them once there are an interval and a function.

    Args:
        interval: seconds from one evaluation to the next; 0 for no thread.
    """

    def __init__(self, interval: float = 0.0) -> None:
        self.interval = interval
        self._gauges: weakref.WeakSet[Gauge] = weakref.WeakSet()
        # Reentrant: a signal handler may ask for an evaluation.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, gauge: Gauge) -> None:
        """Evaluate the function of a gauge too, soon for the first time."""
        with self._lock:
            self._gauges.add(gauge)
        self._run()

    def start(self, interval: float) -> None:
        """Evaluate at intervals, beginning now."""
        self.interval = interval
        self._run()

    def stop(self) -> None:
        """Evaluate only when asked."""
        self.interval = 0.0
        self._wake.set()

    def sample(self) -> None:
        """Evaluate all functions."""
        with self._lock:
            gauges = list(self._gauges)
        for gauge in gauges:
            gauge.sample()

    def _run(self) -> None:
        with self._lock:
            self._wake.set()
            if self._thread is None and self.interval and self._gauges:
                thread = threading.Thread(target=self._loop, name="authly-sampling", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    _log.exception("No thread can be started; functions of gauges are not evaluated")
                else:
                    self._thread = thread

    def _loop(self) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                if not self.interval:
                    self._thread = None
                    return
            self.sample()
            self._wake.wait(self.interval)


_sampler = _Sampler()


def _forget_parent() -> None:
    # The parent evaluates its functions; its thread is not here, and its lock may be held by it.
    global _sampler
    _sampler = _Sampler(_sampler.interval)


os.register_at_fork(after_in_child=_forget_parent)


def sample_functions() -> None:
    """Evaluate all functions that gauges of this process were given in it, and write their values."""
    _sampler.sample()


def start_sampling(seconds: float) -> None:
    """Evaluate functions at intervals, in a thread that begins when there is one to evaluate.

    Holds for processes forked later too, each for the functions that are set in it.

    Args:
        seconds: from one evaluation to the next.
    """
    _sampler.start(seconds)


def stop_sampling() -> None:
    """Let the thread end that evaluates functions, if there is one."""
    _sampler.stop()


def _mostrecent(metric: Any, name: str, labels: dict[str, str]) -> Any:
    """Return a value for a series of a metric, of which the most recent counts."""
    return values.ValueClass(
        "gauge",
        name,
        name,
        (*metric._labelnames, *labels),
        (*metric._labelvalues, *labels.values()),
        metric._documentation,
        multiprocess_mode="mostrecent",
    )
