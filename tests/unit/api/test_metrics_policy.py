"""Who may read the metrics on the application port."""

import hashlib
import ipaddress
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from starlette.requests import Request

from authly.api.forwarding import Address, Network
from authly.api.metrics_policy import METRICS_SCOPE, AccessTokens, Denial, MetricsPolicy, TokenFile
from authly.core.repository import DatabaseUnavailableError
from authly.errors import InvalidTokenError
from authly.monitoring.labels import SecurityEvent, Severity
from authly.tokens.models import AccessTokenClaims
from authly.tokens.service import TokenService
from tests.asgi import seen_from

LOOPBACK: list[Network] = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
TOKEN = "0123456789abcdefghij"


async def request_from(peer: str | None, *headers: tuple[str, str]) -> Request:
    """Return a request."""
    return Request(await seen_from(peer, headers))


class Counting:
    """Counts denials."""

    def __init__(self) -> None:
        self.denials: list[Severity] = []

    def track_security_event(self, event: SecurityEvent, severity: Severity) -> None:
        """Count one."""
        assert event is SecurityEvent.METRICS_DENIED
        self.denials.append(severity)


def policy(networks: list[Network], *files: TokenFile) -> tuple[MetricsPolicy, Counting]:
    """Return a policy, and what counts its denials."""
    metrics = Counting()
    return MetricsPolicy(networks, files, metrics), metrics


@pytest.mark.anyio
async def test_an_allowed_network_is_enough_where_there_are_no_tokens() -> None:
    """Who is in it gets in; who is outside of it is 403, and counts."""
    allows, metrics = policy(LOOPBACK)
    for peer in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
        admitted = await allows.admit(await request_from(peer))
        assert not isinstance(admitted, Denial)
        assert str(admitted) == peer.removeprefix("::ffff:")
    for stranger in ("192.0.2.1", "::2", "::ffff:192.0.2.1", "126.255.255.255", None):
        denied = await allows.admit(await request_from(stranger))
        assert isinstance(denied, Denial)
        assert denied.status == 403
    denied = await allows.admit(await request_from("127.0.0.1", ("x-forwarded-for", "127.0.0.1")))
    assert isinstance(denied, Denial)
    assert denied.status == 403
    assert metrics.denials == [Severity.MEDIUM] * 6


@pytest.mark.anyio
async def test_nobody_gets_in_from_nowhere() -> None:
    """Without networks nobody is allowed."""
    allows, _ = policy([])
    assert isinstance(await allows.admit(await request_from("127.0.0.1")), Denial)


@pytest.mark.anyio
async def test_a_token_is_needed_where_there_are_some(tmp_path: Path) -> None:
    """From an allowed network a token of the file lets in; none and a wrong one are 401 with a challenge."""
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\nsha256:{hashlib.sha256(b'the-other-token-of-two').hexdigest()}\n")
    allows, metrics = policy(LOOPBACK, TokenFile(path, pytest.fail))
    for token in (TOKEN, "the-other-token-of-two"):
        for scheme in ("Bearer ", "bearer  "):
            admitted = await allows.admit(await request_from("127.0.0.1", ("authorization", scheme + token)))
            assert not isinstance(admitted, Denial)
    denied = await allows.admit(await request_from("127.0.0.1"))
    assert isinstance(denied, Denial)
    assert (denied.status, denied.challenge) == (401, 'Bearer realm="metrics"')
    for value in (
        "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} x",
        f"Bearer {hashlib.sha256(b'the-other-token-of-two').hexdigest()}", "Bearer \xff", f"Bearer\t{TOKEN}",
    ):  # fmt: skip
        denied = await allows.admit(await request_from("127.0.0.1", ("authorization", value)))
        assert isinstance(denied, Denial), value
        assert (denied.status, denied.challenge) == (401, 'Bearer realm="metrics", error="invalid_token"')
    assert metrics.denials[:2] == [Severity.LOW, Severity.MEDIUM]
    # The right token from the wrong place.
    denied = await allows.admit(await request_from("192.0.2.1", ("authorization", f"Bearer {TOKEN}")))
    assert isinstance(denied, Denial)
    assert denied.status == 403


@pytest.mark.anyio
async def test_verifiers_stand_side_by_side(tmp_path: Path) -> None:
    """A token that one verifier does not know may be another's."""

    class Other:
        async def accepts(self, token: str) -> bool:
            return token == "an-access-token"

    (tmp_path / "tokens").write_text(TOKEN)
    allows = MetricsPolicy(LOOPBACK, [TokenFile(tmp_path / "tokens", pytest.fail), Other()], Counting())
    for token in (TOKEN, "an-access-token"):
        admitted: Address | Denial = await allows.admit(await request_from("::1", ("authorization", f"Bearer {token}")))
        assert not isinstance(admitted, Denial)


@pytest.mark.anyio
async def test_tokens_are_read_again(tmp_path: Path) -> None:
    """A changed file counts at the next request; one that is broken or gone leaves the old tokens, and is said once."""
    path = tmp_path / "tokens"
    log: list[str] = []

    def write(text: str) -> None:
        path.write_text(text)
        aged = time.time() - 5
        os.utime(path, (aged, aged))

    file = TokenFile(path, log.append)
    assert len(log) == 1
    assert "no token is accepted" in log[0]
    assert not await file.accepts("")
    write(TOKEN)
    assert await file.accepts(TOKEN)
    write("a-second-token-that-is-longer")
    assert not await file.accepts(TOKEN)
    assert await file.accepts("a-second-token-that-is-longer")
    for _ in range(3):
        write("broken")
        assert await file.accepts("a-second-token-that-is-longer")
    assert len(log) == 2
    assert "broken" not in log[1]
    path.unlink()
    assert await file.accepts("a-second-token-that-is-longer")
    write("# nobody any more\n")
    assert not await file.accepts("a-second-token-that-is-longer")


class Tokens:
    """Verifies tokens as it is told to."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.claims = claims_of("prometheus")

    async def verify(self, token: str, audience: str) -> AccessTokenClaims:
        """Return the claims, or fail."""
        assert audience == "https://authly.example"
        if self.failure is not None:
            raise self.failure
        return self.claims


def claims_of(subject: str, *scopes: str) -> AccessTokenClaims:
    """Return the claims of a token that a client has; in its own name if it is the subject."""
    return AccessTokenClaims(
        uuid4(), "prometheus", subject, scopes or (METRICS_SCOPE,), ("https://authly.example",), 1000, 2000
    )


@pytest.fixture
def tokens() -> Tokens:
    """Return what verifies tokens."""
    return Tokens()


@pytest.fixture
def access_tokens(tokens: Tokens) -> AccessTokens:
    """Return what is tested, at 1500 seconds since 1970."""
    return AccessTokens(cast("TokenService", tokens), "https://authly.example", lambda: 1500.0)


@pytest.mark.anyio
async def test_an_access_token_lets_its_client_in(tokens: Tokens, access_tokens: AccessTokens) -> None:
    """It has to be the client's own, and to have the scope."""
    assert await access_tokens.accepts("token")
    tokens.claims = claims_of("prometheus", "openid", METRICS_SCOPE)
    assert await access_tokens.accepts("token")
    tokens.claims = claims_of("prometheus", "openid", "metrics:reader")
    assert not await access_tokens.accepts("token")
    tokens.claims = claims_of(str(uuid4()))
    assert not await access_tokens.accepts("token")
    tokens.failure = InvalidTokenError("It is revoked.")
    assert not await access_tokens.accepts("token")


@pytest.mark.anyio
async def test_a_known_access_token_lasts_while_the_database_is_away(
    tokens: Tokens, access_tokens: AccessTokens
) -> None:
    """Until it expires; one that was not seen before, or turned out to be revoked, does not."""
    assert await access_tokens.accepts("known")
    tokens.claims = replace(tokens.claims, expires_at=1400)
    assert await access_tokens.accepts("short")
    tokens.failure = InvalidTokenError("It is revoked.")
    assert not await access_tokens.accepts("revoked")
    tokens.failure = DatabaseUnavailableError("away")
    assert await access_tokens.accepts("known")
    for token in ("unseen", "short", "revoked"):
        with pytest.raises(DatabaseUnavailableError):
            await access_tokens.accepts(token)
    tokens.failure = InvalidTokenError("It is revoked.")
    assert not await access_tokens.accepts("known")
    tokens.failure = DatabaseUnavailableError("away")
    with pytest.raises(DatabaseUnavailableError):
        await access_tokens.accepts("known")


@pytest.mark.anyio
async def test_few_access_tokens_are_remembered(tokens: Tokens, access_tokens: AccessTokens) -> None:
    """Clients get new ones for ever, and only the latest are kept."""
    for number in range(1000):
        assert await access_tokens.accepts(str(number))
    assert len(access_tokens._good) <= 64
    tokens.failure = DatabaseUnavailableError("away")
    assert await access_tokens.accepts("999")
