"""The public keys of clients that authenticate with assertions."""

import base64
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

_MOST = 10
_LEAST_RSA_BITS = 2048
# What a key can sign with; the same key never verifies more than this (RFC 8725, section 3.1).
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")

PublicKey = RSAKey | ECKey | OKPKey


class ClientKeysError(ValueError):
    """A JWK Set cannot be a client's; the message says why."""


def read(jwks: dict[str, Any]) -> list[PublicKey]:
    """Return the keys of a JWK Set.

    Raises:
        ClientKeysError: it is none, or has keys that are symmetric, private, or weak.
    """
    found = jwks.get("keys")
    if not isinstance(found, list) or not 1 <= len(found) <= _MOST:
        raise ClientKeysError("it has no list of 1 to 10 keys")
    if any(not isinstance(key, dict) or key.keys() & {"d", "k", "p", "q", "oth"} for key in found):
        raise ClientKeysError("it has a private or symmetric key; register public keys alone")
    try:
        # Before joserfc sees them, which warns of weak keys and takes them.
        if any(key.get("kty") == "RSA" and _bits(key["n"]) < _LEAST_RSA_BITS for key in found):
            raise ClientKeysError("it has an RSA key of less than 2048 bits")
        keys = KeySet.import_key_set({"keys": found}).keys
        for key in keys:
            # The numbers of a key are read when they are first needed; one that has wrong ones is to be found now.
            _ = key.public_key if isinstance(key, (RSAKey, ECKey, OKPKey)) else None
    except ClientKeysError:
        raise
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise ClientKeysError("it has a key that cannot be read") from error
    return [_checked(key) for key in keys]


def algorithms_of(key: PublicKey) -> tuple[str, ...]:
    """Return what a key can verify."""
    if isinstance(key, RSAKey):
        return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    if isinstance(key, ECKey):
        return (_CURVES[str(key.curve_name)],)
    return ("EdDSA", "Ed25519")


def _bits(modulus: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(modulus + "=="), "big").bit_length()


def _checked(key: object) -> PublicKey:
    if isinstance(key, RSAKey):
        return key
    if isinstance(key, ECKey) and key.curve_name in _CURVES:
        return key
    if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
        return key
    raise ClientKeysError("it has a key that is neither RSA, nor EC on P-256, P-384 or P-521, nor Ed25519")
