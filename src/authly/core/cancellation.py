"""The end of tasks that ask the database, which may be ending itself."""

import asyncio
from collections.abc import Iterable
from typing import Any


async def cancel(tasks: Iterable["asyncio.Task[Any]"], seconds: float = 0.5) -> None:
    """Cancel tasks and wait for their end; cancel again those that have not ended.

    The first cancellation lets psycopg cancel a query, for which it asks the server, politely; the second makes it drop
    the connection. A server that ends at the same moment answers neither.

    Args:
        tasks: they are not waited for any longer after the second time.
        seconds: to wait each time.
    """
    left = set(tasks)
    for _ in range(2):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=seconds)
