"""Where administrators may come from, and the record of what they asked for."""

import ipaddress
import json

import pytest

from authly.api.admin_middleware import AdminMiddleware
from authly.api.forwarding import ForwardingMiddleware
from authly.monitoring.labels import SecurityEvent, Severity
from tests.asgi import Answer, Echo, ask
from tests.unit.api.test_security_middleware import Events

pytestmark = pytest.mark.anyio


class Records(Events):
    """Notes events and requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []

    def track_admin_request(self, resource: str, action: str, status: int) -> None:
        """Note a request."""
        self.requests.append((resource, action, status))


async def call(
    path: str, client: str | None, records: Records, method: str = "GET", headers: dict[str, str] | None = None
) -> Answer:
    """Ask from an address."""
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    proxies = [ipaddress.ip_network("192.0.2.99")]
    app = ForwardingMiddleware(AdminMiddleware(Echo(), networks, records, records), proxies)
    return await ask(app, method, path, headers or {}, client=client)


@pytest.mark.parametrize("client", ["10.1.2.3", "fd00::7", "::ffff:10.1.2.3"])
async def test_from_a_network_of_administrators(client: str) -> None:
    """Their requests go on, and are recorded by what they are about."""
    records = Records()
    assert (await call("/admin/v1/clients/abc", client, records, "DELETE")).status == 200
    assert records.requests == [("clients", "delete", 200)]
    assert records == []


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1", "11.0.0.1", None, "nonsense"])
async def test_from_anywhere_else(client: str | None) -> None:
    """Others are refused with what to do about it, which is an event and recorded too."""
    records = Records()
    answer = await call("/admin/v1/users", client, records, "POST")
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert client == "nonsense" or "AUTHLY_ADMIN_NETWORKS" in json.loads(answer.body)["detail"]
    assert records == [(SecurityEvent.ADMIN_DENIED, Severity.MEDIUM)]
    assert records.requests == [("users", "create", 403)]


async def test_through_proxies() -> None:
    """Whom a proxy that is trusted names counts; through another one nobody comes in, wherever that is."""
    named = {"x-forwarded-for": "10.1.2.3"}
    assert (await call("/admin/v1/users", "192.0.2.99", Records(), headers=named)).status == 200
    records = Records()
    answer = await call("/admin/v1/users", "10.0.0.1", records, headers=named)
    assert answer.status == 403
    assert "AUTHLY_TRUSTED_PROXIES" in json.loads(answer.body)["detail"]
    assert records == [(SecurityEvent.ADMIN_DENIED, Severity.MEDIUM)]


async def test_what_somebody_makes_up_is_other() -> None:
    """Resources and methods that there are not are recorded under one name."""
    records = Records()
    await call("/admin/v1/made-up", "10.0.0.1", records, "BREW")
    assert records.requests == [("other", "other", 200)]


async def test_everything_else_is_not_concerned() -> None:
    """Only what is below /admin/ is guarded."""
    records = Records()
    assert (await call("/administrators", "192.0.2.1", records)).status == 200
    assert records.requests == []
