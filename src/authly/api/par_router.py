"""The endpoint for pushed authorization requests (RFC 9126)."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from authly.api.authorize_router import AUTHORIZATION_PARAMETERS
from authly.api.oauth_errors import NO_STORE, documented
from authly.api.oauth_forms import documented_form, read_parameters
from authly.api.token_router import CLIENT_PARAMETERS
from authly.monitoring.labels import ClientEndpoint
from authly.oauth import endpoints
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.pushed_request_service import LIFETIME, PushedRequestService


class PushedBody(BaseModel):
    """By what name the request is known (section 2.2)."""

    request_uri: str
    expires_in: int


def par_router(authenticator: ClientAuthenticator, pushed_requests: PushedRequestService) -> APIRouter:
    """Return the route of this endpoint.

    Args:
        authenticator: tells who a client is.
        pushed_requests: keeps requests.
    """
    router = APIRouter(tags=["oauth"])

    @router.post(
        endpoints.PAR,
        summary="Push an authorization request",
        status_code=201,
        response_model=None,
        responses={201: {"model": PushedBody}, **documented(400, 401, 413, 415, 429, 500, 503)},
        openapi_extra=documented_form(
            ("response_type",),
            (*(name for name in AUTHORIZATION_PARAMETERS if name != "request_uri"), *CLIENT_PARAMETERS),
        ),
    )
    async def push(request: Request) -> Response:
        parameters = await read_parameters(request)
        parameters.refuse_repeated()
        client = await authenticator.authenticate(request.headers.get("authorization"), parameters, ClientEndpoint.PAR)
        request_uri = await pushed_requests.push(client, parameters)
        body = {"request_uri": request_uri, "expires_in": int(LIFETIME.total_seconds())}
        return JSONResponse(body, 201, NO_STORE)

    return router
