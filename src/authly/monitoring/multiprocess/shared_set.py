"""A set of short words that all processes of an instance share, and that grows to a size and no further.

For label values that are not known in advance: which of them have been given a series does not depend on which worker
met them, nor on how many workers came and went. The words are lines of a file in the directory of the metric files.
Nothing is ever taken out, so that a process that knows of a full set need not look again.
"""

import fcntl
import os
import re
from pathlib import Path

HEADER = b"authly shared set\n"
_NAME = re.compile(r"shared_[a-z_]+\.set")
_LONGEST = 64


def is_file_name(name: str) -> bool:
    """Tell whether a file of this name is one of these."""
    return _NAME.fullmatch(name) is not None


def looks_like_shared_set(head: bytes, _: int) -> bool:
    """Tell whether a file that begins so is one of these, or was about to become one."""
    return HEADER.startswith(head)


class SharedSet:
    """Such a set.

    Args:
        directory: of the metric files; None keeps the words in this process.
        name: of the set, in small letters.
        most: how many words it takes.
    """

    def __init__(self, directory: Path | None, name: str, most: int) -> None:
        self._path = directory / f"shared_{name}.set" if directory else None
        self._most = most
        self._known: set[str] = set()

    def add(self, word: str) -> bool:
        """Add a word where there is room; tell whether the set has it.

        Raises:
            OSError: the file cannot be read or written. The words are kept in this process from then on.
        """
        if word not in self._known and len(self._known) < self._most:
            try:
                self._exchange(word)
            except OSError:
                self._path = None
                self._known.add(word)
                raise
        return word in self._known

    def _exchange(self, word: str) -> None:
        """Learn what others have added, and add a word if there is room."""
        if self._path is None:
            self._known.add(word)
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            content = os.pread(descriptor, len(HEADER) + self._most * (_LONGEST + 1), 0)
            self._known.update(content.removeprefix(HEADER).decode("ascii", "replace").split())
            if word not in self._known and len(self._known) < self._most:
                os.write(descriptor, (b"" if content else HEADER) + f"{word[:_LONGEST]}\n".encode())
                self._known.add(word)
        finally:
            os.close(descriptor)
