"""How much there is of everything."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from authly.admin.service import AdministrationService
from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.problems import documented
from authly.api.admin.resources import resource_router


class StatisticsBody(BaseModel):
    """How much there is of everything: users, and what is in force of the rest."""

    users: int
    sessions: int
    clients: int
    access_tokens: int
    refresh_tokens: int


def statistics_router(administration: AdministrationService, access: AdminAccess) -> APIRouter:
    """Return the route of the statistics.

    Args:
        administration: counts.
        access: knows who may.
    """
    router = resource_router("statistics")

    @router.get("", summary="Count what there is", responses=documented())
    async def show_statistics(_: Annotated[Administrator, Depends(access.read)]) -> StatisticsBody:
        return StatisticsBody(**asdict(await administration.statistics()))

    return router
