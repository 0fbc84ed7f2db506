"""The exporter's server, spoken to over real sockets."""

import contextlib
import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authly.monitoring.exporter.http import Request, Response
from authly.monitoring.exporter.server import Server
from authly.monitoring.exporter.sockets import bind_tcp, bind_unix

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"0123456789abcdef" * (5 * 1024 * 1024 // 16)
PATIENCE = 20.0


class Application:
    """Answers by path, remembers what it was asked, and can be held up."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.entered = threading.Event()
        self.proceed = threading.Event()

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        self.requests.append(request)
        match request.path:
            case "/raise":
                raise ValueError("a bug in a collector")
            case "/bad-header":
                return Response(200, "text/plain", b"x", (("x", "a\r\nb"),))
            case "/empty":
                return Response(204)
            case "/large":
                return Response(200, "text/plain", LARGE)
            case "/wait":
                self.entered.set()
                self.proceed.wait(PATIENCE)
        return Response(200, "text/plain", f"you asked for {request.path}".encode(), (("x-extra", "1"),))


class Running:
    """A server in a thread of its own."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.application = Application()
        self.tcp = options.pop("tcp", None) or bind_tcp("127.0.0.1:0")
        self.unix = bind_unix(directory)
        self.directory = directory
        self.server = Server([self.tcp, self.unix], self.application, **options)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """Connect over TCP."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(self.tcp.getsockname())
        return sock

    def connect_unix(self) -> socket.socket:
        """Connect over the Unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.directory / "exporter.sock"))
        return sock

    def ask(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own and return all that comes back until it is closed."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_all(sock)

    def scrape(self) -> bytes:
        """Make one proper request."""
        return self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    def open_connections(self) -> int:
        """Count the connections that the server holds."""
        return sum(map(len, self.server._connections.values()))

    def end(self) -> None:
        """Stop at once and release everything."""
        self.application.proceed.set()
        self.server.stop(grace=0)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.tcp.close()
        self.unix.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    running: list[Running] = []

    def start_one(**options: Any) -> Running:
        directory = tmp_path / str(len(running))
        directory.mkdir()
        running.append(Running(directory, **options))
        return running[-1]

    yield start_one
    for one in running:
        one.end()


def read_all(sock: socket.socket) -> bytes:
    """Read until the other side closes; a reset ends it too."""
    chunks = []
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(1 << 20):
            chunks.append(chunk)
    return b"".join(chunks)


def read_response(sock: socket.socket, *, body: bool = True) -> tuple[int, bytes, bytes]:
    """Read one response from a connection that stays open: status, head and body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, f"closed after {head!r}"
        head += byte
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    content = b""
    while body and len(content) < length:
        content += sock.recv(length - len(content))
    return status_of(head), head, content


def status_of(answer: bytes) -> int:
    """Return the status of a raw response."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer[9:12])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, and fail if it does not come about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def is_closed(sock: socket.socket) -> bool:
    """Tell, without waiting, whether the other side has closed."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


# What is asked


def test_a_request_reaches_the_application_in_full(start: Start) -> None:
    """Method, path, query, headers and the peer's address are told; repeated headers are joined."""
    running = start()
    running.ask(
        b"GET /metrics/a%20b?x=1&y=? HTTP/1.1\r\nHost: h\r\nAccept: a/b\r\nACCEPT: c/d\r\nConnection: close\r\n\r\n"
    )
    (request,) = running.application.requests
    assert request[:3] == ("GET", "/metrics/a%20b", "x=1&y=?")
    assert request.headers == {"host": "h", "accept": "a/b, c/d", "connection": "close"}
    assert (request.peer, request.is_local) == ("127.0.0.1", False)


def test_the_unix_socket_is_told_apart(start: Start) -> None:
    """A request over the Unix socket is local and has no address."""
    running = start()
    with running.connect_unix() as sock:
        sock.sendall(GET)
        assert read_response(sock)[0] == 200
    (request,) = running.application.requests
    assert (request.peer, request.is_local) == ("", True)


def test_an_absolute_target_is_its_path(start: Start) -> None:
    """A client configured for a proxy sends the whole URL; the path in it counts."""
    running = start()
    running.ask(b"GET http://h:1/metrics?a HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n")
    (request,) = running.application.requests
    assert (request.path, request.query) == ("/metrics", "a")


# What is answered


def test_connections_are_kept_alive(start: Start) -> None:
    """Requests one after the other share a connection, and extra headers are passed on."""
    running = start()
    with running.connect() as sock:
        for _ in range(3):
            sock.sendall(GET)
            status, head, body = read_response(sock)
            assert (status, body) == (200, b"you asked for /metrics")
            assert b"x-extra: 1" in head
            assert b"content-type: text/plain" in head
        assert running.open_connections() == 1


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"])
def test_connections_are_closed_when_asked_to(start: Start, head: bytes) -> None:
    """Connection: close and HTTP/1.0 end the connection after the response, without waiting for the client."""
    running = start()
    answer = running.ask(head)
    assert status_of(answer) == 200
    assert b"connection: close" in answer.lower()
    wait_until(lambda: running.open_connections() == 0)


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    """Many requests sent at once get their responses in the order of asking."""
    running = start()
    paths = [f"/{number}" for number in range(200)]
    with running.connect() as sock:
        sock.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths))
        for path in paths:
            assert read_response(sock)[2] == f"you asked for {path}".encode()


def test_pipelined_requests_do_not_keep_others_waiting(start: Start) -> None:
    """A client with a long queue of requests takes turns with the others."""
    running = start()
    with running.connect() as greedy, running.connect() as modest:
        greedy.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 400)
        assert running.application.entered.wait(PATIENCE)
        modest.sendall(b"GET /modest HTTP/1.1\r\nHost: x\r\n\r\n")
        running.application.proceed.set()
        assert read_response(modest)[0] == 200
        position = [request.path for request in running.application.requests].index("/modest")
        assert position < 10


def test_head_has_the_length_and_no_body(start: Start) -> None:
    """HEAD tells what GET would have sent, and the connection goes on after it."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        status, head, _ = read_response(sock, body=False)
        assert status == 200
        assert b"content-length: %d" % len(b"you asked for /") in head
        sock.sendall(GET)
        assert read_response(sock)[2] == b"you asked for /metrics"


def test_204_has_no_body(start: Start) -> None:
    """An empty response leaves the connection in order."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(sock)[0] == 204
        sock.sendall(GET)
        assert read_response(sock)[0] == 200


def test_a_head_may_come_byte_by_byte(start: Start) -> None:
    """However a request is cut into segments, it is the same request."""
    running = start()
    with running.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET:
            sock.sendall(bytes([byte]))
        assert read_response(sock)[0] == 200


def test_a_small_body_is_ignored(start: Start) -> None:
    """A body is read past, sized or chunked, so that the next request is understood."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + GET)
        assert [read_response(sock)[0], read_response(sock)[0]] == [200, 200]
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n" + GET)
        assert [read_response(sock)[0], read_response(sock)[0]] == [200, 200]


def test_a_client_that_waits_for_100_continue_gets_it(start: Start) -> None:
    """A client that asks before sending its body is encouraged."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        expected = b"HTTP/1.1 100 \r\n\r\n"
        assert sock.recv(len(expected), socket.MSG_WAITALL) == expected
        sock.sendall(b"hi")
        assert read_response(sock)[0] == 200


# What is refused


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8193\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 300_000, 413),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n%b\r\n" % (b"x" * 4096) * 3,
            413,
        ),
    ],
)
def test_bad_requests_are_refused_in_words(start: Start, data: bytes, status: int) -> None:
    """Malformed and oversize requests get their status and a closed connection; the server goes on."""
    running = start()
    answer = running.ask(data)
    assert status_of(answer) == status
    assert b"connection: close" in answer.lower()
    assert status_of(running.scrape()) == 200
    assert len(running.application.requests) == 1


def test_a_refusal_is_no_reset(start: Start) -> None:
    """A client refused in the middle of its body reads the refusal and an orderly end, not a reset."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    assert status_of(answer) == 413


def test_a_head_of_the_largest_size_is_served(start: Start) -> None:
    """The limit counts the bytes of the head, however many of them a segment brings."""
    running = start(max_head=1000)
    filler = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: %b\r\n\r\n"
    room = 1000 - len(filler % b"")
    assert status_of(running.ask(filler % (b"a" * room))) == 200
    assert status_of(running.ask(filler % (b"a" * (room + 500)))) == 431


@pytest.mark.parametrize("path", [b"/raise", b"/bad-header"])
def test_a_bug_in_the_application_is_500(start: Start, path: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """An exception and an unsendable response answer 500, leave a traceback, and the connection goes on."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        status, _, body = read_response(sock)
        assert status == 500
        assert b"a bug" not in body
        sock.sendall(GET)
        assert read_response(sock)[0] == 200
    assert "Traceback" in capfd.readouterr().err


def test_connect_is_no_tunnel(start: Start) -> None:
    """A CONNECT that the application wrongly grants ends with the connection."""
    running = start()
    running.ask(b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n")
    assert status_of(running.scrape()) == 200


# Time


def test_a_request_that_takes_too_long_is_408(start: Start) -> None:
    """A client that began a head or a body and does not go on is told so."""
    running = start(request_timeout=0.1)
    assert status_of(running.ask(b"GET / HT")) == 408
    assert status_of(running.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")) == 408
    assert running.application.requests == []


def test_a_trickle_does_not_extend_the_time(start: Start) -> None:
    """Each byte is no new lease: the time runs from the first one."""
    running = start(request_timeout=0.3)
    begin = time.monotonic()
    with running.connect() as sock:
        with contextlib.suppress(OSError):
            while not select_readable(sock, 0.02):
                sock.sendall(b"G" if time.monotonic() - begin < 0.05 else b"E")
        assert 0.2 < time.monotonic() - begin < 5


def select_readable(sock: socket.socket, timeout: float) -> bool:
    """Wait until something can be read."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def test_a_silent_client_is_closed(start: Start) -> None:
    """A connection on which nothing was ever sent is closed without a word."""
    running = start(request_timeout=0.1)
    assert running.ask(b"") == b""


def test_an_idle_connection_is_closed(start: Start) -> None:
    """After the idle time between two requests the connection is closed without a word."""
    running = start(idle_timeout=0.1)
    with running.connect() as sock:
        sock.sendall(GET)
        assert read_response(sock)[0] == 200
        assert read_all(sock) == b""


def test_a_large_body_reaches_a_slow_reader(start: Start) -> None:
    """Five megabytes go out in as many pieces as the client takes, and others are served meanwhile."""
    running = start()
    with running.connect(receive_buffer=65536) as slow:
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert select_readable(slow, PATIENCE)
        assert status_of(running.scrape()) == 200
        status, _, body = read_response(slow)
        assert status == 200
        assert body == LARGE
        slow.sendall(GET)
        assert read_response(slow)[0] == 200


def test_a_reader_that_stops_is_given_up(start: Start) -> None:
    """A client that does not take its response in the time for writing loses the connection."""
    running = start(write_timeout=0.2)
    with running.connect(receive_buffer=4096) as slow:
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: len(running.application.requests) == 1)
        wait_until(lambda: running.open_connections() == 0)
        assert len(read_all(slow)) < len(LARGE)


def test_a_client_that_leaves_is_forgotten(start: Start) -> None:
    """Closing in the middle of a head or a response costs nothing but the connection."""
    running = start()
    with running.connect() as sock:
        sock.sendall(b"GET / HT")
    with running.connect(receive_buffer=4096) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert select_readable(sock, PATIENCE)
    wait_until(lambda: running.open_connections() == 0)


# Numbers


def test_five_hundred_slow_clients_do_not_lock_out_prometheus(start: Start) -> None:
    """While 500 sockets trickle a byte each, proper scrapes are answered within a second, over TCP and Unix."""
    running = start()
    stop = threading.Event()
    sockets: list[socket.socket] = []

    def trickle() -> None:
        while not stop.is_set():
            for index, sock in enumerate(sockets):
                try:
                    sock.send(b"G")
                except OSError:  # given up by the server: an attacker comes back
                    sock.close()
                    sockets[index] = running.connect()
                if stop.wait(0.0005):
                    return

    sockets.extend(running.connect() for _ in range(500))
    attacker = threading.Thread(target=trickle)
    attacker.start()
    try:
        wait_until(lambda: running.open_connections() >= 128)
        for _ in range(20):
            begin = time.monotonic()
            assert status_of(running.scrape()) == 200
            with running.connect_unix() as sock:
                sock.sendall(GET)
                assert read_response(sock)[0] == 200
            assert time.monotonic() - begin < 1
            assert running.open_connections() <= 130
    finally:
        stop.set()
        attacker.join()
        for sock in sockets:
            sock.close()


def test_the_least_useful_connection_makes_room(start: Start) -> None:
    """The connection idle longest goes first, then the one that has been sending its head longest."""
    running = start(max_connections=3)
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(running.connect())

        slow = connect()
        slow.sendall(b"GET")
        wait_until(lambda: running.open_connections() == 1)
        idle = [connect(), connect()]
        for sock in idle:
            sock.sendall(GET)
            assert read_response(sock)[0] == 200
        newcomers = [connect()]
        wait_until(lambda: is_closed(idle[0]))
        assert not is_closed(idle[1])
        newcomers.append(connect())
        wait_until(lambda: is_closed(idle[1]))
        assert not is_closed(slow)
        newcomers.append(connect())
        wait_until(lambda: is_closed(slow))
        for sock in newcomers:
            sock.sendall(GET)
            assert read_response(sock)[0] == 200


def test_tcp_and_unix_have_their_own_places(start: Start) -> None:
    """However many TCP clients come, an idle connection on the Unix socket stays."""
    running = start(max_connections=2)
    with contextlib.ExitStack() as stack:
        local = stack.enter_context(running.connect_unix())
        local.sendall(GET)
        assert read_response(local)[0] == 200
        for _ in range(10):
            sock = stack.enter_context(running.connect())
            sock.sendall(GET)
            assert read_response(sock)[0] == 200
        local.sendall(GET)
        assert read_response(local)[0] == 200
        assert running.open_connections() == 3


def test_slow_readers_make_room_too(start: Start) -> None:
    """Clients that never take their large responses do not keep a scrape out."""
    running = start(max_connections=4)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(running.connect(receive_buffer=4096))
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: len(running.application.requests) == 8)
        begin = time.monotonic()
        assert status_of(running.scrape()) == 200
        assert time.monotonic() - begin < 1


def test_a_storm_of_connections_is_survived(start: Start) -> None:
    """Hundreds of clients that connect and vanish, some with a reset, leave a server that answers."""
    running = start()
    for number in range(600):
        sock = running.connect()
        if number % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
    assert status_of(running.scrape()) == 200
    wait_until(lambda: running.open_connections() == 0)


# Listeners


class Failing(socket.socket):
    """A listener whose ``accept`` fails while there are errors left in ``errors``."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.errors: list[int] = []
        self.failures: list[float] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail or accept."""
        if self.errors:
            self.failures.append(time.monotonic())
            number = self.errors.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EPROTO, errno.EINVAL, errno.ENOBUFS])
def test_a_listener_that_fails_is_not_asked_without_end(start: Start, number: int) -> None:
    """While accept fails for want of something, it is tried a few times a second, and goes on afterwards."""
    listener = Failing(bind_tcp("127.0.0.1:0").detach())
    listener.errors = [number] * 4
    running = start(tcp=listener)
    assert status_of(running.scrape()) == 200
    assert listener.failures[-1] - listener.failures[0] >= 0.25
    assert listener.errors == []


def test_idle_connections_give_their_descriptors(start: Start) -> None:
    """Where the process has no descriptor left, an idle connection is closed for the new one, without a pause."""
    listener = Failing(bind_tcp("127.0.0.1:0").detach())
    running = start(tcp=listener)
    with running.connect() as idle:
        idle.sendall(GET)
        assert read_response(idle)[0] == 200
        wait_until(lambda: running.open_connections() == 1)
        listener.errors = [errno.EMFILE]
        begin = time.monotonic()
        assert status_of(running.scrape()) == 200
        assert time.monotonic() - begin < 0.09
        assert read_all(idle) == b""


def test_an_aborted_connection_is_skipped(start: Start) -> None:
    """A client that was gone before it was accepted does not delay the next one."""
    listener = Failing(bind_tcp("127.0.0.1:0").detach())
    listener.errors = [errno.ECONNABORTED] * 3
    running = start(tcp=listener)
    assert status_of(running.scrape()) == 200


def test_two_servers_share_a_listener(start: Start) -> None:
    """During a hand-over both exporters accept; the old one ends and no request is lost."""
    old = start()
    new = start(tcp=old.tcp.dup())
    for number in range(100):
        if number == 50:
            old.server.stop()
            old.thread.join(PATIENCE)
        assert status_of(new.scrape()) == 200
    assert old.application.requests or new.application.requests


# The end


def test_the_parents_end_is_the_servers(start: Start) -> None:
    """When the pipe from the parent ends, the server ends at once, requests under way or not."""
    read_end, write_end = os.pipe()
    running = start(watch_fd=read_end)
    with running.connect() as sock:
        sock.sendall(b"GET / HT")
        wait_until(lambda: running.open_connections() == 1)
        os.write(write_end, b"a word from the parent changes nothing")
        assert status_of(running.scrape()) == 200
        begin = time.monotonic()
        os.close(write_end)
        running.thread.join(PATIENCE)
        assert time.monotonic() - begin < 0.5
        assert read_all(sock) == b""
    os.close(read_end)


def test_stop_finishes_the_requests_under_way(start: Start) -> None:
    """A request half read and one half written are finished; idle connections are closed; nothing new is accepted."""
    running = start()
    with running.connect() as idle, running.connect() as half, running.connect(receive_buffer=4096) as slow:
        idle.sendall(GET)
        assert read_response(idle)[0] == 200
        half.sendall(GET[:10])
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert select_readable(slow, PATIENCE)
        wait_until(lambda: running.open_connections() == 3)
        running.server.stop()
        assert read_all(idle) == b""
        with running.connect() as late:  # waits in the backlog, for the next exporter
            half.sendall(GET[10:])
            answer = read_all(half)
            assert status_of(answer) == 200
            assert b"connection: close" in answer.lower()
            assert read_response(slow)[2] == LARGE
            running.thread.join(PATIENCE)
            assert not running.thread.is_alive()
            assert not is_closed(late)


def test_stop_waits_no_longer_than_its_grace(start: Start) -> None:
    """A request that does not get on is given up after the grace."""
    running = start()
    with running.connect() as half:
        half.sendall(GET[:10])
        wait_until(lambda: running.open_connections() == 1)
        begin = time.monotonic()
        running.server.stop(grace=0.2)
        running.thread.join(PATIENCE)
        assert 0.2 <= time.monotonic() - begin < 2


def test_stop_twice_and_after_the_end_is_nothing(start: Start) -> None:
    """Stopping a server that has ended does not fail."""
    running = start()
    running.server.stop()
    running.server.stop()
    running.thread.join(PATIENCE)
    running.server.stop()


def test_stop_works_from_a_signal_handler(tmp_path: Path) -> None:
    """A server waiting in its main thread ends when a handler calls ``stop``."""
    program = (
        "import signal, sys; from pathlib import Path\n"
        "from authly.monitoring.exporter.http import Response\n"
        "from authly.monitoring.exporter.server import Server\n"
        "from authly.monitoring.exporter.sockets import bind_unix\n"
        "server = Server([bind_unix(Path(sys.argv[1]))], lambda request: Response(200))\n"
        "signal.signal(signal.SIGTERM, lambda *_: server.stop())\n"
        "print('ready', flush=True)\n"
        "server.serve_forever()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


# Memory and rest


def test_an_idle_server_sleeps(start: Start) -> None:
    """With idle connections open, the thread uses no processor time."""
    running = start()
    with running.connect() as sock:
        sock.sendall(GET)
        assert read_response(sock)[0] == 200
        turns = 0
        select = running.server._selector.select

        def counting(timeout: float | None = None) -> Any:
            nonlocal turns
            turns += 1
            return select(timeout)

        running.server._selector.select = counting  # type: ignore[method-assign]
        time.sleep(0.3)
        assert turns <= 1


def test_the_exporters_modules_stay_light() -> None:
    """Nothing the server imports brings in asyncio, ssl, logging, http.server or prometheus_client."""
    program = (
        "import sys\n"
        "from authly.monitoring.exporter import negotiation, server, sockets\n"
        "heavy = {'asyncio', 'http.server', 'ssl', 'logging', 'email', 'argparse', 'prometheus_client'}\n"
        "print(*heavy & set(sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"\n"


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all examples."""
    running = Running(tmp_path_factory.mktemp("sturdy"))
    yield running
    running.end()


_LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"POST / HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Connection: close\r\n", b"\r\n",
        b"\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b"\0", b" ",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400) | st.lists(_LINES, max_size=12).map(b"".join), reset=st.booleans())
def test_no_bytes_stop_the_server(sturdy: Running, data: bytes, reset: bool) -> None:
    """Whatever a client sends, and however it leaves, the next good request is answered."""
    with sturdy.connect() as sock:
        sock.sendall(data)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            read_all(sock)
    assert status_of(sturdy.scrape()) == 200


# Responses that take their time


class Slow:
    """A response that is there when it is let, or when its time has come."""

    def __init__(self, deadline: float = PATIENCE) -> None:
        self.deadline = time.monotonic() + deadline
        self.ready = False
        self.wakes: list[Callable[[], None]] = []

    def notify(self, wake: Callable[[], None]) -> None:
        """Remember whom to wake."""
        self.wakes.append(wake)

    def response(self) -> Response:
        """Tell whether it was let."""
        if self.deadline < 0:
            raise ValueError("a bug in an answer")
        return Response(200, "text/plain", b"ready" if self.ready else b"partial")

    def let(self) -> None:
        """Be ready."""
        self.ready = True
        for wake in self.wakes:
            wake()


def hold(running: Running, *responses: Slow) -> None:
    """Let the server answer /slow with these, one after the other, and anything else as ever."""
    left = list(responses)
    fast = running.application
    running.server._respond = lambda request: left.pop(0) if request.path == "/slow" else fast(request)


SLOW = GET.replace(b"/metrics", b"/slow")


def test_others_are_answered_while_a_response_takes_its_time(start: Start) -> None:
    """One client waits; a second one, and even a second request of the first, cost the server nothing."""
    running = start()
    slow = Slow()
    hold(running, slow)
    with running.connect() as waiting:
        waiting.sendall(SLOW + GET)
        wait_until(lambda: bool(slow.wakes))
        for _ in range(3):
            assert running.scrape().startswith(b"HTTP/1.1 200")
        slow.let()
        assert read_response(waiting)[2] == b"ready"
        assert read_response(waiting)[2] == b"you asked for /metrics"
        # The connection is as good as any.
        waiting.sendall(GET)
        assert read_response(waiting)[0] == 200


def test_at_its_deadline_a_response_is_given_as_it_is(start: Start) -> None:
    """Nobody has to wake the server for that."""
    running = start()
    hold(running, Slow(deadline=0.05))
    with running.connect() as sock:
        sock.sendall(SLOW)
        assert read_response(sock)[2] == b"partial"


def test_a_waiting_server_does_not_spin(start: Start) -> None:
    """Data that cannot be taken yet, and a client that is gone, do not keep the thread busy."""
    running = start()
    slow, other = Slow(), Slow()
    hold(running, slow, other)
    turns = []
    turn = running.server._turn

    def counted() -> bool:
        turns.append(1)
        return turn()

    running.server._turn = counted  # type: ignore[method-assign]
    with running.connect() as waiting:
        waiting.sendall(SLOW + GET * 10)
        with running.connect() as gone:
            gone.sendall(SLOW)
            wait_until(lambda: bool(other.wakes))
        before = len(turns)
        time.sleep(0.2)
        assert len(turns) - before < 10
        # Their connection is closed at the answer that nobody takes.
        other.let()
        wait_until(lambda: running.open_connections() == 1)
        slow.let()
        assert read_response(waiting)[2] == b"ready"


def test_an_answer_that_fails_late_is_an_error(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """The client is told, and the server goes on."""
    running = start()
    slow = Slow()
    slow.deadline = -1.0
    hold(running, slow)
    with running.connect() as sock:
        sock.sendall(SLOW)
        assert read_response(sock)[0] == 500
    assert "a bug in an answer" in capfd.readouterr().err


def test_a_server_that_stops_gives_what_there_is(start: Start) -> None:
    """It does not wait longer for an answer than its grace allows."""
    running = start()
    slow = Slow()
    hold(running, slow)
    with running.connect() as sock:
        sock.sendall(SLOW)
        wait_until(lambda: bool(slow.wakes))
        running.server.stop(grace=1.0)
        assert read_response(sock)[2] == b"partial"
        assert sock.recv(1) == b""


def test_waiting_clients_make_room_for_others(start: Start) -> None:
    """Those whose answer takes its time are given up rather than that nobody else gets in."""
    running = start(max_connections=4)
    held = [Slow() for _ in range(4)]
    hold(running, *held)
    socks = [running.connect() for _ in held]
    for sock, slow in zip(socks, held, strict=True):
        sock.sendall(SLOW)
        wait_until(lambda: bool(slow.wakes))  # noqa: B023
    assert running.scrape().startswith(b"HTTP/1.1 200")
    assert socks[0].recv(1) == b""
    held[1].let()
    assert read_response(socks[1])[2] == b"ready"
    for sock in socks:
        sock.close()
