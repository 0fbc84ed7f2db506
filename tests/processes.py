"""Processes, as a test looks at them from outside: by their number, through ``/proc``."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> float:
    """Wait for a condition and return how long it took; fail when it does not come true."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > seconds:
            pytest.fail(f"not true after {seconds} s: {condition}")
        # Others need the processor, most of all those that are waited for: what takes longer is looked at less often.
        time.sleep(min(0.01 + waited / 10, 0.1))
    return time.monotonic() - began


def process_state(pid: int) -> str:
    """Return the letter by which the kernel names what a process does; ``X`` for one that is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    return process_state(pid) not in {"X", "Z"}


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children, those included that only wait to be reaped."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command(pid: int) -> str:
    """Return the command line of a process; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kill(pid: int) -> None:
    """End a process that this test started, at once."""
    os.kill(pid, signal.SIGKILL)
