"""A terminal that shows one page again and again, and is left as it was found."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Terminal:
    """The terminal of this process while it shows a page of its own."""

    def __init__(self) -> None:
        # What is written there ends a wait: a signal arrived.
        self._woken, self._waker = os.pipe()
        for fd in (self._woken, self._waker):
            os.set_blocking(fd, False)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return columns, lines

    def show(self, lines: Sequence[str]) -> None:
        """Replace the page, without clearing it first: that would flicker."""
        text = f"{_REST_OF_LINE}\n".join(lines)
        sys.stdout.write(f"{_HOME}{text}{_REST_OF_LINE}{_REST_OF_SCREEN}")
        sys.stdout.flush()

    def key(self, seconds: float) -> str:
        """Wait for a key; return it, or nothing when the time is over or the window has another size."""
        ready, _, _ = select.select([sys.stdin, self._woken], [], [], max(0.0, seconds))
        if self._woken in ready:
            os.read(self._woken, 512)
            return ""
        if not ready:
            return ""
        typed = os.read(sys.stdin.fileno(), 32)
        # An empty answer is the end of the input: the terminal is gone.
        return typed.decode(errors="replace") if typed else "q"

    def wake(self, _: int, __: FrameType | None) -> None:
        """End a wait; a handler of signals."""
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            return  # enough is in the pipe to end it

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._woken)
        os.close(self._waker)


@contextmanager
def whole_screen() -> Iterator[Terminal]:
    """Take the screen for a page of one's own, and give it back, by whichever way it is left."""
    terminal = Terminal()
    before = termios.tcgetattr(sys.stdin)

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
        signal.SIGHUP: signal.signal(signal.SIGHUP, end),
        signal.SIGWINCH: signal.signal(signal.SIGWINCH, terminal.wake),
    }
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()
        yield terminal
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        try:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        except OSError:
            pass  # the window was closed
        terminal.close()
