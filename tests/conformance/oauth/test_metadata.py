"""The server's metadata (RFC 8414) and its keys (RFC 7517)."""

from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from authly.oauth.models import AuthMethod
from tests.oauth import Server


@pytest.fixture(scope="module")
def metadata(server: Server) -> dict[str, Any]:
    """The document."""
    answer = server.http.get("/.well-known/oauth-authorization-server")
    assert answer.headers["content-type"] == "application/json"
    content: dict[str, Any] = answer.json()
    return content


def test_others_can_read_it(server: Server, metadata: dict[str, Any]) -> None:
    """Authlib finds nothing wrong with it but that it is not https (RFC 8414, section 2)."""
    assert metadata["issuer"] == server.url
    secure = {
        name: value.replace("http:", "https:") if isinstance(value, str) else value for name, value in metadata.items()
    }
    AuthorizationServerMetadata(secure).validate()


def test_endpoints_are_there(server: Server, metadata: dict[str, Any]) -> None:
    """Each endpoint that is named answers (RFC 8414, section 2)."""
    names = [name for name in metadata if name.endswith("_endpoint")]
    assert len(names) == 5
    for name in names:
        assert metadata[name].startswith(f"{server.url}/")
        assert server.http.post(metadata[name], data={"x": "y"}).status_code in {303, 400, 401}
    assert server.http.get(metadata["jwks_uri"]).status_code == 200


def test_methods_are_all(metadata: dict[str, Any]) -> None:
    """What is advertised is what there is, and nothing weaker (RFC 9700, section 2)."""
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["response_types_supported"] == ["code"]
    assert set(metadata["token_endpoint_auth_methods_supported"]) == {method.value for method in AuthMethod}
    for name, values in metadata.items():
        if name.endswith("signing_alg_values_supported"):
            assert not any(value == "none" or value.startswith("HS") for value in values)


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/jwks"])
def test_caching(server: Server, path: str) -> None:
    """The documents may be kept for a while, and asked for again cheaply (RFC 9110, section 13.1.2)."""
    answer = server.http.get(path)
    assert answer.headers["cache-control"] == "public, max-age=300"
    tag = answer.headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = server.http.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert server.http.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_keys(server: Server) -> None:
    """Each key says what it is for; no private part is among them (RFC 7517, section 4)."""
    keys = server.http.get("/jwks").json()["keys"]
    assert {key["alg"] for key in keys} == {"RS256", "ES256", "EdDSA"}
    for key in keys:
        assert key["use"] == "sig"
        assert key["kid"]
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}
