"""Answer HTTP requests in one thread, however slow, idle, many or hostile the clients are."""

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from authly.monitoring.exporter.connection import Connection, Limits, State
from authly.monitoring.exporter.http import Pending, Request, Response

ACCEPT_BATCH = 64
"""Connections accepted before those already open get their turn."""

ACCEPT_PAUSE = 0.1
"""Seconds without accepting after a failure that would otherwise be reported again at once, without end."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """An HTTP/1.1 server for a handful of well-behaved clients and any number of others.

    Args:
        listeners: sockets that already listen, TCP or Unix; they stay open afterwards, for they may be shared with
            the exporter that takes over.
        respond: called with each complete request, in this thread; what it has to wait for, it returns as pending.
        watch_fd: the read end of a pipe whose other end only the parent holds: at its end the server ends at once.
        max_connections: how many TCP connections, and as many Unix ones; another one replaces the least useful.
        idle_timeout: seconds a connection may wait for its next request; longer than any scrape interval, and idle
            connections give way anyway when places run out.
        request_timeout: seconds from the first byte (for a new connection: from its start) to the complete request.
        write_timeout: seconds for taking a response.
        max_head: bytes that a request's line and headers may have.
        monotonic: the clock.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        respond: Callable[[Request], Response | Pending],
        *,
        watch_fd: int | None = None,
        max_connections: int = 128,
        idle_timeout: float = 300.0,
        request_timeout: float = 5.0,
        write_timeout: float = 10.0,
        max_head: int = 16384,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listeners = listeners
        self._respond = respond
        self._watch_fd = watch_fd
        self._max_connections = max_connections
        self._limits = Limits(idle_timeout, request_timeout, write_timeout, max_head)
        self._monotonic = monotonic
        # Apart, so that TCP clients can not take the places of the application's own workers.
        self._connections: dict[bool, set[Connection]] = {False: set(), True: set()}
        self._selector = selectors.DefaultSelector()
        # A handler of signals can not end a wait in select by itself: Python resumes it (PEP 475).
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._accepting = False
        self._resume_at: float | None = None
        self._grace: float | None = None
        self._stop_at: float | None = None

    def serve_forever(self) -> None:
        """Serve until ``stop`` is called or the parent is gone; can be called once."""
        try:
            self._selector.register(self._woken, selectors.EVENT_READ)
            if self._watch_fd is not None:
                self._selector.register(self._watch_fd, selectors.EVENT_READ)
            for listener in self._listeners:
                listener.setblocking(False)
            self._resume_accepting()
            while self._turn():
                pass
        finally:
            for connection in self._all():
                connection.close()
            self._selector.close()
            self._waker.close()
            self._woken.close()

    def stop(self, grace: float = 5.0) -> None:
        """Stop accepting, finish the requests under way, and return from ``serve_forever``.

        Safe to call from a handler of signals and from another thread.

        Args:
            grace: seconds after which unfinished requests are given up.
        """
        self._grace = grace
        self.wake()

    def wake(self) -> None:
        """Let the server look whether pending responses are ready; safe to call from another thread."""
        with suppress(OSError):  # awake already, or ended
            self._waker.send(b"\0")

    def _turn(self) -> bool:
        """Wait for something to do, do it, and tell whether to go on."""
        ready: list[socket.socket] = []
        for key, _ in self._selector.select(self._timeout()):
            if isinstance(key.data, Connection):
                self._advance(key.data)
            elif key.fd == self._watch_fd:
                if not os.read(key.fd, 4096):
                    return False
            elif key.fileobj is self._woken:
                self._woken.recv(4096)
            elif isinstance(key.fileobj, socket.socket):
                ready.append(key.fileobj)
        # After the connections: a request that is already here must not be given up to make room.
        for listener in ready:
            self._accept(listener)
        now = self._monotonic()
        for connection in self._all():
            if connection.is_due(now):
                connection.expire(now)
                self._settle(connection)
        if self._resume_at is not None and self._resume_at <= now:
            self._resume_accepting()
        return self._grace is None or self._wind_down(now, self._grace)

    def _wind_down(self, now: float, grace: float) -> bool:
        """Take one step towards the end, and tell whether there are requests to wait for."""
        if self._stop_at is None:
            self._pause_accepting()
            self._resume_at = None
            self._stop_at = now + grace
        for connection in self._all():
            connection.keep_alive = False
            if connection.state is State.IDLE:
                self._close(connection)
            elif connection.state is State.WAITING:
                # With what there is by then, while there is time to send it.
                connection.deadline = min(connection.deadline, now + (self._stop_at - now) / 2)
        return bool(self._all()) and now < self._stop_at

    def _timeout(self) -> float | None:
        deadlines = [connection.deadline for connection in self._all()]
        deadlines.extend(moment for moment in (self._resume_at, self._stop_at) if moment is not None)
        return max(0.0, min(deadlines) - self._monotonic()) if deadlines else None

    def _all(self) -> list[Connection]:
        return [*self._connections[False], *self._connections[True]]

    # Accepting

    def _accept(self, listener: socket.socket) -> None:
        is_local = listener.family == socket.AF_UNIX
        for _ in range(ACCEPT_BATCH):
            if not self._accepting:
                return
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return  # none left, or another exporter took it
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED or not self._make_room(self._all(), State.READING):
                    self._pause_accepting()
                continue
            pool = self._connections[is_local]
            if len(pool) >= self._max_connections:
                self._make_room(pool, State.WRITING)
            self._open(sock, "" if is_local else address[0].removeprefix("::ffff:"), is_local)

    def _open(self, sock: socket.socket, peer: str, is_local: bool) -> None:
        sock.setblocking(False)
        if not is_local:
            with suppress(OSError):  # reset meanwhile, which reading will tell
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, peer, is_local, self._respond, self._limits, self._monotonic(), self.wake)
        self._connections[is_local].add(connection)
        self._selector.register(sock, connection.interest, connection)
        # Most clients have already sent their request, and one that has is not the one to make room next.
        self._advance(connection)

    def _make_room(self, connections: Iterable[Connection], last_resort: State) -> bool:
        """Close the connection that is missed least, but none in a later state than ``last_resort``."""
        victim = min(connections, key=lambda connection: (connection.state, connection.since), default=None)
        if victim is None or victim.state > last_resort:
            return False
        self._close(victim)
        return True

    def _pause_accepting(self) -> None:
        if self._accepting:
            for listener in self._listeners:
                self._selector.unregister(listener)
        self._accepting = False
        self._resume_at = self._monotonic() + ACCEPT_PAUSE

    def _resume_accepting(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self._accepting = True
        self._resume_at = None

    # Connections

    def _advance(self, connection: Connection) -> None:
        if connection.state is not State.CLOSED:
            connection.advance(self._monotonic())
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Bring the selector and the pool up to date with the connection's state."""
        if connection.state is State.CLOSED:
            self._forget(connection)
            return
        # A selector has nothing that is watched for no event.
        watched = self._selector.get_map().get(connection.sock)
        if watched is None:
            if connection.interest:
                self._selector.register(connection.sock, connection.interest, connection)
        elif not connection.interest:
            self._selector.unregister(connection.sock)
        elif watched.events != connection.interest:
            self._selector.modify(connection.sock, connection.interest, connection)

    def _close(self, connection: Connection) -> None:
        connection.close()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        # The socket is closed and can no longer say which descriptor it had; the selector finds it by identity, or not
        # at all if it waited for nothing.
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection.sock)
        self._connections[connection.is_local].discard(connection)
