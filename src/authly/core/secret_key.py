"""The secret that everything else Authly has to keep secret is derived from.

Owns where it comes from and how keys are derived from it. It never leaves this module: who needs a key names a purpose
and gets one of its own.
"""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_FILE = "secret.key"


class SecretKeyError(RuntimeError):
    """The secret key cannot be read or made; the message says why and what to do."""


class SecretKey:
    """A secret from which keys are derived (RFC 5869).

    Args:
        secret: at least 32 characters that nobody can guess.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def derive(self, purpose: str) -> bytes:
        """Return the 32 bytes that belong to a purpose: always the same, and of no help with those of another."""
        return HKDF(SHA256(), length=32, salt=None, info=f"authly {purpose}".encode()).derive(self._secret)


def read_or_create(directory: Path) -> SecretKey:
    """Return the secret that is kept in a directory; make one if there is none.

    Any number of processes may do so at once: all of them get the same.

    Args:
        directory: the state directory, made with mode 0700 if it is not there.

    Raises:
        SecretKeyError: the file cannot be read or written, or is not what this function wrote.
    """
    path = directory / _FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretKeyError(
            f"The secret key cannot be kept in {path}: {error}. Set AUTHLY_SECRET_KEY, or make the directory writable."
        ) from error
    if len(secret) < 32:
        raise SecretKeyError(f"{path} is shorter than a secret key. Restore it, or set AUTHLY_SECRET_KEY.")
    return SecretKey(secret)


def _create(path: Path) -> None:
    # Written beside its place and linked into it: whoever comes second finds a whole file and keeps it.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
