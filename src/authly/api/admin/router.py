"""All routes of the administration interface."""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from authly.api.admin.problems import ProblemBody, problem_response
from authly.api.admin_middleware import PREFIX


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Add the administration interface to an application.

    Args:
        app: the application.
        routers: one for each kind of thing.
    """
    interface = APIRouter(prefix=f"{PREFIX}v1", tags=["administration"])
    for router in routers:
        interface.include_router(router)
    app.include_router(interface)

    async def refused(request: Request, error: Exception) -> Response:
        """Answer what no route answers: paths and methods that there are not."""
        assert isinstance(error, HTTPException)
        if not request.url.path.startswith(PREFIX):
            return await http_exception_handler(request, error)
        return problem_response(error.status_code, f"{error.detail}.", dict(error.headers or {}))

    app.add_exception_handler(HTTPException, refused)
    _describe_problems(app)


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of problems to the OpenAPI document: routes refer to it, and none returns it as its model."""
    make = app.openapi

    def openapi() -> dict[str, object]:
        document = make()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "ProblemBody" not in schemas:
            schema = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas["ProblemBody"] = schema
        return document

    app.openapi = openapi  # type: ignore[method-assign]
