"""The form of requests to the endpoints that clients call."""

from typing import Any

import pytest

from authly.oauth.models import GrantType
from tests.oauth import Registered, Server, is_description

ENDPOINTS = ["/oauth2/token", "/oauth2/revoke", "/oauth2/introspect", "/oauth2/par"]


@pytest.fixture(scope="module")
def service(server: Server) -> Registered:
    """A client that acts for itself."""
    return server.service(resources=("https://api.example/",))


def check_error(answer: Any, status: int, error: str) -> None:
    """Make sure that an error is as RFC 6749, section 5.2 has it."""
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert is_description(answer.json()["error_description"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_content_type(server: Server, service: Registered, path: str, content_type: str) -> None:
    """Requests are forms (RFC 6749, section 3.2 and appendix B)."""
    headers = {"content-type": content_type} if content_type else {}
    content = b"grant_type=client_credentials&token=x"
    check_error(server.http.post(path, content=content, headers=headers, auth=service.basic), 415, "invalid_request")


def test_content_type_with_a_parameter(server: Server, service: Registered) -> None:
    """A charset does not make it another type (RFC 9110, section 8.3.1)."""
    headers = {"content-type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
    content = b"grant_type=client_credentials"
    assert server.http.post("/oauth2/token", content=content, headers=headers, auth=service.basic).status_code == 200


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("name", ["grant_type", "token", "scope", "client_id", "extension"])
def test_repeated_parameter(server: Server, service: Registered, path: str, name: str) -> None:
    """No parameter may be there twice (RFC 6749, section 3.2)."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = f"grant_type=client_credentials&token=x&{name}=a&{name}=a"
    check_error(server.http.post(path, content=content, headers=headers, auth=service.basic), 400, "invalid_request")


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    "content",
    [b"token=%ff", b"token=\xff", b"token=a%00b", b"token=%0a", b"&".join(b"a%d=1" % n for n in range(200))],
)
def test_content_that_cannot_be_read(server: Server, service: Registered, path: str, content: bytes) -> None:
    """Parameters are UTF-8, without control characters, and not without number (RFC 6749, appendices A and B)."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    check_error(server.http.post(path, content=content, headers=headers, auth=service.basic), 400, "invalid_request")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_content_that_is_too_long(server: Server, service: Registered, path: str) -> None:
    """Nobody reads more than a client can have to say (RFC 9700, section 4.18)."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = server.http.post(path, content=b"token=" + b"x" * 100_000, headers=headers, auth=service.basic)
    assert (answer.status_code, answer.json()["error"]) == (413, "invalid_request")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_get(server: Server, path: str) -> None:
    """Secrets do not belong into URLs (RFC 6749, section 3.2: only POST)."""
    assert server.http.get(f"{path}?grant_type=client_credentials").status_code == 405


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/introspect"])
def test_parameters_in_the_query(server: Server, service: Registered, path: str) -> None:
    """They do not count there (RFC 6749, section 2.3.1)."""
    client_id, secret = service.basic
    query = f"?grant_type=client_credentials&client_id={client_id}&client_secret={secret}&token=x"
    check_error(server.http.post(path + query, data={"x": "y"}), 401, "invalid_client")


@pytest.mark.parametrize("grant_type", ["password", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "x"])
def test_unsupported_grant_type(server: Server, service: Registered, grant_type: str) -> None:
    """What Authly does not have, nobody gets: no passwords (RFC 6749, section 5.2; RFC 9700, section 2.4)."""
    check_error(server.token(service, grant_type=grant_type), 400, "unsupported_grant_type")


def test_no_grant_type(server: Server, service: Registered) -> None:
    """A token request says what it exchanges (RFC 6749, section 4.4.2)."""
    check_error(server.token(service, scope="read"), 400, "invalid_request")
    check_error(server.token(service, grant_type=""), 400, "invalid_request")


def test_grant_type_that_is_not_the_clients(server: Server, service: Registered) -> None:
    """A client uses what it is registered for (RFC 6749, section 5.2)."""
    check_error(server.token(service, grant_type="refresh_token", refresh_token="x"), 400, "unauthorized_client")
    check_error(server.token(service, grant_type="authorization_code", code="x"), 400, "unauthorized_client")
    client = server.client(grant_types=(GrantType.AUTHORIZATION_CODE,))
    check_error(server.token(client, grant_type="client_credentials"), 400, "unauthorized_client")


@pytest.mark.parametrize("scope", ["admin", "read  write", "read\\", "", "openid"])
def test_scope_of_a_service(server: Server, scope: str) -> None:
    """It gets what it is registered for, and nothing about users, of whom there is none (RFC 6749, section 3.3)."""
    service = server.service(scopes=("read", "write", "openid"))
    answer = server.token(service, grant_type="client_credentials", scope=scope)
    if not scope:
        # Left out is all that it may have.
        assert answer.json()["scope"] == "read write"
    else:
        check_error(answer, 400, "invalid_scope")


@pytest.mark.parametrize("resource", ["https://other.example/", "api", "https://api.example/#x", "x" * 5000])
def test_resource_of_a_service(server: Server, service: Registered, resource: str) -> None:
    """A token is for what the client is registered for (RFC 8707, section 2.2)."""
    check_error(server.token(service, grant_type="client_credentials", resource=resource), 400, "invalid_target")


def test_success_is_not_cached(server: Server, service: Registered) -> None:
    """Nobody keeps tokens on the way (RFC 6749, section 5.1)."""
    answer = server.token(service, grant_type="client_credentials")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
