"""How private keys are kept: AES-256-GCM, bound to the id of the key."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class KeyUnreadableError(RuntimeError):
    """A private key was encrypted under another secret key; the message says what to do."""


class KeyEncryption:
    """Encrypts private keys.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, private_key: bytes, kid: str) -> bytes:
        """Return a nonce and the encrypted key."""
        nonce = os.urandom(_NONCE_BYTES)
        # Bound to its id: a row that was moved to the place of another cannot be read.
        return nonce + self._cipher.encrypt(nonce, private_key, kid.encode())

    def decrypt(self, encrypted: bytes, kid: str) -> bytes:
        """Return the key that :meth:`encrypt` was given.

        Raises:
            KeyUnreadableError: it was encrypted under another key, or for another id.
        """
        try:
            return self._cipher.decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], kid.encode())
        except InvalidTag as error:
            raise KeyUnreadableError(
                f"The signing key {kid} cannot be decrypted: it was made under another AUTHLY_SECRET_KEY. Set the "
                "one that it was made under; all instances on one database need the same."
            ) from error
