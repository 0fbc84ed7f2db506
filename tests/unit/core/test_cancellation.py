"""Tasks end, also those that take a cancellation for a reason to ask somebody first."""

import asyncio
import time

import pytest

from authly.core.cancellation import cancel

pytestmark = pytest.mark.anyio


async def test_a_task_that_ends_is_waited_for() -> None:
    """What it does at its end has been done."""
    done = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel([task])
    assert task.cancelled()
    assert done


async def test_a_task_that_does_not_end_is_cancelled_again() -> None:
    """Who waits for somebody else's word when cancelled is not waited for."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel([task], seconds=0.01)
    assert task.cancelled()


async def test_a_task_that_never_ends_is_left_behind() -> None:
    """Nobody hangs because of it."""
    ends = asyncio.Event()

    async def work() -> None:
        while not ends.is_set():
            try:
                await ends.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    began = time.monotonic()
    await cancel([task], seconds=0.01)
    assert time.monotonic() - began < 5
    assert not task.done()
    ends.set()
    await task


async def test_nothing_to_cancel() -> None:
    """Is done at once."""
    await cancel([])
