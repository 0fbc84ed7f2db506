"""The introspection endpoint (RFC 7662)."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from authly.api.oauth_errors import NO_STORE, documented
from authly.api.oauth_forms import documented_form, read_parameters
from authly.api.token_router import CLIENT_PARAMETERS
from authly.errors import InvalidClientError
from authly.monitoring.labels import ClientEndpoint
from authly.oauth import endpoints
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.introspection import IntrospectionService
from authly.oauth.models import ClientType


class IntrospectionBody(BaseModel):
    """What a token is worth (section 2.2); of one that is not valid, ``active`` alone."""

    active: bool
    iss: str | None = None
    sub: str | None = None
    aud: str | list[str] | None = None
    client_id: str | None = None
    scope: str | None = None
    token_type: str | None = None
    iat: int | None = None
    exp: int | None = None
    jti: str | None = None


def introspect_router(authenticator: ClientAuthenticator, introspection: IntrospectionService) -> APIRouter:
    """Return the route of the introspection endpoint.

    Args:
        authenticator: tells who a client is.
        introspection: answers requests.
    """
    router = APIRouter(tags=["oauth"])

    @router.post(
        endpoints.INTROSPECT,
        summary="Ask what a token is worth",
        response_model=None,
        responses={200: {"model": IntrospectionBody}, **documented(400, 401, 413, 415, 429, 500, 503)},
        openapi_extra=documented_form(("token",), ("token_type_hint", *CLIENT_PARAMETERS)),
    )
    async def introspect(request: Request) -> Response:
        parameters = await read_parameters(request)
        parameters.refuse_repeated()
        client = await authenticator.authenticate(
            request.headers.get("authorization"), parameters, ClientEndpoint.INTROSPECT
        )
        # Who can say anybody's name could find out which tokens are valid by trying (section 2.1).
        if client.type is ClientType.PUBLIC:
            raise InvalidClientError("Public clients cannot introspect tokens.")
        return JSONResponse(await introspection.introspect(client, parameters), 200, NO_STORE)

    return router
