"""Bearer tokens from a file: one a line, in the clear or as their SHA-256, compared in constant time."""

import hashlib
import hmac
import re
from pathlib import Path

MIN_LENGTH = 16
_TOKEN = re.compile(r"[!-~]+")
_DIGEST = re.compile(r"sha256:([0-9A-Fa-f]{64})")


class TokenFileError(Exception):
    """The file cannot be used; the message says why, and shows no token."""


def parse(text: str) -> tuple[bytes, ...]:
    """Return the SHA-256 of each token.

    Args:
        text: lines of a token or of ``sha256:`` and 64 hex digits; empty lines and those that begin with ``#`` are
            left out.

    Raises:
        TokenFileError: a line is neither.
    """
    digests = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if word.startswith("sha256:"):
            match = _DIGEST.fullmatch(word)
            if match is None:
                raise TokenFileError(f"line {number} is no SHA-256: after sha256: come 64 hex digits")
            digests.append(bytes.fromhex(match[1]))
        elif len(word) < MIN_LENGTH or not _TOKEN.fullmatch(word):
            raise TokenFileError(f"line {number} is no token of at least {MIN_LENGTH} visible ASCII characters")
        else:
            digests.append(hashlib.sha256(word.encode()).digest())
    return tuple(digests)


def matches(digests: tuple[bytes, ...], token: str) -> bool:
    """Tell whether a token is one of those; takes as long whichever it is, and if it is none."""
    presented = hashlib.sha256(token.encode("latin-1", "replace")).digest()
    # No early end: what is left of the loop would tell which one it was.
    return sum(hmac.compare_digest(presented, digest) for digest in digests) > 0


def read(path: Path) -> tuple[bytes, ...]:
    """Return the SHA-256 of each token of a file.

    Raises:
        TokenFileError: it cannot be read, or holds something else.
    """
    try:
        return parse(path.read_text("utf-8"))
    except OSError as error:
        raise TokenFileError(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise TokenFileError("it is not text") from None
