"""Authly with a handicap, to see that the gate notices: ``LOAD_HANDICAP_MS`` and ``LOAD_HANDICAP_MB``.

The gate runs it in place of the measured side. It is a wrapper out here, so that nothing in Authly can slow it down.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from authly.app import create_app

MILLISECONDS, MEGABYTES = "LOAD_HANDICAP_MS", "LOAD_HANDICAP_MB"


def create_handicapped_app() -> Callable[..., Awaitable[None]]:
    """Return the application, with so many milliseconds more for a request, and so many megabytes more in all."""
    inner = create_app()
    delay = float(os.environ.get(MILLISECONDS, "0")) / 1e3
    size = int(float(os.environ.get(MEGABYTES, "0")) * 1e6) // int(os.environ["AUTHLY_WORKERS"])
    # Written to, so that it is there.
    ballast = bytearray(b"\1") * size

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(delay)
        await inner(scope, receive, send)
        assert len(ballast) == size

    return app
