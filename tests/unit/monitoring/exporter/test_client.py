"""A worker asks the exporter over the Unix socket; the sockets both sides use."""

import asyncio
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from authly.monitoring.exporter import client
from authly.monitoring.exporter.client import ExporterUnavailable, fetch
from authly.monitoring.exporter.http import Request, Response
from authly.monitoring.exporter.server import Server
from authly.monitoring.exporter.sockets import bind_tcp, bind_unix

PATIENCE = 20.0


def echo(request: Request) -> Response:
    """Tell what was asked."""
    words = f"{request.path}?{request.query} {request.headers.get('accept')} {request.is_local}"
    return Response(200, "text/plain; version=0.0.4", words.encode(), (("vary", "accept"),))


@contextmanager
def serving(directory: Path, respond: Callable[[Request], Response] = echo) -> Iterator[None]:
    """Run an exporter's server on the Unix socket of the directory."""
    listener = bind_unix(directory)
    server = Server([listener], respond)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.stop(grace=0)
        thread.join(PATIENCE)
        listener.close()


@contextmanager
def answering(directory: Path, answer: bytes) -> Iterator[None]:
    """Answer one connection with raw bytes and close it."""
    listener = bind_unix(directory)
    listener.settimeout(PATIENCE)

    def answer_one() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            with suppress(OSError):  # the client may have heard enough
                sock.sendall(answer)

    thread = threading.Thread(target=answer_one)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
        listener.close()


def ask(directory: Path, path: str = "/metrics", *, timeout: float = PATIENCE, **headers: str) -> Response:
    """Fetch in an event loop of its own."""
    return asyncio.run(fetch(directory, path, headers, timeout))


def test_the_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    """Path, query and headers reach the exporter; status, type, body and the headers that matter come back."""
    with serving(tmp_path):
        answer = ask(tmp_path, "/metrics?a=b", accept="text/plain")
    assert answer == Response(200, "text/plain; version=0.0.4", b"/metrics?a=b text/plain True", (("vary", "accept"),))


def test_a_large_answer_comes_back(tmp_path: Path) -> None:
    """An exposition of several megabytes arrives whole."""
    body = b"x" * 5_000_000
    with serving(tmp_path, lambda _: Response(200, "text/plain", body)):
        assert ask(tmp_path).body == body


def test_many_at_once(tmp_path: Path) -> None:
    """More workers than the backlog holds may ask at the same moment, and the loop is not held up."""

    async def all_of_them() -> list[Response]:
        return await asyncio.gather(*(fetch(tmp_path, f"/{number}", {}, PATIENCE) for number in range(120)))

    with serving(tmp_path):
        answers = asyncio.run(all_of_them())
    assert [answer.body.split(b"?")[0] for answer in answers] == [b"/%d" % number for number in range(120)]


def test_a_deep_directory_will_do(tmp_path: Path) -> None:
    """A directory whose path is longer than the address of a Unix socket can be serves as well."""
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with serving(directory):
        assert ask(directory).status == 200


def test_no_exporter_is_told_from_a_dead_one(tmp_path: Path) -> None:
    """No directory, no socket, and a socket on which nobody listens each have their reason."""
    with pytest.raises(ExporterUnavailable, match="No such file"):
        ask(tmp_path / "missing")
    with pytest.raises(ExporterUnavailable, match="No such file"):
        ask(tmp_path)
    bind_unix(tmp_path).close()
    with pytest.raises(ExporterUnavailable, match="refused"):
        ask(tmp_path)


def test_an_exporter_that_hangs_costs_the_timeout(tmp_path: Path) -> None:
    """An exporter that accepts nothing is given up in time, even once its backlog is full."""
    with bind_unix(tmp_path) as listener:
        listener.listen(0)
        fillers = []
        for _ in range(3):
            fillers.append(socket.socket(socket.AF_UNIX))
            fillers[-1].setblocking(False)
            fillers[-1].connect_ex(str(tmp_path / "exporter.sock"))
        begin = time.monotonic()
        with pytest.raises(ExporterUnavailable, match=r"within 0\.2 s"):
            ask(tmp_path, timeout=0.2)
        assert 0.1 < time.monotonic() - begin < 5
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000,
    ],
)
def test_a_broken_answer_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    """An exporter that dies or babbles in the middle of its answer counts as unavailable."""
    with answering(tmp_path, answer), pytest.raises(ExporterUnavailable):
        ask(tmp_path)


def test_an_endless_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker does not hold more of an answer than it is willing to."""
    monkeypatch.setattr(client, "MAX_RESPONSE", 1000)
    body = b"x" * 1001
    with (
        serving(tmp_path, lambda _: Response(200, "text/plain", body)),
        pytest.raises(ExporterUnavailable, match="1000"),
    ):
        ask(tmp_path)


def test_a_header_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    """A header with a line break reaches nobody."""
    with serving(tmp_path), pytest.raises(ExporterUnavailable):
        ask(tmp_path, accept="a\r\nb: c")


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    """Answered or not, a request leaves no open descriptor."""
    with serving(tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            ask(tmp_path)
            with pytest.raises(ExporterUnavailable):
                ask(tmp_path / "missing")
        deadline = time.monotonic() + PATIENCE
        # The server's side of the connections, in this same process, is closed a moment later.
        while len(os.listdir("/proc/self/fd")) > before:
            assert time.monotonic() < deadline
            time.sleep(0.002)


# The sockets


def test_the_unix_socket_is_its_owners(tmp_path: Path) -> None:
    """The socket file is closed to others, and replaces what an earlier exporter left."""
    bind_unix(tmp_path).close()
    with bind_unix(tmp_path):
        assert stat.S_IMODE((tmp_path / "exporter.sock").stat().st_mode) == 0o600


def test_only_a_socket_is_replaced(tmp_path: Path) -> None:
    """A file of somebody else's that has the socket's name is left alone."""
    (tmp_path / "exporter.sock").write_text("precious")
    with pytest.raises(OSError, match="in use"):
        bind_unix(tmp_path)
    assert (tmp_path / "exporter.sock").read_text() == "precious"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", ":0"])
def test_tcp_addresses(address: str) -> None:
    """Addresses, names and every interface can be listened on, and the port can be had again at once."""
    with bind_tcp(address) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("localhost", port), PATIENCE), listener.accept()[0]:
            pass
    bind_tcp(f"127.0.0.1:{port}").close()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_tcp_addresses_of_ipv6() -> None:
    """IPv6 addresses are written in brackets."""
    with bind_tcp("[::1]:0") as listener:
        assert listener.family is socket.AF_INET6


@pytest.mark.parametrize(
    "address", ["", "9464", "localhost", "::1:9464", "h:", "h:x", "h:65536", "h:-1", "hö:1", "h:1²"]
)
def test_other_addresses_are_refused(address: str) -> None:
    """What is no address is named in the error."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        bind_tcp(address)


def test_a_port_that_is_taken_is_an_error() -> None:
    """Two exporters can not be given the same port by mistake."""
    with bind_tcp("127.0.0.1:0") as listener, pytest.raises(OSError, match="in use"):
        bind_tcp(f"127.0.0.1:{listener.getsockname()[1]}")
