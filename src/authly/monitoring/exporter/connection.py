"""Carry one client's requests and responses over a non-blocking socket."""

import selectors
import socket
import sys
from collections.abc import Callable
from enum import IntEnum
from http import HTTPStatus
from typing import NamedTuple

import h11

from authly.monitoring.exporter.http import TEXT, Pending, Request, Response

MAX_BODY = 8192
"""A scrape has no body; a small one is read and ignored, a larger one refused."""

LINGER = 1.0
"""Seconds a client gets to close after the last response.

Closing first would reset the connection if anything of the client's were still unread, and the kernel would then
throw away what the client has not read yet of the response.
"""


class State(IntEnum):
    """What a connection is busy with, in the order in which it may be given up to make room."""

    LINGERING = 0
    IDLE = 1
    READING = 2
    WAITING = 3
    WRITING = 4
    CLOSED = 5


class Limits(NamedTuple):
    """How long each phase of a connection may last (seconds), and how long a head may be (bytes)."""

    idle_timeout: float = 300.0
    request_timeout: float = 5.0
    write_timeout: float = 10.0
    max_head: int = 16384


class Connection:
    """One client's connection.

    It never reads while it has something to write, so a client that does not read can not make it grow.
    """

    __slots__ = (
        "_body_size",
        "_http",
        "_limits",
        "_out",
        "_peer",
        "_pending",
        "_pipelined",
        "_request",
        "_respond",
        "_wake",
        "deadline",
        "is_local",
        "keep_alive",
        "since",
        "sock",
        "state",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        is_local: bool,
        respond: Callable[[Request], Response | Pending],
        limits: Limits,
        now: float,
        wake: Callable[[], None],
    ) -> None:
        self.sock = sock
        self.is_local = is_local
        self.keep_alive = True
        self._peer = peer
        self._respond = respond
        self._limits = limits
        self._wake = wake
        self._pending: Pending | None = None
        self._http = h11.Connection(h11.SERVER, limits.max_head)
        self._request: h11.Request | None = None
        self._body_size = 0
        self._out: list[memoryview] = []
        self._pipelined = False
        # A new client is expected to speak at once.
        self._enter(State.READING, now, limits.request_timeout)

    @property
    def interest(self) -> int:
        """The event of ``selectors`` that this connection waits for; 0 for none."""
        if self.state is State.WAITING:
            return 0
        # A pipelined request waits for its turn, so that one client can not keep the thread to itself.
        return selectors.EVENT_WRITE if self._out or self._pipelined else selectors.EVENT_READ

    def advance(self, now: float) -> None:
        """Go on as far as possible without waiting; to be called when ``interest`` is ready."""
        try:
            if self._out:
                self._flush(now)
            elif self.state is State.LINGERING:
                if not self.sock.recv(65536):
                    self.close()
            elif self._pipelined:
                self._pipelined = False
                self._parse(now)
            else:
                self._receive(now)
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def is_due(self, now: float) -> bool:
        """Tell whether ``expire`` is to be called: the deadline has passed, or there is nothing left to wait for."""
        return self.deadline <= now or (self._pending is not None and self._pending.ready)

    def expire(self, now: float) -> None:
        """Go on because there is no more time to wait; a client that has not finished its request is told so."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._give(pending.response, now)
        elif self.state is State.READING and (self._request or self._buffered):
            self._refuse(408, "the request took too long", now)
        else:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self.state = State.CLOSED
        self._pending = None
        self._out.clear()
        self.sock.close()

    @property
    def _buffered(self) -> int:
        return len(self._http.trailing_data[0])

    def _enter(self, state: State, now: float, timeout: float) -> None:
        self.state, self.since, self.deadline = state, now, now + timeout

    def _receive(self, now: float) -> None:
        # Never more than one byte beyond the limit, so that a long head is refused however it was cut into segments.
        data = self.sock.recv(self._limits.max_head + 1 - self._buffered)
        if self.state is State.IDLE:
            self._enter(State.READING, now, self._limits.request_timeout)
        self._http.receive_data(data)
        self._parse(now)

    def _parse(self, now: float) -> None:
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._request, self._body_size = event, 0
                    if _declared_length(event) > MAX_BODY:
                        return self._refuse(413, "the body is too large", now)
                elif isinstance(event, h11.Data):
                    self._body_size += len(event.data)
                    if self._body_size > MAX_BODY:
                        return self._refuse(413, "the body is too large", now)
                elif isinstance(event, h11.EndOfMessage):
                    return self._answer(now)
                elif isinstance(event, h11.ConnectionClosed):
                    return self.close()
                else:
                    return self._ask_for_body(now)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error), now)

    def _ask_for_body(self, now: float) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._send([h11.InformationalResponse(status_code=100, headers=[])], now)

    def _answer(self, now: float) -> None:
        assert self._request is not None
        request = _describe(self._request, self._peer, self.is_local)
        self._give(lambda: self._respond(request), now)

    def _give(self, answer: Callable[[], Response | Pending], now: float) -> None:
        """Write a response, or wait for one that takes its time."""
        try:
            found = answer()
            if not isinstance(found, Response):
                found.notify(self._wake)
                self._pending = found
                self._enter(State.WAITING, now, found.deadline - now)
                return
            events = self._events(found)
        except Exception:  # noqa: BLE001 - no request may end the process that answers all of them
            # The hook itself, because the traceback module would cost memory that it hardly ever earns.
            sys.__excepthook__(*sys.exc_info())
            events = self._events(Response(500, TEXT, b"Internal error, see the exporter's standard error.\n"))
        self._enter(State.WRITING, now, self._limits.write_timeout)
        self._send(events, now)

    def _refuse(self, status: int, reason: str, now: float) -> None:
        self.keep_alive = False
        self._enter(State.WRITING, now, self._limits.write_timeout)
        self._send(self._events(Response(status, TEXT, f"{reason}\n".encode())), now)

    def _events(self, response: Response) -> list[h11.Event]:
        """Translate a response into h11's terms, which checks it on the way."""
        headers = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            *response.headers,
        ]
        if not self.keep_alive:
            headers.append(("connection", "close"))
        events: list[h11.Event] = [
            h11.Response(status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase)
        ]
        bodiless = self._request is not None and self._request.method == b"HEAD"
        if response.body and not bodiless and response.status not in (204, 304):
            events.append(h11.Data(data=response.body))
        events.append(h11.EndOfMessage())
        return events

    def _send(self, events: list[h11.Event], now: float) -> None:
        try:
            for event in events:
                # Passed through, not joined: the body of a large scrape is not copied.
                chunks = self._http.send_with_data_passthrough(event) or ()
                self._out.extend(memoryview(chunk) for chunk in chunks if chunk)
        except h11.LocalProtocolError:
            return self.close()
        try:
            self._flush(now)
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _flush(self, now: float) -> None:
        sent = self.sock.sendmsg(self._out)
        while self._out and sent >= len(self._out[0]):
            sent -= len(self._out.pop(0))
        if self._out:
            self._out[0] = self._out[0][sent:]
        elif self.state is State.WRITING:
            self._finish(now)

    def _finish(self, now: float) -> None:
        self._request = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._pipelined = self._buffered > 0
            if self._pipelined:
                self._enter(State.READING, now, self._limits.request_timeout)
            else:
                self._enter(State.IDLE, now, self._limits.idle_timeout)
        else:
            self.sock.shutdown(socket.SHUT_WR)
            self._enter(State.LINGERING, now, LINGER)


def _describe(request: h11.Request, peer: str, is_local: bool) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    target = request.target.decode("latin-1")
    if not target.startswith("/") and "://" in target:
        # The absolute form, as a client speaks to a proxy (RFC 9112, section 3.2.2).
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return Request(request.method.decode("latin-1"), path, query, headers, peer, is_local)


def _declared_length(request: h11.Request) -> int:
    for name, value in request.headers:
        if name == b"content-length":
            return int(value)
    return 0
