"""What goes wrong in the administration interface, as problem details (RFC 9457)."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from authly.core.repository import DatabaseUnavailableError
from authly.oauth.client_service import ClientError
from authly.oauth.scope_service import ScopeError
from authly.users.models import UserDataError
from authly.users.passwords import HasherBusyError, PasswordRefusedError

MEDIA_TYPE = "application/problem+json"
_REFUSED = (ClientError, ScopeError, UserDataError, PasswordRefusedError)
_UNAVAILABLE = (DatabaseUnavailableError, HasherBusyError)


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    detail: str


class ProblemBody(BaseModel):
    """Problem details (RFC 9457, section 3.1)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


class Problem(Exception):  # noqa: N818 - the name of the RFC
    """A request to the administration interface cannot be carried out.

    Args:
        status: the HTTP status.
        detail: a sentence or two for people.
        headers: of the response.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def not_found(what: str) -> Problem:
    """Return the problem that something is not there."""
    return Problem(404, f"There is no such {what}.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return, for the OpenAPI document, the answers that are problems, and those that any request may get."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": _REFERENCE}}}
        for status in sorted({401, 403, 413, 422, 429, 503, *statuses})
    }


_REFERENCE = {"$ref": "#/components/schemas/ProblemBody"}


class ProblemRoute(APIRoute):
    """A route whose errors are problem details."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers requests."""
        handle = super().get_route_handler()

        async def handle_problems(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                return problem_response(problem.status, problem.detail, problem.headers)
            except RequestValidationError as error:
                fields = [FieldProblem(field=_place(found["loc"]), detail=found["msg"]) for found in error.errors()]
                return problem_response(422, "Something about the request is not valid.", errors=fields)
            except _REFUSED as error:
                return problem_response(422, _sentence(str(error)))
            except (psycopg.DataError, UnicodeEncodeError):
                # Characters that no text of PostgreSQL holds, numbers larger than any of its columns.
                return problem_response(422, "Something about the request cannot be stored or looked for.")
            except _UNAVAILABLE as error:
                return problem_response(503, str(error), {"retry-after": "5"})
            except HTTPException as error:
                return problem_response(error.status_code, str(error.detail), dict(error.headers or {}))

        return handle_problems


def problem_response(
    status: int, detail: str, headers: dict[str, str] | None = None, errors: list[FieldProblem] | None = None
) -> Response:
    """Return a problem as a response."""
    body = ProblemBody(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    content = body.model_dump(exclude={"errors"} if not errors else set())
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})}, MEDIA_TYPE)


def _place(location: tuple[int | str, ...]) -> str:
    # The first part says whether it is of the query, the path or the body; the rest says where there.
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
