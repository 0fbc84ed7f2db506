"""A response that somebody else is still working on, in a thread of his own."""

from collections.abc import Callable

from authly.monitoring.exporter.http import Response


class Deferred:
    """What is returned in place of a response that would take too long to wait for.

    ``attach`` and ``resolve`` may come in either order and from different threads: each writes its own attribute before
    it reads the other's, so at least one of them sees both.
    """

    __slots__ = ("_notify", "_respond")

    def __init__(self) -> None:
        self._notify: Callable[[], None] | None = None
        self._respond: Callable[[], Response] | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether the response can be had."""
        return self._respond is not None

    def attach(self, notify: Callable[[], None]) -> None:
        """Say whom to tell when it is resolved; told at once if it is."""
        self._notify = notify
        if self._respond is not None:
            notify()

    def resolve(self, respond: Callable[[], Response]) -> None:
        """Give what makes the response; it is called in the thread that answers requests."""
        self._respond = respond
        if self._notify is not None:
            self._notify()

    def response(self) -> Response:
        """Make the response; only after it is resolved."""
        assert self._respond is not None
        return self._respond()
