"""Why a worker ended, told by evidence.

The wait status alone does not tell: a worker that has served its ``max_requests`` and one that somebody sent SIGTERM
both exit with 0. What the master was doing, what the worker noted at its end, and what the kernel counted, do.
"""

import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

# Signals that a process raises itself, by what it does; any other comes from somebody.
_FAULTS: Final = frozenset(
    {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}
)
# Between the kernel's count and the end of the process lies the freeing of its memory.
_FRESH_SECONDS: Final = 10.0
_CGROUPS: Final = Path("/sys/fs/cgroup")


class Evidence(NamedTuple):
    """What is known of a worker that ended.

    Args:
        status: its wait status; None where nobody knows.
        was_aborted: whether the master found its heartbeat too old.
        told: for which reason the master had told it to end: ``reload``, ``scale_down``, ``shutdown``, or none.
        was_killed: whether the master had sent it SIGKILL.
        had_booted: whether its heart had ever beaten.
        reached_limit: whether it noted at its end that it had served ``max_requests``.
        reloads_code: whether workers end by themselves when the code changes (``reload`` of Gunicorn's settings).
    """

    status: int | None
    was_aborted: bool = False
    told: str = ""
    was_killed: bool = False
    had_booted: bool = True
    reached_limit: bool = False
    reloads_code: bool = False


def exit_reason(evidence: Evidence, ran_out_of_memory: Callable[[], bool]) -> str:
    """Return why a worker ended, one of :data:`~authly.monitoring.master_facts.EXIT_REASONS`.

    Args:
        evidence: what is known of it.
        ran_out_of_memory: asked of a worker that was killed, and not by the master; takes one kill of the kernel off
            those that wait for an explanation.
    """
    if evidence.was_aborted:
        return "timeout"
    code = None if evidence.status is None else os.waitstatus_to_exitcode(evidence.status)
    if code == -signal.SIGKILL and not evidence.was_killed and ran_out_of_memory():
        return "out_of_memory"
    if evidence.told:
        return evidence.told
    if code is None:
        return "crash"
    if code < 0:
        return "crash" if -code in _FAULTS else "signal"
    if code == 0:
        if evidence.reached_limit:
            return "max_requests"
        # Gunicorn's own workers take SIGTERM, SIGINT and SIGQUIT for the wish to end in good order.
        return "reload" if evidence.reloads_code else "signal"
    # 3 and 4 are what Gunicorn ends with when the application cannot be loaded, or refuses to start.
    return "boot_error" if code in {3, 4} or not evidence.had_booted else "crash"


class OutOfMemoryKills:
    """The kills of the kernel, for want of memory, that have not been explained yet.

    Args:
        path: the file in which the kernel counts them, on a line ``oom_kill``; None if there is none.
        clock: the time, in seconds; it never goes back.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._count = self._read()
        self._kills: deque[float] = deque(maxlen=64)

    def look(self) -> None:
        """Take note of new ones."""
        count = self._read()
        self._kills.extend([self._clock()] * min(64, max(0, count - self._count)))
        self._count = count

    def take(self) -> bool:
        """Tell whether there was one in the last seconds that explains an end; it explains no other."""
        self.look()
        oldest = self._clock() - _FRESH_SECONDS
        while self._kills and self._kills[0] < oldest:
            self._kills.popleft()
        if not self._kills:
            return False
        self._kills.popleft()
        return True

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            for line in self._path.read_bytes().splitlines():
                name, _, value = line.partition(b" ")
                if name == b"oom_kill":
                    return int(value)
        except (OSError, ValueError):
            return 0
        return 0


def oom_file(membership: str, root: Path = _CGROUPS) -> Path | None:
    """Return the file in which the kernel counts the kills, for want of memory, of a process's control group.

    That is ``memory.events`` in version 2, ``memory.oom_control`` in version 1, and ``/proc/vmstat``, which counts
    for the whole machine, where neither is there.

    Args:
        membership: what ``/proc/self/cgroup`` says.
        root: where control groups are mounted.
    """
    candidates = []
    for line in membership.splitlines():
        number, controllers, path = line.split(":", 2)
        # In a container without a namespace for control groups the path is the host's, and the mount the container's.
        for inside in (path.lstrip("/"), ""):
            if number == "0":
                candidates.append(root / inside / "memory.events")
            elif "memory" in controllers.split(","):
                candidates.append(root / "memory" / inside / "memory.oom_control")
    candidates.append(Path("/proc/vmstat"))
    return next((path for path in candidates if path.is_file()), None)


def own_oom_file() -> Path | None:
    """Return that of this process and its children."""
    try:
        return oom_file(Path("/proc/self/cgroup").read_text())
    except (OSError, ValueError):
        return None
