"""The userinfo endpoint (OpenID Connect Core 1.0, section 5.3)."""

import re
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import JSONResponse, Response

from authly.api.oauth_errors import NO_STORE, documented
from authly.api.oauth_forms import CONTENT_TYPE, read_parameters
from authly.errors import InvalidRequestError, InvalidTokenError
from authly.monitoring.recorders import OIDCRecorder
from authly.oauth.outcomes import recorded
from authly.oidc import configuration
from authly.oidc.userinfo import UserinfoService

_BEARER = re.compile(r"bearer +(?P<token>[A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)
# For the OpenAPI document alone: what a wrong header is answered with is this endpoint's own business.
_SCHEME = HTTPBearer(auto_error=False, scheme_name="user", description="An access token with the scope openid.")
_CLAIMS: dict[str, Any] = {"type": "object", "properties": {"sub": {"type": "string"}}, "required": ["sub"]}
_FORM = {"type": "object", "properties": {"access_token": {"type": "string"}}}


def userinfo_router(userinfo: UserinfoService, metrics: OIDCRecorder) -> APIRouter:
    """Return the routes of this endpoint.

    Args:
        userinfo: answers.
        metrics: is told how requests end.
    """
    record = partial(metrics.oidc_request_ended, "userinfo")
    router = APIRouter(tags=["openid"])
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "content": {
                "application/json": {"schema": _CLAIMS},
                "application/jwt": {"schema": {"type": "string"}},
            }
        },
        **documented(400, 401, 403, 429, 500, 503),
    }
    summary = "What an access token tells of its user"

    async def answer(token: str) -> Response:
        content = await userinfo.answer(token)
        if isinstance(content, str):
            return Response(content, 200, NO_STORE, "application/jwt")
        return JSONResponse(content, 200, NO_STORE)

    @router.get(
        configuration.USERINFO,
        summary=summary,
        response_model=None,
        responses=responses,
        dependencies=[Depends(_SCHEME)],
    )
    async def by_get(request: Request) -> Response:
        with recorded(record):
            return await answer(_token_of(request, None))

    @router.post(
        configuration.USERINFO,
        summary=f"{summary}, by a form",
        response_model=None,
        responses={**responses, **documented(413, 415)},
        dependencies=[Depends(_SCHEME)],
        openapi_extra={"requestBody": {"required": False, "content": {CONTENT_TYPE: {"schema": _FORM}}}},
    )
    async def by_post(request: Request) -> Response:
        with recorded(record):
            in_body = None
            # A request with the token in its header needs no body, and then no type of one.
            if "content-type" in request.headers:
                parameters = await read_parameters(request)
                parameters.refuse_repeated()
                in_body = parameters.get("access_token")
            return await answer(_token_of(request, in_body))

    return router


def _token_of(request: Request, in_body: str | None) -> str:
    """Return the access token of a request (RFC 6750, section 2): in the header or in the body, never in the URL.

    Raises:
        InvalidTokenError: there is none.
        InvalidRequestError: there are two.
    """
    header = request.headers.get("authorization")
    if header is not None and in_body is not None:
        raise InvalidRequestError("The access token is there more than once.")
    if header is None:
        if in_body is None:
            raise InvalidTokenError("There is no access token.")
        return in_body
    match = _BEARER.fullmatch(header)
    if match is None:
        raise InvalidTokenError("The Authorization header has no bearer token.")
    return match["token"]
