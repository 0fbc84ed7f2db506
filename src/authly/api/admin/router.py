"""All routes of the administration interface."""

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from authly.admin.service import AdministrationService
from authly.api.admin.access import AdminAccess
from authly.api.admin.audit_log import audit_log_router
from authly.api.admin.clients import clients_router
from authly.api.admin.consents import consents_router
from authly.api.admin.problems import ProblemBody, problem_response
from authly.api.admin.scopes import scopes_router
from authly.api.admin.sessions import sessions_router
from authly.api.admin.statistics import statistics_router
from authly.api.admin.tokens import tokens_router
from authly.api.admin.users import users_router
from authly.api.admin_middleware import PREFIX
from authly.api.routes import add_routes
from authly.audit.service import AuditLog
from authly.oauth.client_service import ClientService
from authly.oauth.consent_service import ConsentService
from authly.oauth.scope_service import ScopeService
from authly.sessions.service import SessionService
from authly.tokens.service import TokenService
from authly.users.service import UserService


def install(
    app: FastAPI,
    access: AdminAccess,
    administration: AdministrationService,
    *,
    clients: ClientService,
    scopes: ScopeService,
    users: UserService,
    sessions: SessionService,
    tokens: TokenService,
    consents: ConsentService,
    audit: AuditLog,
) -> None:
    """Add the administration interface to an application.

    Args:
        app: the application.
        access: knows who may call it.
        administration: does what concerns several of these at once.
        clients: which there are.
        scopes: which there are.
        users: who there is.
        sessions: who is logged in.
        tokens: what clients hold.
        consents: what users allowed.
        audit: what happened.
    """
    add_routes(
        app,
        clients_router(clients, access),
        scopes_router(scopes, access),
        users_router(users, administration, access),
        sessions_router(sessions, administration, access),
        tokens_router(tokens, administration, access),
        consents_router(consents, access),
        audit_log_router(audit, access),
        statistics_router(administration, access),
    )

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
