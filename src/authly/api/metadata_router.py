"""What anybody may know: the server's metadata (RFC 8414, OpenID Connect Discovery 1.0) and its keys (RFC 7517)."""

import hashlib
import json
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authly.api.oauth_errors import documented
from authly.keys.service import SigningKeyService
from authly.monitoring.recorders import OIDCRecorder
from authly.oauth import endpoints
from authly.oauth.endpoints import Endpoints
from authly.oauth.outcomes import recorded
from authly.oauth.scope_service import ScopeService
from authly.oidc.configuration import CONFIGURATION, configuration

_METADATA_MAX_AGE = 300


def metadata_router(
    server: Endpoints, scopes: ScopeService, keys: SigningKeyService, jwks_max_age: int, metrics: OIDCRecorder
) -> APIRouter:
    """Return the routes of the documents.

    Args:
        server: knows its endpoints.
        scopes: knows which there are.
        keys: knows which are published.
        jwks_max_age: seconds for which verifiers may cache them: a key is published for longer before it signs.
        metrics: is told how requests end.
    """
    discovery = partial(metrics.oidc_request_ended, "discovery")
    router = APIRouter(tags=["oauth"])
    responses: dict[int | str, dict[str, Any]] = {
        200: {"content": {"application/json": {"schema": {"type": "object"}}}},
        304: {"description": "The document is the one that If-None-Match names."},
        **documented(429, 500, 503),
    }

    @router.get(endpoints.METADATA, summary="What this server can do", response_model=None, responses=responses)
    async def metadata(request: Request) -> Response:
        with recorded(discovery):
            return _document(request, server.metadata(await scopes.names()), _METADATA_MAX_AGE)

    @router.get(CONFIGURATION, summary="What this OpenID provider can do", response_model=None, responses=responses)
    async def openid_configuration(request: Request) -> Response:
        with recorded(discovery):
            return _document(request, configuration(server.metadata(await scopes.names())), _METADATA_MAX_AGE)

    @router.get(endpoints.JWKS, summary="The keys that verify tokens", response_model=None, responses=responses)
    async def jwks(request: Request) -> Response:
        with recorded(partial(metrics.oidc_request_ended, "jwks")):
            return _document(request, {"keys": [key.public_key for key in await keys.published()]}, jwks_max_age)

    return router


def _document(request: Request, content: dict[str, Any], max_age: int) -> Response:
    body = json.dumps(content).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": f"public, max-age={max_age}", "etag": tag}
    known = [value.strip().removeprefix("W/") for value in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")
