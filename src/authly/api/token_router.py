"""The token endpoint (RFC 6749, section 3.2)."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from authly.api.oauth_errors import NO_STORE, documented
from authly.api.oauth_forms import documented_form, read_parameters
from authly.oauth import endpoints
from authly.oauth.token_pipeline import TokenPipeline

# By which a client authenticates in the body, at any endpoint.
CLIENT_PARAMETERS = ("client_id", "client_secret", "client_assertion_type", "client_assertion")


class TokenBody(BaseModel):
    """What a client gets (section 5.1)."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str | None = None
    # Of OpenID Connect.
    id_token: str | None = None


def token_router(pipeline: TokenPipeline) -> APIRouter:
    """Return the route of the token endpoint.

    Args:
        pipeline: answers requests.
    """
    router = APIRouter(tags=["oauth"])

    @router.post(
        endpoints.TOKEN,
        summary="Exchange a grant for tokens",
        response_model=None,
        responses={200: {"model": TokenBody}, **documented(400, 401, 413, 415, 429, 500, 503)},
        openapi_extra=documented_form(
            ("grant_type",),
            ("code", "redirect_uri", "code_verifier", "refresh_token", "scope", "resource", *CLIENT_PARAMETERS),
        ),
    )
    async def token(request: Request) -> Response:
        parameters = await read_parameters(request)
        return JSONResponse(await pipeline.respond(request.headers.get("authorization"), parameters), 200, NO_STORE)

    return router
