"""How routes come into the application."""

from fastapi import APIRouter, FastAPI


def add_routes(app: FastAPI, *routers: APIRouter) -> None:
    """Add the routes of routers to an application as they are.

    FastAPI's ``include_router`` analyses each route a second time when a worker starts, and has requests look for
    theirs in a tree of routers. It is for routers that are to be changed on the way: by a prefix, tags or dependencies.

    Args:
        app: the application.
        routers: complete ones, in the order in which requests shall look for their route.
    """
    for router in routers:
        app.router.routes.extend(router.routes)
