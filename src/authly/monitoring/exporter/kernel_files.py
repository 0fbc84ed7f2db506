"""Read files of proc(5) and of cgroups, dozens at each scrape: without path objects, buffers and decoders."""

import os

_CHUNK = 65536


def read(path: str) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: it is not there, not to be read, or of a process that has ended.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, _CHUNK)
        # The kernel writes such a file in pieces: only nothing at all is the end. Most fit in one.
        while more := os.read(descriptor, _CHUNK):
            data += more
    finally:
        os.close(descriptor)
    return data
