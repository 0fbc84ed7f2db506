"""The revocation endpoint (RFC 7009)."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authly.api.oauth_errors import NO_STORE, documented
from authly.api.oauth_forms import documented_form, read_parameters
from authly.api.token_router import CLIENT_PARAMETERS
from authly.monitoring.labels import ClientEndpoint
from authly.oauth import endpoints
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.revocation import RevocationService


def revoke_router(authenticator: ClientAuthenticator, revocation: RevocationService) -> APIRouter:
    """Return the route of the revocation endpoint.

    Args:
        authenticator: tells who a client is.
        revocation: answers requests.
    """
    router = APIRouter(tags=["oauth"])

    @router.post(
        endpoints.REVOKE,
        summary="Revoke a token",
        response_model=None,
        # Of no type: the body is empty (section 2.2).
        response_class=Response,
        responses={
            200: {"description": "The token is not valid, be it now or before."},
            **documented(400, 401, 413, 415, 429, 500, 503),
        },
        openapi_extra=documented_form(("token",), ("token_type_hint", *CLIENT_PARAMETERS)),
    )
    async def revoke(request: Request) -> Response:
        parameters = await read_parameters(request)
        parameters.refuse_repeated()
        client = await authenticator.authenticate(
            request.headers.get("authorization"), parameters, ClientEndpoint.REVOKE
        )
        await revocation.revoke(client, parameters)
        return Response(None, 200, NO_STORE)

    return router
