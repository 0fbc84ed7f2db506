"""Counting at intervals: by one worker, whatever happens to the counts."""

import asyncio
from pathlib import Path

import pytest
import structlog

from authly.core.level_collector import LevelCollector, Office

pytestmark = pytest.mark.anyio


class Counts:
    """What is counted, and how it goes."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail = False
        self.hang = False

    async def first(self) -> None:
        """Count, or do not."""
        if self.fail:
            raise ConnectionError("the database is away")
        if self.hang:
            await asyncio.Event().wait()
        self.done.append("first")

    async def second(self) -> None:
        """Count."""
        self.done.append("second")


def collector(counts: Counts, directory: Path | None = None, timeout: float = 30.0) -> LevelCollector:
    """Return what counts."""
    return LevelCollector(Office(directory), {"first": counts.first, "second": counts.second}, 0.01, timeout)


async def test_one_worker_counts(tmp_path: Path) -> None:
    """Of those who share a directory one counts, and when it leaves another one does."""
    counts = [Counts() for _ in range(3)]
    workers = [collector(each, tmp_path) for each in counts]
    for _ in range(2):
        for worker in workers:
            await worker.turn()
    assert [each.done for each in counts] == [["first", "second"] * 2, [], []]
    await workers[0].stop()
    for worker in reversed(workers[1:]):
        await worker.turn()
    assert [each.done for each in counts[1:]] == [[], ["first", "second"]]


async def test_each_counts_where_there_is_no_directory() -> None:
    """A process that keeps its metrics to itself counts for itself."""
    counts = [Counts(), Counts()]
    for each in counts:
        await collector(each).turn()
    assert [each.done for each in counts] == [["first", "second"]] * 2


async def test_a_count_that_fails_is_said_once(tmp_path: Path) -> None:
    """The others go on, the log has one line until it succeeds again, and then another."""
    counts = Counts()
    worker = collector(counts, tmp_path)
    counts.fail = True
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await worker.turn()
        counts.fail = False
        await worker.turn()
    assert counts.done == ["second"] * 3 + ["first", "second"]
    assert [(line["event"], line["levels"]) for line in lines] == [
        ("levels_not_counted", "first"),
        ("levels_counted_again", "first"),
    ]
    assert lines[0]["reason"] == "the database is away"


async def test_a_count_that_hangs_ends_nothing(tmp_path: Path) -> None:
    """It is ended after its time, and tried again."""
    counts = Counts()
    counts.hang = True
    worker = collector(counts, tmp_path, timeout=0.01)
    await worker.turn()
    counts.hang = False
    await worker.turn()
    assert counts.done == ["second", "first", "second"]


async def test_the_loop_goes_on(tmp_path: Path) -> None:
    """In the background, turn by turn, through failures, until it is stopped; without the directory, too."""
    counts = Counts()
    counts.fail = True
    worker = collector(counts, tmp_path / "nowhere")
    await worker.start()
    await asyncio.sleep(0.05)
    (tmp_path / "nowhere").mkdir()
    while counts.done.count("second") < 3:
        await asyncio.sleep(0.01)
    counts.fail = False
    while "first" not in counts.done:
        await asyncio.sleep(0.01)
    await worker.stop()
    done = len(counts.done)
    await asyncio.sleep(0.05)
    assert len(counts.done) == done
