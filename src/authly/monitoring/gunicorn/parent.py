"""How a process ends when its parent does."""

import contextlib
import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """Let this process be told to end (SIGTERM) when its parent dies, however that dies.

    Args:
        parent: the process id of the parent.

    Raises:
        SystemExit: it died before the kernel was asked.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)
