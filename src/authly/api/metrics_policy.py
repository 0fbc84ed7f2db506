"""Who may read the metrics on the application port.

A request has to come from an allowed network and, where there are verifiers of tokens, to carry a bearer token that one
of them accepts (RFC 6750).
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from starlette.requests import Request

from authly.api.forwarding import Address, Network, UnknownClientError, client_address, within
from authly.core.repository import DatabaseUnavailableError
from authly.core.security_log import SecurityLog
from authly.errors import InvalidTokenError
from authly.monitoring.exporter.access import tokens
from authly.monitoring.exporter.access.changes import Changes
from authly.monitoring.labels import SecurityEvent, Severity
from authly.monitoring.recorders import SecurityRecorder
from authly.tokens.service import TokenService

METRICS_SCOPE = "metrics:read"
_MAX_REMEMBERED = 64


class TokenVerifier(Protocol):
    """Knows some kind of bearer token."""

    async def accepts(self, token: str) -> bool:
        """Tell whether whoever has this token may read the metrics."""


class TokenFile:
    """The tokens of a file, which is read again when it has changed.

    One that cannot be read leaves the tokens before it in force; where there are none, no token is accepted.

    Args:
        path: the file.
        report: takes a line about something an operator should know.
        changes: notices new files.
    """

    def __init__(self, path: Path, report: Callable[[str], None], changes: Changes | None = None) -> None:
        self._path = path
        self._report = report
        self._changes = changes or Changes()
        self._digests: tuple[bytes, ...] = ()
        self._problem = ""
        self._refresh()

    async def accepts(self, token: str) -> bool:
        """Tell whether the file has this token."""
        self._refresh()
        return tokens.matches(self._digests, token)

    def _refresh(self) -> None:
        if not self._changes.found():
            return
        self._changes.note([self._path])
        problem = ""
        try:
            self._digests = tokens.read(self._path)
        except tokens.TokenFileError as error:
            kept = "those before it stay in force" if self._digests else "no token is accepted"
            problem = f"The tokens in {self._path} cannot be used, and {kept}: {error}."
        if problem and problem != self._problem:
            self._report(problem)
        self._problem = problem


class AccessTokens:
    """The access tokens that clients have for themselves, with the scope ``metrics:read``.

    Metrics are wanted most when the database is away. A token that was good before then is good until it expires,
    though nobody can tell whether it has been revoked meanwhile.

    Args:
        tokens: verifies tokens.
        audience: for whom they have to be: Authly itself.
        now: the time of day, in seconds since 1970.
    """

    def __init__(self, tokens: TokenService, audience: str, now: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._audience = audience
        self._now = now
        # The digests of those that were good when last asked for, and when they expire.
        self._good: dict[bytes, int] = {}

    async def accepts(self, token: str) -> bool:
        """Tell whether this is such a token.

        Raises:
            DatabaseUnavailableError: the database is away, and the token was not seen before.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        try:
            claims = await self._tokens.verify(token, self._audience)
        except InvalidTokenError:
            self._good.pop(digest, None)
            return False
        except DatabaseUnavailableError:
            if self._good.get(digest, 0) > self._now():
                return True
            raise
        # What a client has in the name of a user is the user's, who need not be an operator.
        if METRICS_SCOPE not in claims.scopes or claims.subject != claims.client_id:
            return False
        if len(self._good) >= _MAX_REMEMBERED:
            del self._good[next(iter(self._good))]
        self._good[digest] = claims.expires_at
        return True


class Denial(NamedTuple):
    """Why somebody may not look, and what he is told.

    Args:
        status: of the response.
        reason: in words.
        challenge: of ``WWW-Authenticate``; empty where no token would help.
    """

    status: int
    reason: str
    challenge: str = ""


class MetricsPolicy:
    """Decides who may read the metrics.

    Args:
        networks: from where.
        verifiers: of bearer tokens; none where the network is enough.
        metrics: counts who was kept out.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        verifiers: Sequence[TokenVerifier],
        metrics: SecurityRecorder,
    ) -> None:
        self._networks = tuple(networks)
        self._verifiers = tuple(verifiers)
        self._security = SecurityLog(metrics)

    async def admit(self, request: Request) -> Address | Denial:
        """Return the address of whoever asks if he may look, else why not."""
        try:
            address = client_address(request.scope)
        except UnknownClientError as error:
            return self._deny(Severity.MEDIUM, Denial(403, str(error)))
        if not within(address, self._networks):
            return self._deny(Severity.MEDIUM, Denial(403, "it comes from outside of AUTHLY_METRICS_ALLOWED_NETWORKS"))
        if not self._verifiers:
            return address
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip(" ")
        if not scheme:
            return self._deny(Severity.LOW, Denial(401, "it carries no bearer token", 'Bearer realm="metrics"'))
        if scheme.lower() == "bearer" and token:
            for verifier in self._verifiers:
                if await verifier.accepts(token):
                    return address
        challenge = 'Bearer realm="metrics", error="invalid_token"'
        return self._deny(Severity.MEDIUM, Denial(401, "its bearer token is not accepted", challenge))

    def _deny(self, severity: Severity, denial: Denial) -> Denial:
        self._security.note(SecurityEvent.METRICS_DENIED, severity, reason=denial.reason)
        return denial
