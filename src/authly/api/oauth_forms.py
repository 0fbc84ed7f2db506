"""Reading the parameters that clients send in a body."""

from typing import Any

from starlette.requests import Request

from authly.errors import RequestTooLargeError, UnsupportedMediaTypeError
from authly.oauth.parameters import Parameters, parse

# The largest things in it are an assertion, a token, or an authorization request.
_MAX_BYTES = 64 * 1024
CONTENT_TYPE = "application/x-www-form-urlencoded"


async def read_body(request: Request) -> bytes:
    """Return a form as it was sent.

    Raises:
        UnsupportedMediaTypeError: it is no form.
        RequestTooLargeError: it is larger than any.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise UnsupportedMediaTypeError(f"The body has to be {CONTENT_TYPE}.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise RequestTooLargeError("The body is larger than 65536 bytes.")
    return bytes(body)


async def read_parameters(request: Request) -> Parameters:
    """Return the parameters of a body.

    Those of the query do not count: secrets in URLs end up in logs (RFC 6749, section 2.3.1).

    Raises:
        InvalidRequestError: they cannot be read.
    """
    return parse(await read_body(request))


def documented_form(required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    """Return, for the OpenAPI document, the body of a request.

    Args:
        required: names of parameters that have to be there.
        optional: names of others.
    """
    properties = {name: {"type": "string"} for name in (*required, *optional)}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": schema}}}}
