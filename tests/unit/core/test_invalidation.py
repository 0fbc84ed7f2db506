"""Whoever watches a channel learns whether it can be used."""

from collections.abc import Callable

import pytest

from authly.core.invalidation import WatchedChannel

pytestmark = pytest.mark.anyio


class Line:
    """A channel that is cut when it has carried one message."""

    def __init__(self, *, dead: bool = False) -> None:
        self.sent: list[str] = []
        self._dead = dead

    async def publish(self, message: str) -> None:
        """Remember a message."""
        self.sent.append(message)

    async def listen(self, on_listening: Callable[[], None], on_message: Callable[[str], None]) -> None:
        """Hear one message, or none."""
        if self._dead:
            raise OSError("never there")
        on_listening()
        on_message("news")
        raise OSError("cut")


async def test_a_channel_that_is_lost() -> None:
    """That it is there, how long that took, and that it is gone are told around what is heard."""
    ticks = iter([10.0, 12.5])
    told: list[str] = []
    channel = WatchedChannel(
        Line(), lambda seconds: told.append(f"connected {seconds}"), lambda: told.append("lost"), lambda: next(ticks)
    )
    with pytest.raises(OSError, match="cut"):
        await channel.listen(lambda: told.append("listening"), told.append)
    assert told == ["connected 2.5", "listening", "news", "lost"]


async def test_a_channel_that_never_was() -> None:
    """It is lost, and never was connected; what is published goes through."""
    line, told = Line(dead=True), list[str]()
    channel = WatchedChannel(line, lambda _: told.append("connected"), lambda: told.append("lost"))
    with pytest.raises(OSError, match="never there"):
        await channel.listen(lambda: told.append("listening"), told.append)
    assert told == ["lost"]
    await channel.publish("x")
    assert line.sent == ["x"]
