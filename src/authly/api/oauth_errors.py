"""Protocol errors as responses: the one place where they are written (RFC 6749, section 5.2)."""

from typing import Any

import structlog
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from authly.errors import InsufficientScopeError, InvalidClientError, InvalidTokenError, OAuthError, ServerError
from authly.keys.encryption import KeyUnreadableError

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
_log = structlog.stdlib.get_logger(__name__)


class ErrorBody(BaseModel):
    """What a client is told when its request is refused."""

    error: str
    error_description: str


ERROR_CONTENT = {"application/json": {"schema": ErrorBody.model_json_schema()}}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return, for the OpenAPI document, the answers that are protocol errors, and that there were too many requests."""
    # As content and not as a model, to which FastAPI gives the type of the route's good answers.
    return {status: {"content": dict(ERROR_CONTENT)} for status in sorted({*statuses, 429})}


def install(app: FastAPI) -> None:
    """Let an application answer protocol errors."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, OAuthError)
        return error_response(error)

    async def no_keys(_: Request, error: Exception) -> Response:
        _log.error("signing_keys_unreadable", reason=str(error))
        return error_response(ServerError("Authly cannot sign; its log says why."))

    app.add_exception_handler(OAuthError, refused)
    app.add_exception_handler(KeyUnreadableError, no_keys)


def error_response(error: OAuthError) -> Response:
    """Return an error as JSON, never to be cached."""
    headers = dict(NO_STORE)
    if isinstance(error, InvalidClientError):
        # Whichever way the client tried: 401 has to name one (RFC 9110, section 15.5.2), and this is one that works.
        headers["www-authenticate"] = 'Basic realm="authly"'
    elif isinstance(error, InvalidTokenError):
        headers["www-authenticate"] = 'Bearer error="invalid_token"'
    elif isinstance(error, InsufficientScopeError):
        headers["www-authenticate"] = 'Bearer error="insufficient_scope"'
    body = {"error": error.code, "error_description": error.description}
    return JSONResponse(body, error.status, headers)
