"""Who may read the metrics on the application port."""

import hashlib
import ipaddress
import os
import time
from pathlib import Path

import pytest
from starlette.requests import Request

from authly.api.forwarding import Address, Network
from authly.api.metrics_policy import Denial, MetricsPolicy, TokenFile
from authly.monitoring.labels import SecurityEvent, Severity
from authly.monitoring.metrics import NullMetrics
from tests.asgi import seen_from

LOOPBACK: list[Network] = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
TOKEN = "0123456789abcdefghij"


async def request_from(peer: str | None, *headers: tuple[str, str]) -> Request:
    """Return a request."""
    return Request(await seen_from(peer, headers))


class Counting(NullMetrics):
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
    return MetricsPolicy(networks, files, metrics, lambda _: None), metrics


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
    allows = MetricsPolicy(LOOPBACK, [TokenFile(tmp_path / "tokens", pytest.fail), Other()], Counting(), print)
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
