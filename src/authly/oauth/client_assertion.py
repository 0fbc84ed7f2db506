"""Assertions with which clients authenticate: private_key_jwt (RFC 7523, sections 2.2 and 3)."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from authly.errors import InvalidClientError
from authly.oauth import client_keys
from authly.tokens.secrets import hash_of

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Clocks differ.
_LEEWAY_SECONDS = 60
# How long an assertion may be valid, and has to be remembered.
_LONGEST_SECONDS = 3600
_LONGEST = 8192


class AlgorithmError(InvalidClientError):
    """An assertion names an algorithm with which none of the client's keys signs."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an assertion says, once it has been verified."""

    jti_hash: bytes
    expires_at: datetime


def claimed_client_id(assertion: str) -> str:
    """Return whose assertion it says it is, for want of keys to verify it with.

    Raises:
        InvalidClientError: it is no JSON Web Token.
    """
    try:
        if len(assertion) > _LONGEST:
            raise ValueError("too long")
        claims = json.loads(jws.extract_compact(assertion.encode("ascii")).payload)
        subject = claims["sub"]
    except (JoseError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidClientError("The client_assertion is no JSON Web Token with a subject.") from error
    if not isinstance(subject, str):
        raise InvalidClientError("The client_assertion is no JSON Web Token with a subject.")
    return subject


def verify(
    assertion: str,
    client_id: str,
    jwks: dict[str, Any],
    audiences: frozenset[str],
    now: Callable[[], float] = time.time,
) -> Assertion:
    """Verify an assertion; whether it was used before is the caller's to find out.

    Args:
        assertion: as the client sent it, not longer than :func:`claimed_client_id` allows.
        client_id: whose it has to be.
        jwks: the client's public keys.
        audiences: for whom it may be.
        now: the time of day, in seconds since 1970.

    Raises:
        AlgorithmError: it names an algorithm with which none of the client's keys signs.
        InvalidClientError: it does not authenticate the client.
    """
    claims = _verified(assertion, jwks)
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise InvalidClientError("The issuer and the subject of the client_assertion have to be the client.")
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not any(isinstance(name, str) and name in audiences for name in named):
        raise InvalidClientError("The client_assertion is for another audience.")
    moment = now()
    expires_at = _number(claims, "exp")
    if expires_at is None or not moment - _LEEWAY_SECONDS < expires_at <= moment + _LONGEST_SECONDS + _LEEWAY_SECONDS:
        raise InvalidClientError("The client_assertion has expired, or is valid for more than an hour.")
    if any(
        (time_ := _number(claims, name)) is not None and time_ > moment + _LEEWAY_SECONDS for name in ("nbf", "iat")
    ):
        raise InvalidClientError("The client_assertion is not valid yet.")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        raise InvalidClientError("The client_assertion has no jti, without which it could be used again.")
    return Assertion(hash_of(jti), datetime.fromtimestamp(expires_at, UTC))


def _verified(assertion: str, jwks: dict[str, Any]) -> dict[str, Any]:
    """Return the claims of an assertion that one of the client's keys signed."""
    try:
        header = jws.extract_compact(assertion.encode("ascii")).headers()
        kid, algorithm = header.get("kid"), header.get("alg")
        keys = client_keys.read(jwks)
        if not any(algorithm in client_keys.algorithms_of(key) for key in keys):
            raise AlgorithmError("No key of the client verifies the client_assertion.")
        for key in keys:
            # Which algorithms are possible follows from the key, not from what the assertion says: neither "none" nor
            # "HS256" with a public key for a secret ever is.
            if algorithm not in client_keys.algorithms_of(key) or (kid and key.kid and kid != key.kid):
                continue
            try:
                payload = jws.deserialize_compact(assertion.encode("ascii"), key, algorithms=[algorithm]).payload
            except JoseError:
                continue
            claims = json.loads(payload)
            if isinstance(claims, dict):
                return claims
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidClientError("The client_assertion cannot be read.") from error
    raise InvalidClientError("No key of the client verifies the client_assertion.")


def _number(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    # A bool is an int, JSON has Infinity in Python, and timestamps have an end.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        return None if name not in claims else float("inf")
    return float(value)
