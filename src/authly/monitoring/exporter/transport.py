"""Move bytes between a connection and its non-blocking socket, in the clear or encrypted.

Both kinds raise BlockingIOError where they would have to wait, and say in ``wants`` for what if it is not what was
tried: an encrypted connection may have to write before it can read.
"""

import selectors
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import ssl

_RECORD = 16384
# Bytes written before others get their turn.
_AT_ONCE = 16 * _RECORD


class Transport(Protocol):
    """Bytes of one client."""

    @property
    def sock(self) -> socket.socket:
        """What a selector waits for."""

    @property
    def wants(self) -> int:
        """The event of ``selectors`` that the last call had to wait for; 0 if that is plain from the call."""

    @property
    def is_secure(self) -> bool:
        """Whether it has to shake hands first."""

    @property
    def has_more(self) -> bool:
        """Whether there is something to read that the selector does not know of."""

    def shake_hands(self) -> None:
        """Go on with the handshake; returns when it is complete."""

    def certificate_names(self) -> frozenset[str]:
        """Return the alternative names of the client's certificate."""

    def receive(self, size: int) -> bytes:
        """Return what is there, at most so many bytes; nothing at the end."""

    def send(self, pieces: Sequence[memoryview]) -> int:
        """Send as much as goes, and return how much that was."""

    def finish(self) -> None:
        """Say that nothing more will be sent."""


class Plain:
    """Bytes as they are.

    Args:
        sock: non-blocking.
    """

    __slots__ = ("sock",)

    wants = 0
    is_secure = False
    has_more = False

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def shake_hands(self) -> None:
        """Do nothing."""

    def certificate_names(self) -> frozenset[str]:
        """Return nothing; there is no certificate."""
        return frozenset()

    def receive(self, size: int) -> bytes:
        """Return what is there, at most so many bytes; nothing at the end."""
        return self.sock.recv(size)

    def send(self, pieces: Sequence[memoryview]) -> int:
        """Send as much as goes, and return how much that was."""
        return self.sock.sendmsg(pieces)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)


class Secure:
    """Bytes encrypted by TLS.

    Args:
        sock: non-blocking; from now on this object's.
        context: how.

    Raises:
        OSError: the client is gone.
    """

    __slots__ = ("_ssl", "_tls", "wants")

    is_secure = True

    def __init__(self, sock: socket.socket, context: "ssl.SSLContext") -> None:
        # Imported by whoever made the context.
        self._ssl = sys.modules["ssl"]
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.wants = selectors.EVENT_READ

    @property
    def sock(self) -> socket.socket:
        """What a selector waits for."""
        return self._tls

    @property
    def has_more(self) -> bool:
        """Whether there is something decrypted that was not read."""
        return self._tls.pending() > 0

    def shake_hands(self) -> None:
        """Go on with the handshake; returns when it is complete."""
        self.wants = 0
        try:
            self._tls.do_handshake()
        except OSError as error:
            self._wait_or_raise(error)

    def certificate_names(self) -> frozenset[str]:
        """Return the alternative names of the client's certificate, written as Go writes them."""
        certificate = self._tls.getpeercert() or {}
        names = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
        return frozenset(_address(value) if kind == "IP Address" else value for kind, value in names)

    def receive(self, size: int) -> bytes:
        """Return what is there, at most so many bytes; nothing at the end."""
        self.wants = 0
        try:
            return self._tls.recv(size)
        except OSError as error:
            self._wait_or_raise(error)
            return b""

    def send(self, pieces: Sequence[memoryview]) -> int:
        """Send as much as goes, and return how much that was."""
        self.wants = 0
        sent = 0
        for piece in pieces:
            position = 0
            while position < len(piece) and sent < _AT_ONCE:
                try:
                    # OpenSSL wants to see the same bytes again after it had to wait: always a record from here.
                    taken = self._tls.send(piece[position : position + _RECORD])
                except OSError as error:
                    if sent and isinstance(error, (self._ssl.SSLWantReadError, self._ssl.SSLWantWriteError)):
                        return sent
                    self._wait_or_raise(error)
                    return sent
                position += taken
                sent += taken
            if sent >= _AT_ONCE:
                break
        return sent

    def finish(self) -> None:
        """Say that nothing more will be sent; what comes in from now on is not decrypted any more."""
        # It has been said once this had to wait for the client to say the same.
        self.wants = 0
        with suppress(self._ssl.SSLWantReadError, self._ssl.SSLWantWriteError):
            self._tls.unwrap()
        self._tls.shutdown(socket.SHUT_WR)

    def _wait_or_raise(self, error: OSError) -> None:
        """Turn an error into what it means; one that means the end means nothing more."""
        if isinstance(error, self._ssl.SSLWantReadError):
            self.wants = selectors.EVENT_READ
            raise BlockingIOError from None
        if isinstance(error, self._ssl.SSLWantWriteError):
            self.wants = selectors.EVENT_WRITE
            raise BlockingIOError from None
        raise error


def _address(text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return text.strip()
