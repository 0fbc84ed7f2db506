"""Reading forms that browsers send: small, of one content type, each field once."""

from urllib.parse import parse_qsl

from starlette.requests import Request

_MAX_BYTES = 64 * 1024
_MAX_FIELDS = 100


class BadFormError(ValueError):
    """A form cannot be read; the message says why."""


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        BadFormError: it is of another type, too large, has a field twice, or is not UTF-8.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise BadFormError("The form was not sent as application/x-www-form-urlencoded.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise BadFormError(f"The form is larger than {_MAX_BYTES} bytes.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise BadFormError("The form cannot be read.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadFormError("The form has a field twice.")
    return fields
