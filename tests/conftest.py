"""Fixtures of every test."""

import gc
import os
import resource
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.vocabulary",
    "tests.postgres",
    "tests.instance",
    "tests.browser",
    "tests.applications",
    "tests.valkey",
]

FAILED = pytest.StashKey[bool]()
INTEGRATION = Path(__file__).parent / "integration"

# Some tests open many connections, and hold both ends of them; the usual limit of 1024 files is a soft one.
_, _MOST_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))

# What tests write they throw away: into memory, where there is room. A disk would be told to keep each database and
# each metric file for good, which takes a fifth of all processor time. Who knows a better place has said so.
SHARED_MEMORY, ROOM = Path("/dev/shm"), 4 * 2**30


def _has_room(folder: Path) -> bool:
    """Tell whether a folder takes what the tests write, and lets programs run from there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize >= ROOM and not there.f_flag & os.ST_NOEXEC


if "TMPDIR" not in os.environ and _has_room(SHARED_MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = str(SHARED_MEMORY)

# For the processes that tests start, not for this one, whose tools want it; nor for those among which xdist divides the
# tests, which are started by one that has been here before.
WITHOUT_TOOLS = str(Path(__file__).parent / "without_tools")
os.environ["PYTHONPATH"] = WITHOUT_TOOLS
sys.path[:] = [path for path in sys.path if path != WITHOUT_TOOLS]

settings.register_profile("authly", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("authly")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the modules that start instances among the processes that share the suite; each begins with its own.

    Who is done takes over from the end of another's share, where there shall be nothing that takes long.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    slow = [path for path in modules if path.parent == INTEGRATION]
    shares = [[item for path in slow[number::processes] for item in modules.pop(path)] for number in range(processes)]
    quick = [item for module in modules.values() for item in module]
    dealt: list[pytest.Item] = []
    for number, share in enumerate(shares):
        # What was given more time than others takes the longest.
        share.sort(key=lambda item: item.get_closest_marker("timeout") is None)
        # xdist gives each process as many tests, in their order.
        room = max(0, (len(items) - len(dealt)) // (processes - number) - len(share))
        dealt += [*share, *quick[:room]]
        del quick[:room]
    items[:] = dealt


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a test printed and logged only if it failed: all of it would go from process to process."""
    report = yield
    # The logs of its instances are printed at its end, which may succeed where the test has not.
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    if not item.stash[FAILED]:
        report.sections.clear()
    return report


def pytest_collection_finish() -> None:
    """Look for no garbage in what thousands of tests are made of, which took a tenth of their time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as Authly does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in list(os.environ):
        if (name.startswith("AUTHLY_") and not name.startswith("AUTHLY_TEST_")) or name == "PROMETHEUS_MULTIPROC_DIR":
            monkeypatch.delenv(name)
