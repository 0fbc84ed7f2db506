"""Ask the exporter from inside an application's worker, over the Unix socket in the metrics directory."""

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path

import h11

from authly.monitoring.exporter.http import Response
from authly.monitoring.exporter.sockets import socket_address

MAX_RESPONSE = 64 * 1024 * 1024
"""Bytes of a body that a worker is willing to hold."""

_RETRY = 0.01
_OF_THE_CONNECTION = frozenset({b"connection", b"content-length", b"content-type", b"keep-alive", b"transfer-encoding"})


class ExporterUnavailable(Exception):  # noqa: N818 - a state of things rather than an error of the caller's
    """No exporter answered; the message says why."""


async def fetch(directory: Path, path: str, headers: Mapping[str, str], timeout: float) -> Response:  # noqa: ASYNC109
    """Get a path from the exporter whose socket is in the directory.

    Args:
        directory: where the metric files and the socket are.
        path: the target with its query, if any.
        headers: those of the request, besides Host and Connection.
        timeout: seconds for all of it.

    Raises:
        ExporterUnavailable: there is no exporter, or it did not answer properly or in time.
    """
    try:
        async with asyncio.timeout(timeout):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                await _connect(sock, directory)
                return await _exchange(sock, path, headers)
    except TimeoutError:
        raise ExporterUnavailable(f"no answer within {timeout:g} s") from None
    except OSError as error:
        raise ExporterUnavailable(error.strerror or str(error)) from error
    except h11.ProtocolError as error:
        raise ExporterUnavailable(str(error)) from error


async def _connect(sock: socket.socket, directory: Path) -> None:
    with socket_address(directory) as (_, address):
        while True:
            try:
                # Not loop.sock_connect: a full backlog is EAGAIN on a Unix socket, which it takes for progress.
                return sock.connect(address)
            except BlockingIOError:
                await asyncio.sleep(_RETRY)


async def _exchange(sock: socket.socket, path: str, headers: Mapping[str, str]) -> Response:
    loop = asyncio.get_running_loop()
    http = h11.Connection(h11.CLIENT)
    lines = [("host", "exporter"), ("connection", "close"), *headers.items()]
    request = http.send(h11.Request(method="GET", target=path, headers=lines)) + http.send(h11.EndOfMessage())
    await loop.sock_sendall(sock, request)
    head: h11.Response | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await loop.sock_recv(sock, 65536))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_RESPONSE:
                raise ExporterUnavailable(f"the answer exceeds {MAX_RESPONSE} bytes")
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _response(head, bytes(body))
        elif isinstance(event, h11.ConnectionClosed):
            raise ExporterUnavailable("the connection was closed without an answer")


def _response(head: h11.Response, body: bytes) -> Response:
    content_type = ""
    headers: list[tuple[str, str]] = []
    for name, value in head.headers:
        if name == b"content-type":
            content_type = value.decode("latin-1")
        elif name not in _OF_THE_CONNECTION:
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
    return Response(head.status_code, content_type, body, tuple(headers))
