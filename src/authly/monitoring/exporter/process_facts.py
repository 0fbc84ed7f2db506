"""What the kernel says of a process, in ``/proc``."""

import os
from typing import Final, NamedTuple

from authly.monitoring.exporter import kernel_files

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ProcessFacts(NamedTuple):
    """A process at one moment.

    Args:
        started: when, in ticks since the machine booted; with the process id it names a process for good.
        is_stopped: whether a signal or a debugger has stopped it.
        cpu_seconds: that it has used.
        resident_bytes: of its memory.
    """

    started: int
    is_stopped: bool
    cpu_seconds: float
    resident_bytes: int


def process_facts(pid: int) -> ProcessFacts | None:
    """Return what is known of a process; None if it has ended, reaped or not. See proc_pid_stat(5)."""
    try:
        stat = kernel_files.read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name of the command, in parentheses, may contain anything; the state comes first after it.
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in b"ZX":
        return None
    return ProcessFacts(
        started=int(fields[19]),
        is_stopped=fields[0] in b"Tt",
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        resident_bytes=int(fields[21]) * _PAGE,
    )
