"""Proof Key for Code Exchange (RFC 7636), with the method S256 alone."""

import base64
import hashlib
import hmac
import re

from authly.errors import InvalidGrantError, InvalidRequestError
from authly.oauth.parameters import Parameters

METHOD = "S256"
# 256 bits in base64url (section 4.2).
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def challenge_of(parameters: Parameters, *, required: bool) -> str | None:
    """Return the code challenge of an authorization request.

    Args:
        parameters: those of the request.
        required: whether the client has to send one.

    Raises:
        InvalidRequestError: there is none, or it was not made with S256 (RFC 9700, section 2.1.1: the method that does
            not expose the verifier).
    """
    challenge = parameters.get("code_challenge")
    if challenge is None and not required and "code_challenge_method" not in parameters:
        return None
    if challenge is None:
        raise InvalidRequestError("The parameter code_challenge is missing: PKCE is required.")
    # Left out means "plain" (section 4.3), which protects nothing against who reads the request.
    if parameters.get("code_challenge_method") != METHOD:
        raise InvalidRequestError("The parameter code_challenge_method has to be S256.")
    if not _CHALLENGE.fullmatch(challenge):
        raise InvalidRequestError("The parameter code_challenge is no SHA-256 in base64url without padding.")
    return challenge


def verify(verifier: str | None, challenge: str | None) -> None:
    """Make sure that a code verifier belongs to a code challenge (section 4.6).

    Raises:
        InvalidRequestError: the verifier is missing or malformed.
        InvalidGrantError: it belongs to another challenge, or there was none: somebody may have taken it out of the
            request (RFC 9700, section 4.8.2).
    """
    if challenge is None:
        if verifier is not None:
            raise InvalidGrantError("There is a code_verifier, and there was no code_challenge.")
        return
    if verifier is None:
        raise InvalidRequestError("The parameter code_verifier is missing.")
    if not _VERIFIER.fullmatch(verifier):
        raise InvalidRequestError("The parameter code_verifier is not 43 to 128 unreserved characters.")
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    if not hmac.compare_digest(made, challenge.encode()):
        raise InvalidGrantError("The code_verifier does not belong to the code_challenge.")
