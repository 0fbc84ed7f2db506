"""The running server does what its OpenAPI document says, and nothing else: schemathesis asks."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.oauth import Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def test_answers_are_documented(server: Server) -> None:
    """Whatever is sent, the answer has a status, a content type and a content that the document names."""
    service = server.service()
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = set()
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # or the document is wrong, and this test fails
        if operation.path.startswith("/admin"):
            continue  # asked by its own tests, which have its tokens

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(), authenticates=st.booleans())
        def ask(case: Any, authenticates: bool) -> None:
            # There are more answers for a client that authenticates.
            auth = {"auth": service.basic} if authenticates else {}
            case.call_and_validate(checks=CHECKS, allow_redirects=False, **auth)

        ask()
        asked.add(operation.path)
    assert "/oauth2/token" in asked


def test_everything_is_in_it(server: Server) -> None:
    """The document has each endpoint of the protocol."""
    paths = server.http.get("/openapi.json").json()["paths"]
    metadata = server.http.get("/.well-known/oauth-authorization-server").json()
    endpoints = {value.removeprefix(server.url) for name, value in metadata.items() if name.endswith("_endpoint")}
    assert endpoints | {"/jwks", "/.well-known/oauth-authorization-server"} <= paths.keys()


def test_answers_have_the_types_they_are_said_to_have(server: Server) -> None:
    """Of what FastAPI documents by itself nothing is left that is not so."""
    paths = server.http.get("/openapi.json").json()["paths"]

    def types(path: str, method: str) -> dict[str, set[str]]:
        return {status: set(answer.get("content", {})) for status, answer in paths[path][method]["responses"].items()}

    assert types("/oauth2/revoke", "post")["200"] == set()
    assert types("/oauth2/authorize", "get")["200"] == {"text/html"}
    assert types("/oauth2/authorize", "get")["503"] == {"text/html", "application/json"}
    assert types("/oauth2/authorize", "post")["303"] == set()
    assert "200" not in types("/oauth2/authorize", "post")
    assert types("/oauth2/token", "post")["200"] == {"application/json"}
