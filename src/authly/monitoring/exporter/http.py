"""Describe a request and its response, whatever carries them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

TEXT = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    path: str
    """The target up to the question mark, percent-escapes as they came."""
    query: str = ""
    """What follows the question mark."""
    headers: Mapping[str, str] = {}
    """Names in lower case; the values of a repeated header are joined by commas."""
    peer: str = ""
    """The client's address; empty over the Unix socket."""
    is_local: bool = False
    """Whether it came over the Unix socket."""


class Response(NamedTuple):
    """What the client is told."""

    status: int
    content_type: str = TEXT
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers besides Content-Type and Content-Length."""


class Pending(Protocol):
    """A response that takes its time."""

    @property
    def deadline(self) -> float:
        """When it is given as it is then, on the monotonic clock."""

    @property
    def ready(self) -> bool:
        """Whether it can be given now."""

    def notify(self, wake: Callable[[], None]) -> None:
        """Have something called, in any thread, whenever ``ready`` may have become true."""

    def response(self) -> Response:
        """Return it, ready or not; can be called once."""
