"""A response that somebody else is still working on, in a thread of his own."""

from collections.abc import Callable

from authly.monitoring.exporter.http import Pending, Response


class Deferred:
    """A :class:`~.http.Pending` response that another thread makes possible.

    ``notify`` and ``resolve`` may come in either order and from different threads: each writes its own attribute before
    it reads the other's, so at least one of them sees both.

    Args:
        deadline: when to give up, on the monotonic clock.
        late: what is answered then.
    """

    __slots__ = ("_late", "_respond", "_wake", "deadline")

    def __init__(self, deadline: float, late: Response) -> None:
        self.deadline = deadline
        self._late = late
        self._wake: Callable[[], None] | None = None
        self._respond: Callable[[], Response | Pending] | None = None

    @property
    def ready(self) -> bool:
        """Whether it is resolved."""
        return self._respond is not None

    def notify(self, wake: Callable[[], None]) -> None:
        """Have something called, in any thread, when it is resolved."""
        self._wake = wake
        if self._respond is not None:
            wake()

    def resolve(self, respond: Callable[[], Response | Pending]) -> None:
        """Give what makes the response; it is called in the thread that answers requests."""
        self._respond = respond
        if self._wake is not None:
            self._wake()

    def response(self) -> Response | Pending:
        """Return the response, or what is answered where it is not there in time."""
        return self._respond() if self._respond is not None else self._late


class Changed:
    """A pending response that is changed once it is there.

    Args:
        pending: the response.
        change: what to make of it.
    """

    __slots__ = ("_change", "_pending", "notify")

    def __init__(self, pending: Pending, change: Callable[[Response], Response]) -> None:
        self._pending = pending
        self._change = change
        self.notify = pending.notify

    @property
    def deadline(self) -> float:
        """When it is given as it is then."""
        return self._pending.deadline

    @property
    def ready(self) -> bool:
        """Whether it can be given now."""
        return self._pending.ready

    def response(self) -> Response | Pending:
        """Return the changed response, or what has to be waited for next."""
        return changed(self._pending.response(), self._change)


def changed(answer: Response | Pending, change: Callable[[Response], Response]) -> Response | Pending:
    """Return a response with a change made, now or when it is there."""
    return change(answer) if isinstance(answer, Response) else Changed(answer, change)
