"""Open the sockets an exporter listens on."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET_NAME = "exporter.sock"
BACKLOG = 128


@contextmanager
def socket_address(directory: Path) -> Iterator[tuple[int, str]]:
    """Give a descriptor of the directory and a short address of the exporter's socket in it.

    The address of a Unix socket may have 107 bytes; a path through the descriptor has few, however deep the directory.
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def bind_unix(directory: Path) -> socket.socket:
    """Listen on the Unix socket in the directory, in place of one that an earlier exporter left there.

    Raises:
        OSError: the directory is missing or not writable, or something else than a socket has that name.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_address(directory) as (descriptor, address):
            _remove_socket(descriptor)
            # Linux gives the file the mode the socket has when it is bound, so it is never open to others.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def bind_tcp(address: str) -> socket.socket:
    """Listen on ``HOST:PORT``, ``[IPv6]:PORT`` or ``:PORT`` (every interface).

    Raises:
        ValueError: the address is not of that form.
        OSError: the host is unknown or the port taken.
    """
    host, port = _parse(address)
    failure: OSError | None = None
    for family, kind, protocol, _, resolved in socket.getaddrinfo(
        # Bytes, because a str makes Python load its tables for international names.
        host.encode("ascii") or None,
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    ):
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(resolved)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            failure = failure or error
        else:
            return listener
    raise failure or OSError(f"{address!r} has no address to listen on")


def _parse(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    well_formed = colon and host.isascii() and (bracketed or ":" not in host)
    if not well_formed or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{address!r} is not HOST:PORT or [IPv6]:PORT")
    return host, int(port)


def _remove_socket(directory: int) -> None:
    try:
        if stat.S_ISSOCK(os.stat(SOCKET_NAME, dir_fd=directory, follow_symlinks=False).st_mode):
            os.unlink(SOCKET_NAME, dir_fd=directory)
    except FileNotFoundError:
        pass
