"""A control group whose memory is limited, where the machine allows to make one."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.requirements import require

_ROOT = Path("/sys/fs/cgroup")


def _parent() -> Path | None:
    """Return the group in which this process may make others that limit memory; None if there is none."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            candidates = [_ROOT / "memory" / path.lstrip("/"), _ROOT / "memory"]
            return next((found for found in candidates if os.access(found / "cgroup.procs", os.W_OK)), None)
    # Version 2: a group that has processes cannot have groups with controllers, and so it is made at the top.
    with contextlib.suppress(OSError):
        if "memory" in (_ROOT / "cgroup.subtree_control").read_text().split() and os.access(_ROOT, os.W_OK):
            return _ROOT
    return None


@contextlib.contextmanager
def limited_memory(limit: int) -> Iterator[Path]:
    """Yield a control group; a process joins it by writing its number to ``cgroup.procs``.

    Args:
        limit: of all its processes together, in bytes.
    """
    parent = _parent()
    try:
        group = Path(tempfile.mkdtemp(prefix="authly-test-", dir=parent)) if parent else None
    except OSError:
        group = None
    require(
        "cgroup", group is not None, "no control group that limits memory can be made: be root, with cgroups mounted"
    )
    assert group is not None
    try:
        # Version 2 and version 1; swap does not count, or is not there.
        file = next(path for name in ("memory.max", "memory.limit_in_bytes") if (path := group / name).exists())
        file.write_text(str(limit))
        for name in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError):
                (group / name).write_text("0" if name == "memory.swap.max" else str(limit))
        yield group
    finally:
        # A group can be removed once its last process is gone.
        group.rmdir()
