"""Queues of listening sockets, asked of the kernel in two ways that must agree."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter import listen_queues as module
from authly.monitoring.exporter.listen_queues import ListenQueue, listen_queues, parse_proc


def inode(listener: socket.socket) -> int:
    """Return the number of a socket."""
    return os.fstat(listener.fileno()).st_ino


@contextlib.contextmanager
def listening(family: int, address: str | tuple[str, int], limit: int, waiting: int) -> Iterator[socket.socket]:
    """Yield a listening socket with connections that nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind(address)
        listener.listen(limit)
        for _ in range(waiting):
            client = stack.enter_context(socket.socket(family))
            client.connect(listener.getsockname())
        yield listener


@pytest.mark.parametrize("through", ["netlink", "proc"])
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "0.0.0.0")]
)
def test_tcp(family: int, address: str, through: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener is found by its number and by its address, with what waits; its limit where the kernel tells it."""
    if through == "proc":

        def unknown(_: bytes) -> Iterator[bytes]:
            raise OSError(errno.EPROTONOSUPPORT, "no sock_diag")

        monkeypatch.setattr(module, "_dump", unknown)
    with listening(family, (address, 0), 7, 3) as listener:
        (queue,) = [queue for queue in listen_queues() if queue.inode == inode(listener)]
        limit = 7 if through == "netlink" else None
        assert queue == ListenQueue(inode(listener), address, listener.getsockname()[1], 3, limit)


def test_unix(tmp_path: Path) -> None:
    """A Unix socket is found by its number; not where it is not asked for."""
    with listening(socket.AF_UNIX, str(tmp_path / "socket"), 9, 4) as listener:
        (queue,) = [queue for queue in listen_queues() if queue.inode == inode(listener)]
        assert queue == ListenQueue(inode(listener), "", 0, 4, 9)
        assert not [
            queue for queue in listen_queues({socket.AF_INET, socket.AF_INET6}) if queue.inode == inode(listener)
        ]


def test_many_listeners_come_in_several_messages() -> None:
    """The kernel's answer to a dump has as many parts as it takes."""
    # An address that nobody else uses: with so many ports, others would find some of them open and try them.
    address = "127.0.77.1"
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listening(socket.AF_INET, (address, 0), 5, 1)) for _ in range(300)]
        found = {queue.inode: queue for queue in listen_queues()}
        for listener in listeners:
            assert found[inode(listener)].waiting == 1


def test_what_the_kernel_refuses_is_an_error() -> None:
    """An answer that says no becomes an OSError with its number, and no queue."""
    with pytest.raises(OSError, match="Invalid argument"):
        list(module._dump(b"\xff"))


@given(
    inode_=st.integers(1, 2**32 - 1),
    port=st.integers(0, 65535),
    waiting=st.integers(0, 2**31 - 1),
    state=st.integers(1, 12),
    address=st.ip_addresses(),
)
def test_lines_of_proc(inode_: int, port: int, waiting: int, state: int, address: object) -> None:
    """Whatever stands in a line comes out of it; sockets that do not listen are left out."""
    family = socket.AF_INET if "." in str(address) else socket.AF_INET6
    packed = socket.inet_pton(family, str(address))
    words = "".join(f"{int.from_bytes(packed[start : start + 4], 'little'):08X}" for start in range(0, len(packed), 4))
    line = (
        f"   0: {words}:{port:04X} {'0' * len(words)}:0000 {state:02X} 00000000:{waiting:08X} 00:00000000 00000000"
        f"     0        0 {inode_} 1 00000000f15febb1 100 0 0 10 0"
    )
    expected = [ListenQueue(inode_, socket.inet_ntop(family, packed), port, waiting, None)] if state == 10 else []
    assert list(parse_proc([line], family)) == expected
