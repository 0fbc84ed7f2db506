"""Values that nobody can guess, of which only hashes are kept."""

import base64
import hashlib
import hmac
import os
import secrets

SALT_BYTES = 16
# Of what new_secret makes; anything longer is not ours, and not worth a hash and a query.
LENGTH = 43


def new_secret() -> str:
    """Return 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


def new_salt() -> bytes:
    """Return what makes the successor of a refresh token its own."""
    return os.urandom(SALT_BYTES)


def hash_of(secret: str) -> bytes:
    """Return the SHA-256 of a secret.

    A fast hash is enough: nobody can try 2^256 values, which is what slow ones are for.
    """
    return hashlib.sha256(secret.encode()).digest()


class Successors:
    """Says which refresh token follows on which.

    Args:
        key: 32 bytes that only Authly knows.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, token: str, salt: bytes) -> str:
        """Return the successor of a refresh token: of the same one always the same.

        It takes the key, the row in the database (for the salt) and the token itself to know it.
        """
        digest = hmac.digest(self._key, salt + token.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
