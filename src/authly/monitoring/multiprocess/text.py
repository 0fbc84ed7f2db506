"""Pieces of text that make up an exposition, plain or compressed: what stayed the same is not compressed again.

A gzip member (RFC 1952) is a header, blocks of deflate, and a checksum of it all. Blocks can be made apart and put one
behind the other, as long as each begins at a byte and refers to nothing before it (RFC 1951, section 3.2).
"""

import struct
import zlib
from collections.abc import Iterable, Sequence

_WORTH_KEEPING = 4096
# Magic number, deflate, no flags, no time, no word about the effort, and an unknown operating system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# An empty block that says it is the last.
_LAST = b"\x03\x00"
_TRAILER = struct.Struct("<II")


class Text:
    """A piece of text that does not change.

    Args:
        data: in UTF-8.
    """

    __slots__ = ("_deflated", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._deflated = b""

    @property
    def deflated(self) -> bytes:
        """The text as blocks of deflate, none of them the last."""
        if not self._deflated:
            self._deflated = _deflate([self.data])
        return self._deflated


def plain(texts: Iterable[Text]) -> bytes:
    """Return texts as one."""
    return b"".join([text.data for text in texts])


def gzip(texts: Iterable[Text]) -> bytes:
    """Return texts as one, compressed."""
    parts = [_HEADER]
    small: list[bytes] = []
    checksum = size = 0
    for text in texts:
        data = text.data
        checksum = zlib.crc32(data, checksum)
        size += len(data)
        if len(data) < _WORTH_KEEPING:
            # Together, because each of them alone has little that repeats.
            small.append(data)
            continue
        if small:
            parts.append(_deflate(small))
            small.clear()
        parts.append(text.deflated)
    if small:
        parts.append(_deflate(small))
    parts += (_LAST, _TRAILER.pack(checksum, size & 0xFFFFFFFF))
    return b"".join(parts)


def _deflate(pieces: Sequence[bytes]) -> bytes:
    # The lines of an exposition are so alike that more effort saves few bytes, and costs several times as much.
    compressor = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    blocks = [compressor.compress(piece) for piece in pieces]
    return b"".join([*blocks, compressor.flush(zlib.Z_SYNC_FLUSH)])
