"""How many connections wait to be accepted, asked of the kernel: sock_diag(7), or ``/proc/net/tcp`` without it.

Either tells of all listening sockets of this network namespace, whoever has them open.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_LISTEN: Final = 10  # TCP_LISTEN, for Unix sockets too
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4
_ANY_COOKIE: Final = 0xFFFFFFFF
# struct nlmsghdr: u32 len, u16 type, u16 flags, u32 seq, u32 pid.
_HEADER: Final = struct.Struct("=IHHII")
# struct inet_diag_req_v2: u8 family, u8 protocol, u8 ext, pad, u32 states; 48 bytes of inet_diag_sockid follow.
_INET_REQUEST: Final = struct.Struct("=BBBxI48x")
# struct unix_diag_req: u8 family, u8 protocol, u16 pad, u32 states, u32 ino, u32 show, u32 cookie[2].
_UNIX_REQUEST: Final = struct.Struct("=BBHIIIII")
# struct inet_diag_msg: u8 family, state, timer, retrans; be16 sport, dport; be32 src[4], dst[4]; u32 if, cookie[2];
# u32 expires, rqueue, wqueue, uid, inode. Of a listening socket rqueue is what waits, and wqueue the most that may.
_INET_MESSAGE: Final = struct.Struct("=4x2s2x16s16x12x4xII4xI")
# struct unix_diag_msg: u8 family, type, state, pad; u32 ino, cookie[2]; attributes follow.
_UNIX_MESSAGE: Final = struct.Struct("=4xI8x")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TWO_COUNTS: Final = struct.Struct("=II")
_TIMEOUT_SECONDS: Final = 1.0


class ListenQueue(NamedTuple):
    """The queue of a listening socket.

    Args:
        inode: the number of the socket, as ``fstat`` tells it.
        host: the address in its usual spelling; empty for a Unix socket.
        port: the port; 0 for a Unix socket.
        waiting: connections that nobody has accepted yet.
        limit: how many may wait; None where the kernel does not tell.
    """

    inode: int
    host: str
    port: int
    waiting: int
    limit: int | None


def listen_queues(
    families: Collection[socket.AddressFamily] = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX),
) -> list[ListenQueue]:
    """Return the queues of all listening sockets; of those that the kernel tells of.

    Args:
        families: which sockets are asked for.
    """
    queues: list[ListenQueue] = []
    for family in {socket.AF_INET, socket.AF_INET6}.intersection(families):
        try:
            queues += _inet(family)
        except OSError:
            queues += _from_proc(family)
    if socket.AF_UNIX in families:
        with contextlib.suppress(OSError):
            queues += _unix()
    return queues


def _inet(family: int) -> Iterator[ListenQueue]:
    request = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _LISTEN)
    for message in _dump(request):
        port, source, waiting, limit, inode = _INET_MESSAGE.unpack_from(message)
        host = socket.inet_ntop(family, source[: 4 if family == socket.AF_INET else 16])
        yield ListenQueue(inode, host, int.from_bytes(port, "big"), waiting, limit)


def _unix() -> Iterator[ListenQueue]:
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << _LISTEN, 0, _UDIAG_SHOW_RQLEN, _ANY_COOKIE, _ANY_COOKIE)
    for message in _dump(request):
        inode = _UNIX_MESSAGE.unpack_from(message)[0]
        position = _UNIX_MESSAGE.size
        while position + _ATTRIBUTE.size <= len(message):
            length, type_ = _ATTRIBUTE.unpack_from(message, position)
            if type_ == _UNIX_DIAG_RQLEN:
                waiting, limit = _TWO_COUNTS.unpack_from(message, position + _ATTRIBUTE.size)
                yield ListenQueue(inode, "", 0, waiting, limit)
            position += max(_ATTRIBUTE.size, -(-length // 4) * 4)


def _dump(request: bytes) -> Iterator[bytes]:
    """Yield the messages by which the kernel answers.

    Raises:
        OSError: it does not know sock_diag, or not of these sockets.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(_TIMEOUT_SECONDS)
        length = _HEADER.size + len(request)
        asking.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0) + request)
        while True:
            answer = asking.recv(1 << 16)
            position = 0
            while position + _HEADER.size <= len(answer):
                length, type_, *_ = _HEADER.unpack_from(answer, position)
                body = answer[position + _HEADER.size : position + length]
                if type_ == _NLMSG_DONE:
                    return
                if type_ == _NLMSG_ERROR:
                    number = -int.from_bytes(body[:4], "little", signed=True)
                    raise OSError(number, os.strerror(number))
                yield body
                position += max(_HEADER.size, -(-length // 4) * 4)


def _from_proc(family: int) -> Iterator[ListenQueue]:
    name = "tcp" if family == socket.AF_INET else "tcp6"
    try:
        lines = Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
    except OSError:
        return
    yield from parse_proc(lines, family)


def parse_proc(lines: list[str], family: int) -> Iterator[ListenQueue]:
    """Yield the queues of the listening sockets among the lines of ``/proc/net/tcp`` or ``tcp6``.

    Args:
        lines: without the first one, which names the columns.
        family: of the addresses.
    """
    for line in lines:
        _, local, _, state, queues, _, _, _, _, inode, *_ = line.split()
        if int(state, 16) == _LISTEN:
            words, _, port = local.partition(":")
            # Words of 32 bits, each in the byte order of the machine.
            address = b"".join(
                struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8)
            )
            waiting = int(queues.partition(":")[2], 16)
            yield ListenQueue(int(inode), socket.inet_ntop(family, address), int(port, 16), waiting, None)
