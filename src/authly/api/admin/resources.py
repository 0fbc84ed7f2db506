"""What the routes of all kinds of resources have in common: users, clients, scopes and the others."""

from fastapi import APIRouter

from authly.api.admin.problems import ProblemRoute
from authly.api.admin_middleware import PREFIX


def resource_router(name: str) -> APIRouter:
    """Return a router for one kind of resource, without routes yet.

    Args:
        name: of the resource, as in its path.
    """
    return APIRouter(prefix=f"{PREFIX}v1/{name}", tags=["administration"], route_class=ProblemRoute)
