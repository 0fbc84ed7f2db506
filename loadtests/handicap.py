"""Authly with a handicap, to see that the gate notices: ``LOAD_HANDICAP_MS`` and ``LOAD_HANDICAP_MB``.

The gate runs it in place of the measured side, or beside it as a control. It is a wrapper out here, so that nothing in
Authly can slow it down.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

MILLISECONDS, MEGABYTES = "LOAD_HANDICAP_MS", "LOAD_HANDICAP_MB"
# A little more than is allowed.
BEYOND_BUDGETS: Final = {MILLISECONDS: "6", MEGABYTES: "60"}


def chosen() -> dict[str, str]:
    """Return what the environment says."""
    return {name: os.environ[name] for name in (MILLISECONDS, MEGABYTES) if name in os.environ}


def in_words(handicap: Mapping[str, str]) -> str:
    """Return a handicap in words; empty for none."""
    units = {MILLISECONDS: "ms", MEGABYTES: "MB"}
    return " and ".join(f"{value} {units[name]}" for name, value in handicap.items())


def create_handicapped_app() -> Callable[..., Awaitable[None]]:
    """Return the application, with so many milliseconds more for a request, and so many megabytes more in all."""
    # Only its workers need it.
    from authly.app import create_app

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
